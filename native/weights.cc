#include "weights.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <set>
#include <utility>

#include "errors.h"

namespace torchbrush {
namespace {

using Files = std::unordered_map<std::string, std::shared_ptr<MappedFile>>;

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

// One term as two float32 matrices; the scale is in the first one.
struct Product {
  at::Tensor up;
  at::Tensor down;
};

at::Tensor ReadFactor(const StoredValues& stored, Files& files) {
  // A copy in any case: in the file it may lie at an odd address.
  return TensorInFile(Open(files, stored.file), stored.offset, stored.type, stored.shape)
      .to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

void RequireFit(bool fits, const std::string& parameter) {
  if (!fits) throw CoreError("ERR_CHECKPOINT", "An update of " + parameter + " does not fit its shape.");
}

Product ReadProduct(const LowRankTerm& term, const WeightUpdate& update, const std::vector<int64_t>& shape,
                    Files& files) {
  at::Tensor up = ReadFactor(term.up, files);
  at::Tensor down = ReadFactor(term.down, files);
  const int64_t rows = shape[0];
  const int64_t columns = c10::multiply_integers(shape) / std::max<int64_t>(rows, 1);
  RequireFit(up.dim() >= 2 && up.size(0) == rows && up.numel() == rows * up.size(1), update.parameter);
  const int64_t rank = up.size(1);
  if (term.middle) {
    const at::Tensor middle = ReadFactor(*term.middle, files);
    RequireFit(middle.dim() == 4 && middle.size(0) == rank && down.dim() >= 2 &&
                   middle.size(1) == down.size(0) && down.numel() == down.size(0) * down.size(1),
               update.parameter);
    const at::Tensor spread = middle.permute({0, 2, 3, 1}).matmul(down.flatten(1));
    down = spread.permute({0, 3, 1, 2}).contiguous();
  }
  RequireFit(down.dim() >= 2 && down.size(0) == rank && down.numel() == rank * columns, update.parameter);
  return {up.flatten(1).mul_(term.scale), down.flatten(1)};
}

// base + Σ up·down, summed in float32, block by block so that a block stays in the cache.
at::Tensor AddProducts(const at::Tensor& base, const std::vector<Product>& products, at::ScalarType type) {
  at::Tensor result = at::empty(base.sizes(), base.options().dtype(type));
  PreferLargePages(result);
  const at::Tensor from = base.flatten(1);
  const at::Tensor to = result.flatten(1);
  constexpr int64_t kBlockElements = 1 << 16;
  const int64_t step = std::max<int64_t>(1, kBlockElements / std::max<int64_t>(from.size(1), 1));
  at::parallel_for(0, from.size(0), step, [&](int64_t begin, int64_t end) {
    c10::InferenceMode inference;  // Belongs to the thread.
    for (int64_t row = begin; row < end; row += step) {
      const int64_t rows = std::min(step, end - row);
      const at::Tensor target = to.narrow(0, row, rows);
      at::Tensor sum = type == at::kFloat ? target : at::empty(target.sizes(), at::kFloat);
      sum.copy_(from.narrow(0, row, rows));
      for (const auto& product : products) sum.addmm_(product.up.narrow(0, row, rows), product.down);
      if (type != at::kFloat) target.copy_(sum);
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
  std::vector<Weight*> targets;
  std::vector<std::vector<Product>> products;
  for (const auto& update : updates) {
    Weight& weight = Find(update.parameter);
    weight.file->RequireUnchanged();
    targets.push_back(&weight);
    auto& terms = products.emplace_back();
    for (const auto& term : update.terms) {
      RequireFit(weight.stored.shape.size() >= 2, update.parameter);
      terms.push_back(ReadProduct(term, update, weight.stored.shape, files));
    }
  }
  try {
    for (size_t i = 0; i < targets.size(); ++i) {
      if (stop) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
      Weight& weight = *targets[i];
      if (products[i].empty()) {
        Restore(weight);
        continue;
      }
      const at::Tensor base = Mapped(weight);
      Set(weight, at::Tensor(), false);  // Its memory serves the new one.
      Set(weight, AddProducts(base, products[i], type_).to(device_), false);
      ForgetPages(base);
      products[i].clear();
    }
  } catch (...) {
    for (Weight* weight : targets) Restore(*weight);
    throw;
  }
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
  const auto& [file, offset, type, shape] = weight.stored;
  return TensorInFile(weight.file, offset, type, shape);
}

void Weights::Set(Weight& weight, at::Tensor tensor, bool mapped) {
  if (weight.packed) {
    weight.packed->Set(std::move(tensor), mapped);
  } else {
    fixed_[~weight.place] = std::move(tensor);
  }
}

void Weights::Restore(Weight& weight) {
  const at::Tensor base = Mapped(weight);
  const bool floating = base.is_floating_point();
  if (!device_.is_cpu() || (floating && weight.stored.type != type_)) {
    Set(weight, floating ? base.to(device_, type_) : base.to(device_), false);
    ForgetPages(base);
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
