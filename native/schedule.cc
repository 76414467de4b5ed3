#include "schedule.h"

#include <algorithm>

namespace torchbrush {

Schedule MakeSchedule(const std::vector<std::vector<ValueRef>>& uses,
                      const std::function<int64_t(ValueRef)>& bytes_of, int64_t group_bytes) {
  Schedule schedule;
  int64_t bytes = 0;
  for (size_t step = 0; step < uses.size(); ++step) {
    std::vector<ValueRef> fresh;
    int64_t fresh_bytes = 0;
    const auto has = [](const std::vector<ValueRef>& places, ValueRef place) {
      return std::find(places.begin(), places.end(), place) != places.end();
    };
    for (const ValueRef place : uses[step]) {
      const int64_t size = bytes_of(place);
      if (size == 0 || has(fresh, place) || (!schedule.empty() && has(schedule.back().places, place)))
        continue;
      fresh.push_back(place);
      fresh_bytes += size;
    }
    if (fresh.empty()) continue;
    if (schedule.empty() || bytes + fresh_bytes > group_bytes) {
      // All that the step takes must be there, what the group before had as well.
      schedule.push_back({step, {}});
      fresh.clear();
      fresh_bytes = 0;
      for (const ValueRef place : uses[step]) {
        if (bytes_of(place) == 0 || has(fresh, place)) continue;
        fresh.push_back(place);
        fresh_bytes += bytes_of(place);
      }
      bytes = 0;
    }
    auto& places = schedule.back().places;
    places.insert(places.end(), fresh.begin(), fresh.end());
    bytes += fresh_bytes;
  }
  return schedule;
}

}  // namespace torchbrush
