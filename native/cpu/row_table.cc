#include "row_table.h"

#include <algorithm>
#include <utility>

namespace torchbrush {

void RowTable::Set(WeightValues values) {
  values_ = std::make_unique<WeightValues>(std::move(values));
  replaced_.reset();
}

void RowTable::Replace(int64_t first, at::Tensor rows) {
  first_ = first;
  replaced_ = std::move(rows);
}

at::Tensor RowTable::LookUp(const at::Tensor& indices) const {
  values_->RequireUnchanged();
  const at::Tensor places = indices.to(at::kLong).contiguous();
  const int64_t end = replaced_.defined() ? first_ + replaced_.size(0) : 0;
  const int64_t length = std::max(values_->rows(), end);
  std::vector<int64_t> shape = indices.sizes().vec();
  shape.push_back(values_->columns());
  at::Tensor result = at::empty(shape, at::TensorOptions().dtype(values_->type()));
  const at::Tensor rows = result.view({places.numel(), values_->columns()});
  const int64_t* index = places.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < places.numel(); ++i) {
    TORCH_CHECK_INDEX(index[i] >= 0 && index[i] < length, "index ", index[i],
                      " is outside an embedding table of ", length, " rows");
    const at::Tensor target = rows.narrow(0, i, 1);
    if (index[i] >= first_ && index[i] < end) {
      target.copy_(replaced_.narrow(0, index[i] - first_, 1));
    } else {
      values_->ReadRows(index[i], target);
    }
  }
  return result;
}

RowTables UseRowTables(std::vector<Instruction>& instructions, const std::set<ValueRef>& parameters) {
  std::set<ValueRef> others;
  for (const auto& instruction : instructions) {
    for (size_t i = 0; i < instruction.inputs.size(); ++i) {
      const bool table = instruction.name == "aten::embedding" && i == 0;
      if (!table) others.insert(instruction.inputs[i]);
    }
  }
  RowTables tables;
  for (auto& instruction : instructions) {
    if (instruction.name != "aten::embedding") continue;
    const ValueRef place = instruction.inputs[0];
    if (parameters.count(place) == 0 || others.count(place) != 0) continue;
    auto& table = tables[place];
    if (!table) table = std::make_shared<RowTable>();
    instruction.run = [table](torch::jit::Stack& stack) {
      at::Tensor rows = table->LookUp(stack[1].toTensor());
      stack.clear();
      stack.emplace_back(std::move(rows));
    };
  }
  return tables;
}

}  // namespace torchbrush
