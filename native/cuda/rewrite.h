// Puts a companion's kernels into an instruction list. Part of the core: it links no CUDA.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "../program.h"
#include "../reuse.h"
#include "companion.h"

namespace torchbrush {

// Whether convolutions may try their algorithms at the first use of a shape. Shared by a network and its
// instructions.
using TuneFlag = std::shared_ptr<std::atomic<bool>>;

// The program's instructions for a device, with what the companion has kernels for put together:
//   [convolution's bias, + per-channel addend] → group_norm → [silu]
//   chunk → gelu → mul;  add of a convolution with its bias;  attention without a mask
// What is no longer needed stays in the list; plans leave it out. `fixed` may grow.
std::vector<Instruction> RewriteFor(const Program& program, const Companion& companion,
                                    std::vector<c10::IValue>& fixed, const TuneFlag& tune);

// The same, with what can be remembered between runs, where the device has a companion; else the
// program's own.
std::vector<Instruction> InstructionsFor(const Program& program, c10::Device device,
                                         std::vector<c10::IValue>& fixed, const TuneFlag& tune, Reuse& reuse);

}  // namespace torchbrush
