// Convolutions and linears through oneDNN with weights in its own layout.
#pragma once

#include <ATen/ATen.h>

#include <set>
#include <vector>

#include "../program.h"

namespace torchbrush {

// Whether oneDNN has kernels for the dtype on this processor.
bool CanPack(at::ScalarType type);

// Weights of convolutions and linear layers that are parameters and used nowhere else.
std::set<ValueRef> PackableWeights(const std::vector<Instruction>& instructions,
                                   const std::vector<c10::IValue>& fixed);

// Replaces the operators of the packable weights. A weight is packed at its first use and the plain
// one is let go then; where that one is mapped from a file, its pages are forgotten too.
void UsePackedOperators(std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed,
                        const std::set<ValueRef>& packable, const std::set<ValueRef>& mapped);

}  // namespace torchbrush
