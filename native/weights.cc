#include "weights.h"

#include <ATen/Parallel.h>
#include <malloc.h>

#include <algorithm>
#include <set>
#include <utility>

#include "errors.h"

namespace torchbrush {
namespace {

std::shared_ptr<MappedFile> Open(Files& files, const std::string& path) {
  auto& file = files[path];
  if (!file) file = std::make_shared<MappedFile>(path);
  return file;
}

// Rows of embeddings are copied out as bytes, so their tables need no alignment.
std::set<ValueRef> EmbeddingTables(const std::vector<Instruction>& instructions) {
  std::set<ValueRef> tables;
  std::set<ValueRef> others;
  for (const auto& instruction : instructions) {
    for (size_t i = 0; i < instruction.inputs.size(); ++i) {
      const bool table = instruction.name == "aten::embedding" && i == 0;
      (table ? tables : others).insert(instruction.inputs[i]);
    }
  }
  for (const ValueRef other : others) tables.erase(other);
  return tables;
}

// The C library keeps what was freed for later; between two weights of one size that is welcome.
void ReturnFreeMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// One term as two float32 matrices; the scale is in the first one.
struct Product {
  at::Tensor up;
  at::Tensor down;
};

at::Tensor ReadFactor(const StoredValues& stored, const Files& files) {
  const auto& file = files.at(stored.file);
  const at::Tensor place = TensorInFile(file, stored.offset, stored.type, stored.shape, stored.strides);
  if (!stored.strides.empty()) return place.to(at::kFloat).contiguous();
  // Read, not looked at where it lies: the file may have become shorter since it was mapped.
  at::Tensor values = at::empty(place.sizes(), place.options());
  file->Read(stored.offset, values.nbytes(), values.data_ptr());
  return values.to(at::kFloat);
}

void RequireFit(bool fits, const std::string& parameter) {
  if (!fits) throw CoreError("ERR_CHECKPOINT", "An update of " + parameter + " does not fit its shape.");
}

int64_t SizeOf(const std::vector<int64_t>& shape) { return c10::multiply_integers(shape); }

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
  return {up, down};
}

// The same for a base that does not lie in a row.
at::Tensor AddProductsTo(const at::Tensor& base, const std::vector<Product>& products, at::ScalarType type) {
  const at::Tensor sum = base.to(at::kFloat, false, true).contiguous();
  for (const auto& product : products) sum.flatten(1).addmm_(product.up, product.down);
  return sum.to(type);
}

// base + Σ up·down, summed in float32, block by block so that a block stays in the cache. The base
// is read rather than mapped: faulting its pages in would take longer than the sum.
at::Tensor AddProducts(const MappedFile& file, const StoredValues& base, const std::vector<Product>& products,
                       at::ScalarType type) {
  at::Tensor result = at::empty(base.shape, at::TensorOptions().dtype(type));
  PreferLargePages(result);
  const at::Tensor flat = result.flatten(1);
  const int64_t columns = std::max<int64_t>(flat.size(1), 1);
  const uint64_t row_bytes = columns * c10::elementSize(base.type);
  constexpr int64_t kBlockElements = 1 << 16;
  constexpr int64_t kLeastRows = 32;  // With fewer, most of the time goes into reading `down`.
  const int64_t step = std::max(kLeastRows, kBlockElements / columns);
  at::parallel_for(0, flat.size(0), step, [&](int64_t begin, int64_t end) {
    c10::InferenceMode inference;  // Belongs to the thread.
    for (int64_t row = begin; row < end; row += step) {
      const int64_t rows = std::min(step, end - row);
      const at::Tensor target = flat.narrow(0, row, rows);
      const bool direct = type == at::kFloat && base.type == at::kFloat;
      at::Tensor sum = direct ? target : at::empty(target.sizes(), at::TensorOptions().dtype(base.type));
      file.Read(base.offset + row * row_bytes, sum.nbytes(), sum.data_ptr());
      sum = sum.to(at::kFloat);
      for (const auto& product : products) sum.addmm_(product.up.narrow(0, row, rows), product.down);
      if (!direct) target.copy_(sum);
    }
  });
  return result;
}

}  // namespace

Weights::Weights(const Program& program, const std::vector<Placement>& placements, c10::Device device,
                 at::ScalarType type, std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed)
    : device_(device), type_(type), fixed_(fixed) {
  const bool pack = device.is_cpu() && CanPack(type);
  auto packed = pack ? UsePackedOperators(instructions, fixed) : PackedWeights();
  const std::set<ValueRef> tables = EmbeddingTables(instructions);
  std::unordered_map<std::string, const Parameter*> open;
  for (const auto& parameter : program.parameters) open[parameter.name] = &parameter;
  Files files;
  for (const auto& [name, values] : placements) {
    const auto found = open.find(name);
    if (found == open.end()) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + name + " is unknown or filled twice.");
    }
    const Parameter& parameter = *found->second;
    open.erase(found);
    if (values.shape != parameter.shape) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + name + " has another shape.");
    }
    const auto holder = packed.find(parameter.place);
    Weight weight{parameter.place, Open(files, values.file), values, tables.count(parameter.place) != 0,
                  holder == packed.end() ? nullptr : holder->second};
    Restore(weights_.emplace(name, std::move(weight)).first->second);
  }
  if (!open.empty()) {
    throw CoreError("ERR_CHECKPOINT", "Parameter " + open.begin()->first + " was not filled.");
  }
}

void Weights::Update(const std::vector<WeightUpdate>& updates, const std::atomic<bool>& stop) {
  Files files;
  for (const auto& [parameter, terms] : updates) {
    const Weight& weight = Find(parameter);
    weight.file->RequireUnchanged();
    for (const auto& term : terms) {
      CheckTerm(term, parameter, weight.stored.shape);
      for (const auto& factor : {term.up, term.down}) Open(files, factor.file);
      if (term.middle) Open(files, term.middle->file);
    }
  }
  try {
    ChangeAll(updates, files, stop);
  } catch (...) {
    for (const auto& update : updates) Restore(Find(update.parameter));
    throw;
  }
  ReturnFreeMemory();
}

// Each thread takes the next weight and sees to it alone: so the reading of factors and the system's
// work on fresh and on freed memory are shared like the sums.
void Weights::ChangeAll(const std::vector<WeightUpdate>& updates, const Files& files,
                        const std::atomic<bool>& stop) {
  std::atomic<size_t> next = 0;
  const int64_t threads = device_.is_cpu() ? at::get_num_threads() : 1;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    c10::InferenceMode inference;  // Belongs to the thread.
    for (size_t i = next++; i < updates.size(); i = next++) {
      if (stop) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
      Change(Find(updates[i].parameter), updates[i].terms, files);
    }
  });
}

void Weights::Change(Weight& weight, const std::vector<LowRankTerm>& terms, const Files& files) {
  if (terms.empty()) {
    Restore(weight);
    return;
  }
  std::vector<Product> products;
  for (const auto& term : terms) products.push_back(ReadProduct(term, files));
  Set(weight, at::Tensor(), false);  // Its memory serves the new one.
  const at::Tensor sum = weight.stored.strides.empty()
                             ? AddProducts(*weight.file, weight.stored, products, type_)
                             : AddProductsTo(Mapped(weight), products, type_);
  Set(weight, sum.to(device_), false);
}

void Weights::ReplaceRows(const std::string& parameter, int64_t first, const at::Tensor& rows) {
  Weight& weight = Find(parameter);
  const at::Tensor base = Mapped(weight);
  RequireFit(rows.dim() == 2 && base.dim() == 2 && rows.size(1) == base.size(1) && first >= 0 &&
                 first <= base.size(0),
             parameter);
  const int64_t length = std::max(base.size(0), first + rows.size(0));
  at::Tensor table = at::empty({length, base.size(1)}, base.options().dtype(type_));
  table.narrow(0, 0, base.size(0)).copy_(base);
  table.narrow(0, first, rows.size(0)).copy_(rows);
  ForgetPages(base);
  Set(weight, table.to(device_), false);
}

Weights::Weight& Weights::Find(const std::string& parameter) {
  const auto found = weights_.find(parameter);
  if (found != weights_.end()) return found->second;
  throw CoreError("ERR_CHECKPOINT", "The network has no parameter " + parameter + ".");
}

at::Tensor Weights::Mapped(const Weight& weight) const {
  weight.file->RequireUnchanged();
  const auto& [file, offset, type, shape, strides] = weight.stored;
  return TensorInFile(weight.file, offset, type, shape, strides);
}

void Weights::Set(Weight& weight, at::Tensor tensor, bool mapped) {
  if (weight.packed) {
    weight.packed->Set(std::move(tensor), mapped);
  } else {
    // cuDNN's fast convolutions take kernels in this layout.
    const bool kernel = device_.is_cuda() && tensor.defined() && tensor.dim() == 4;
    if (kernel) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
    fixed_[~weight.place] = std::move(tensor);
  }
}

void Weights::Restore(Weight& weight) {
  const at::Tensor stored = Mapped(weight);
  const at::Tensor base = stored.contiguous();  // A copy only where the values do not lie in a row.
  const bool mapped = base.is_same(stored);
  const bool floating = base.is_floating_point();
  if (!device_.is_cpu() || (floating && weight.stored.type != type_)) {
    Set(weight, floating ? base.to(device_, type_) : base.to(device_), false);
    if (mapped) ForgetPages(base);
  } else if (!mapped) {
    Set(weight, base, false);
  } else if (weight.packed || weight.is_table ||
             IsAligned(*weight.file, weight.stored.offset, weight.stored.type)) {
    // Packing reads it once, byte by byte as it were, so it may stay where it is.
    Set(weight, base, true);
  } else {
    Set(weight, base.clone(), false);
    ForgetPages(base);
  }
}

}  // namespace torchbrush
