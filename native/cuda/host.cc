// The companion of the tests: the same kernels, run on the host, and "recordings" that call the work
// again. With it everything but the GPU itself can be tried without one.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "calls.h"
#include "kernels.h"

namespace torchbrush::kernels {
namespace {

template <class Kernel>
void Launch(const Kernel& kernel, const Grid& grid, Stream) {
  auto shared = std::make_unique<typename Kernel::Shared>();
  Place place{};
  for (place.z = 0; place.z < grid.z; ++place.z) {
    for (place.y = 0; place.y < grid.y; ++place.y) {
      for (place.x = 0; place.x < grid.x; ++place.x) {
        // No block may count on what another left.
        memset(static_cast<void*>(shared.get()), 0xff, sizeof(*shared));
        for (int phase = 0; phase < Kernel::kPhases; ++phase) {
          for (place.thread = 0; place.thread < kThreads; ++place.thread) kernel.Phase(phase, place, *shared);
        }
      }
    }
  }
}

}  // namespace
}  // namespace torchbrush::kernels

#include "start.h"

namespace torchbrush {

Target TargetOf(c10::Device) { return {nullptr, 16}; }

namespace {

class Repetition : public Recording {
 public:
  explicit Repetition(std::function<void()> work) : work_(std::move(work)) {}
  void Replay() override { work_(); }

 private:
  std::function<void()> work_;
};

int Capability(c10::Device) { return Companion::kLeastCapability; }

std::shared_ptr<void> MakePool(c10::Device) { return std::make_shared<int>(0); }

std::unique_ptr<Recording> Record(c10::Device, std::shared_ptr<void>, const std::function<void()>& work) {
  TORCH_CHECK(getenv("TORCHBRUSH_HOST_RECORDING_FAILS") == nullptr, "Recording was told to fail.");
  work();
  return std::make_unique<Repetition>(work);
}

}  // namespace
}  // namespace torchbrush

extern "C" __attribute__((visibility("default"))) const torchbrush::Companion* torchbrush_companion() {
  using namespace torchbrush;
  static const Companion companion{Companion::kVersion, c10::kCPU, Capability, GroupNorm, Geglu,    AddBias,
                                   LinearCombination,   nullptr,   nullptr,    nullptr,   MakePool, Record};
  return &companion;
}
