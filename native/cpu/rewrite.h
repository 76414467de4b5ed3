// Puts faster instructions in the place of those of a program, for the CPU.
#pragma once

#include <ATen/core/ivalue.h>

#include <vector>

#include "../program.h"

namespace torchbrush {

// Normalisations with what comes before and after them, gated activations and attention become operators
// of our own; copies that nothing needs go. Runs before weights are packed.
void UseFusedOperators(const Program& program, std::vector<Instruction>& instructions,
                       const std::vector<c10::IValue>& fixed, at::ScalarType type);

}  // namespace torchbrush
