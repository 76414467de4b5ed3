// In which groups the weights of a plan come to the device.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "program.h"

namespace torchbrush {

// Weights that are used one behind the other, from a step on until the next group's first step.
struct WeightGroup {
  size_t first_step;
  std::vector<ValueRef> places;
};

using Schedule = std::vector<WeightGroup>;

// Groups of at most `group_bytes`, or of one step that needs more. `uses` has the fixed values that
// each step takes; `bytes_of` is 0 for those that are no weights.
Schedule MakeSchedule(const std::vector<std::vector<ValueRef>>& uses,
                      const std::function<int64_t(ValueRef)>& bytes_of, int64_t group_bytes);

}  // namespace torchbrush
