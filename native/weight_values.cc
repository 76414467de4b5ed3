#include "weight_values.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "cpu/low_rank.h"
#include "errors.h"

namespace torchbrush {
namespace {

int64_t SizeOf(const std::vector<int64_t>& shape) { return c10::multiply_integers(shape); }

at::Tensor ReadFactor(const StoredValues& stored, const Files& files) {
  return files.at(stored.file)->Read(stored).to(at::kFloat).contiguous();
}

}  // namespace

void RequireFit(bool fits, const std::string& parameter) {
  if (!fits) throw CoreError("ERR_CHECKPOINT", "An update of " + parameter + " does not fit its shape.");
}

void CheckTerm(const LowRankTerm& term, const std::string& parameter, const std::vector<int64_t>& shape) {
  const auto& up = term.up.shape;
  const auto& down = term.down.shape;
  RequireFit(shape.size() >= 2 && up.size() >= 2 && down.size() >= 2 && shape[0] > 0, parameter);
  const int64_t rank = up[1];
  RequireFit(up[0] == shape[0] && rank > 0 && SizeOf(up) == shape[0] * rank, parameter);
  int64_t columns = SizeOf(down) / std::max<int64_t>(down[0], 1);
  if (term.middle) {
    const auto& middle = term.middle->shape;
    RequireFit(middle.size() == 4 && middle[0] == rank && middle[1] == down[0], parameter);
    columns *= middle[2] * middle[3];
  } else {
    RequireFit(down[0] == rank, parameter);
  }
  RequireFit(columns == SizeOf(shape) / shape[0], parameter);
}

Product ReadProduct(const LowRankTerm& term, const Files& files) {
  const at::Tensor up = ReadFactor(term.up, files).flatten(1).mul_(term.scale);
  at::Tensor down = ReadFactor(term.down, files).flatten(1);
  if (term.middle) {
    const at::Tensor middle = ReadFactor(*term.middle, files);
    const at::Tensor spread = middle.permute({0, 2, 3, 1}).matmul(down);
    down = spread.permute({0, 3, 1, 2}).flatten(1);
  }
  return {up.contiguous(), down.contiguous()};
}

at::Tensor Scratch::Lend(at::IntArrayRef shape, at::ScalarType type) {
  const auto bytes = static_cast<int64_t>(c10::multiply_integers(shape) * c10::elementSize(type));
  if (!bytes_.defined() || bytes_.numel() < bytes) {
    bytes_.reset();  // Before the larger one comes.
    bytes_ = at::empty({bytes}, at::kByte);
  }
  return bytes_.narrow(0, 0, bytes).view(type).view(shape);
}

WeightValues::WeightValues(std::shared_ptr<const WeightFile> file, StoredValues base,
                           std::vector<Product> products, at::ScalarType type)
    : file_(std::move(file)),
      base_(std::move(base)),
      products_(std::move(products)),
      type_(c10::isFloatingType(base_.type) ? type : base_.type),
      rows_(base_.shape.empty() ? 1 : base_.shape[0]),
      columns_(rows_ == 0 ? 0 : SizeOf(base_.shape) / rows_) {
  file_->RequireInside(base_);
}

void WeightValues::ReadRows(int64_t first, const at::Tensor& into) const {
  const bool direct = type_ == base_.type && (products_.empty() || type_ == at::kFloat);
  at::Tensor sum = direct ? into : at::empty(into.sizes(), at::TensorOptions().dtype(base_.type));
  const uint64_t row_bytes = columns_ * c10::elementSize(base_.type);
  file_->Read(base_.offset + first * row_bytes, sum.nbytes(), sum.data_ptr());
  if (!products_.empty()) sum = sum.to(at::kFloat);
  AddProducts(first, sum);
  if (!direct) into.copy_(sum);
}

void WeightValues::AddProducts(int64_t first, const at::Tensor& sum) const {
  for (const auto& [up, down] : products_) {
    const int64_t rank = up.size(1);
    AddLowRank(sum.data_ptr<float>(), up.const_data_ptr<float>() + first * rank, down.const_data_ptr<float>(),
               sum.size(0), rank, columns_);
  }
}

at::Tensor WeightValues::Read() const {
  const at::Tensor whole = at::empty(base_.shape, at::TensorOptions().dtype(type_));
  Fill(whole);
  return whole;
}

at::Tensor WeightValues::Read(Scratch& scratch) const {
  const at::Tensor whole = scratch.Lend(base_.shape, type_);
  Fill(whole);
  return whole;
}

void WeightValues::Fill(const at::Tensor& whole) const {
  file_->RequireUnchanged();
  if (!ByRows()) {
    const at::Tensor base = file_->Read(base_);
    if (products_.empty()) {
      whole.copy_(base);
      return;
    }
    const at::Tensor sum = base.to(at::kFloat, false, true).contiguous();
    AddProducts(0, sum);
    whole.copy_(sum);
    return;
  }
  if (whole.numel() == 0) return;
  const at::Tensor flat = whole.view({rows_, columns_});
  constexpr int64_t kBlockElements = 1 << 16;  // Stays in the cache.
  constexpr int64_t kLeastRows = 32;           // With fewer, most of the time goes into reading `down`.
  const int64_t step = std::max(kLeastRows, kBlockElements / columns_);
  at::parallel_for(0, rows_, step, [&](int64_t begin, int64_t end) {
    c10::InferenceMode inference;  // Belongs to the thread.
    for (int64_t row = begin; row < end; row += step) {
      ReadRows(row, flat.narrow(0, row, std::min(step, end - row)));
    }
  });
}

}  // namespace torchbrush
