// Packed float32 weights that take half the memory between their uses.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "../weight_values.h"
#include "packed_layout.h"

namespace torchbrush {

// Whether networks of this dtype are computed in float32 on this processor. Without products of bfloat16,
// libtorch's own convolutions and matrix products of it take many times as long as those of float32. So the
// dtype says how weights are kept there and what goes in and out.
bool ComputesInFloat32(at::ScalarType type);

// A packed weight rounded to bfloat16.
struct NarrowWeight {
  at::Tensor values;   // [n], as the packed weight's memory has them.
  at::Tensor carrier;  // oneDNN's tensor that they are widened into; undefined for layouts of our own.
  at::Tensor memory;   // The carrier's.
};

// The narrow weights of one network, of which one at a time is wide.
class NarrowWeights {
 public:
  // `scratch` lends the memory.
  explicit NarrowWeights(std::shared_ptr<Scratch> scratch) : scratch_(std::move(scratch)) {}

  // What is kept of `packed` with `sizes`, those of the plain weight. Undefined values where oneDNN's layout
  // was not recognised: such a weight has to stay wide.
  NarrowWeight Keep(const Packed& packed, at::IntArrayRef sizes);

  // The packed weight again, good until the next call.
  at::Tensor Widen(const NarrowWeight& weight) const;

 private:
  // oneDNN's tensors can't be made over given memory. Weights of one layout share one.
  struct Carrier {
    std::vector<int64_t> sizes;
    std::unique_ptr<PackedLayout> layout;
    at::Tensor tensor;
    at::Tensor memory;
  };

  std::shared_ptr<Scratch> scratch_;
  std::vector<Carrier> carriers_;
};

}  // namespace torchbrush
