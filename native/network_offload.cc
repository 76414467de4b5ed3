// What networks do about weights that are not always on their device.
#include <utility>

#include "core.h"
#include "network.h"
#include "run_memory.h"

namespace torchbrush {

std::unique_ptr<WeightPass> Network::BringWeights(Plan& plan) {
  Residence* residence = weights_.residence();
  if (residence == nullptr) return nullptr;
  if (!plan.arrivals) {
    std::vector<std::vector<ValueRef>> uses;
    for (const auto& step : plan.steps) uses.push_back(step.inputs);
    uses.push_back(plan.outputs);
    plan.arrivals = std::make_unique<const Schedule>(residence->Groups(uses));
  }
  const RunMemory::Pause pause;  // Weights that stay outlive the run.
  return residence->Begin(*plan.arrivals);
}

// setOffload('none' | 'model' | 'sequential'): promise. Takes its turn among the runs.
Napi::Value NetworkHandle::SetOffload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    const Offload offload = ParseOffload(info[0].As<Napi::String>());
    return Core::Of(env).Submit<bool>(
        network_->device(),
        [network = network_, offload] {
          network->weights().SetOffload(offload);
          return true;
        },
        [](Napi::Env inner, bool&&) -> Napi::Value { return inner.Undefined(); });
  });
}

// leave(): promise. Weights that are offloaded go from the device until they are needed again.
Napi::Value NetworkHandle::Leave(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    return Core::Of(env).Submit<bool>(
        network_->device(),
        [network = network_] {
          Residence* residence = network->weights().residence();
          if (residence != nullptr) residence->Leave();
          return true;
        },
        [](Napi::Env inner, bool&&) -> Napi::Value { return inner.Undefined(); });
  });
}

}  // namespace torchbrush
