// Embedding tables that stay in their file: a prompt needs 77 rows of 49,408.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "../program.h"
#include "../weight_values.h"

namespace torchbrush {

class RowTable {
 public:
  void Set(WeightValues values);

  // Other rows from `first` on; those beyond the end make the table longer. None of them any more
  // where `rows` is undefined.
  void Replace(int64_t first, at::Tensor rows);

  // The rows of the indices, as aten::embedding gives them.
  at::Tensor LookUp(const at::Tensor& indices) const;

 private:
  std::unique_ptr<WeightValues> values_;
  int64_t first_ = 0;
  at::Tensor replaced_;
};

using RowTables = std::map<ValueRef, std::shared_ptr<RowTable>>;

// Replaces the look-ups in parameters that are used for nothing else. Gives the tables, still empty,
// by the places that they replace.
RowTables UseRowTables(std::vector<Instruction>& instructions, const std::set<ValueRef>& parameters);

}  // namespace torchbrush
