// Convolutions and linears through oneDNN with weights in its own layout.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "../program.h"

namespace torchbrush {

// Replaces aten::conv2d and aten::linear whose weights are parameters used nowhere else. Weights are
// packed at the first run, and the plain ones are let go then.
void UsePackedOperators(std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed,
                        at::ScalarType type);

}  // namespace torchbrush
