// What a weight is: the base values in a checkpoint file plus low-rank products, read and summed
// anew whenever they are needed.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "weight_file.h"

namespace torchbrush {

using Files = std::unordered_map<std::string, std::shared_ptr<WeightFile>>;

// scale · up · down, where up is [O,R] and down is [R,K] once trailing sizes are flattened. With a
// middle [R,S,h,w], down is [S,I] and the product is the kernel of three convolutions in a row.
struct LowRankTerm {
  StoredValues up;
  StoredValues down;
  std::optional<StoredValues> middle;
  double scale;
};

// Throws ERR_CHECKPOINT where the term is none for a weight of this shape.
void CheckTerm(const LowRankTerm& term, const std::string& parameter, const std::vector<int64_t>& shape);

void RequireFit(bool fits, const std::string& parameter);

// One term as two float32 matrices; the scale is in the first one.
struct Product {
  at::Tensor up;
  at::Tensor down;
};

Product ReadProduct(const LowRankTerm& term, const Files& files);

// Memory that is used again and again: fresh memory costs more than what is done with it.
class Scratch {
 public:
  // Uninitialised, good until the next call.
  at::Tensor Lend(at::IntArrayRef shape, at::ScalarType type);
  void Release() { bytes_.reset(); }

 private:
  at::Tensor bytes_;
};

// base + Σ up·down in a network's dtype, summed in float32. Whole-number weights stay as they are.
class WeightValues {
 public:
  WeightValues(std::shared_ptr<const WeightFile> file, StoredValues base, std::vector<Product> products,
               at::ScalarType type);

  at::ScalarType type() const { return type_; }
  // A row is what one index of the first dimension has.
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  // Whether rows can be read by themselves: they lie one behind the other.
  bool ByRows() const { return base_.strides.empty(); }

  // Throws ERR_CHECKPOINT where the file has changed.
  void RequireUnchanged() const { file_->RequireUnchanged(); }

  // Rows from `first` on, into [n, columns] of this dtype.
  void ReadRows(int64_t first, const at::Tensor& into) const;

  // All of it, in the weight's shape and memory of its own, or in memory that the scratch lends.
  at::Tensor Read() const;
  at::Tensor Read(Scratch& scratch) const;

 private:
  void Fill(const at::Tensor& whole) const;
  // To float32 rows from `first` on.
  void AddProducts(int64_t first, const at::Tensor& sum) const;

  std::shared_ptr<const WeightFile> file_;
  StoredValues base_;
  std::vector<Product> products_;
  at::ScalarType type_;
  int64_t rows_;
  int64_t columns_;
};

}  // namespace torchbrush
