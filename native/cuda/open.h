// Finds the companion library of a device. Part of the core: it links no CUDA.
#pragma once

#include <c10/core/Device.h>

#include "companion.h"

namespace torchbrush {

// Null where there is none, or where the GPU is too old for its kernels: then everything goes through
// libtorch's own operators. The library is opened at the first call that concerns its device, and stays.
const Companion* CompanionOf(c10::Device device);

}  // namespace torchbrush
