// Convolutions and linears through oneDNN with weights in its own layout.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "../program.h"
#include "narrow.h"
#include "packed_layout.h"

namespace torchbrush {

// Whether oneDNN has kernels for the dtype on this processor.
bool CanPack(at::ScalarType type);

// A 3×3 convolution with padding 1 by oneDNN alone, to compare others with. The result is thrown away.
std::function<void()> DirectConvolution(const at::Tensor& x, const at::Tensor& weight);

// A weight in the layout of whoever multiplies with it: oneDNN's, or our kernels'. It is packed at its first
// use, and nothing else is kept of it then.
class PackedWeight {
 public:
  // With `narrow`, it is kept in bfloat16 and widened at every use.
  explicit PackedWeight(std::shared_ptr<NarrowWeights> narrow) : narrow_(std::move(narrow)) {}

  // Gives the plain weight, contiguous, in memory that others may use from the next call on.
  using Source = std::function<at::Tensor()>;
  void Set(Source source);

  // The packed weight. `sizes` are the input's: the first ones ever seen pick the layout, whatever
  // weight is set later, so that equal weights always give equal bits.
  using Pack = std::function<Packed(const at::Tensor& plain, at::IntArrayRef sizes)>;
  at::Tensor For(at::IntArrayRef sizes, const Pack& pack);

  // Where other values can be written into the packed weight. Null before it is packed, and where it
  // has to be set and packed anew.
  const PackedRows* layout() const { return packed_.rows.get(); }

  // The plain weight's first size, once it is packed.
  int64_t rows() const { return rows_; }

  bool is_narrow() const { return narrow_ != nullptr; }

 private:
  Source source_;  // Until it is packed.
  Packed packed_;
  NarrowWeight narrow_weight_;  // In the place of the packed one.
  std::shared_ptr<NarrowWeights> narrow_;
  int64_t rows_ = 0;
  std::vector<int64_t> sizes_;
};

using PackedWeights = std::map<ValueRef, std::shared_ptr<PackedWeight>>;

// Replaces the convolutions and linear layers whose weights are parameters and used nowhere else, and
// what only adds something to a convolution together with it.
// Gives the holders of those weights, still empty, by the places that they replace. `narrow` keeps them; null
// where they stay as they are.
PackedWeights UsePackedOperators(const Program& program, std::vector<Instruction>& instructions,
                                 const std::vector<c10::IValue>& fixed,
                                 const std::shared_ptr<NarrowWeights>& narrow);

}  // namespace torchbrush
