// Graphs of the GPU's work.
#pragma once

#include "companion.h"

namespace torchbrush {

std::shared_ptr<void> MakePool(c10::Device device);
std::unique_ptr<Recording> Record(c10::Device device, std::shared_ptr<void> pool,
                                  const std::function<void()>& work);

}  // namespace torchbrush
