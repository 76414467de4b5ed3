// Convolutions and linears through oneDNN with weights in its own layout.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "../program.h"
#include "packed_layout.h"

namespace torchbrush {

// Whether oneDNN has kernels for the dtype on this processor.
bool CanPack(at::ScalarType type);

// A weight in oneDNN's layout. It is packed at its first use, and nothing else is kept of it then.
class PackedWeight {
 public:
  // Gives the plain weight, contiguous, in memory that others may use from the next call on.
  using Source = std::function<at::Tensor()>;
  void Set(Source source);

  // The packed weight. `sizes` are the input's: the first ones ever seen pick the layout, whatever
  // weight is set later, so that equal weights always give equal bits.
  using Pack = std::function<at::Tensor(const at::Tensor& plain, at::IntArrayRef sizes)>;
  const at::Tensor& For(at::IntArrayRef sizes, const Pack& pack);

  // Where other values can be written into the packed weight. Null before it is packed, and where it
  // has to be set and packed anew.
  const PackedLayout* layout() const { return layout_ ? &*layout_ : nullptr; }

 private:
  Source source_;  // Until it is packed.
  at::Tensor packed_;
  std::optional<PackedLayout> layout_;
  std::vector<int64_t> sizes_;
};

using PackedWeights = std::map<ValueRef, std::shared_ptr<PackedWeight>>;

// Replaces the convolutions and linear layers whose weights are parameters and used nowhere else.
// Gives the holders of those weights, still empty, by the places that they replace.
PackedWeights UsePackedOperators(std::vector<Instruction>& instructions,
                                 const std::vector<c10::IValue>& fixed);

}  // namespace torchbrush
