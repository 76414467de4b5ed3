// Recorded runs of a network, and what JavaScript asks of them.
#include "core.h"
#include "cuda/open.h"
#include "network.h"

namespace torchbrush {

std::vector<at::Tensor> Network::Answer(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                                        const std::atomic<bool>& stop) {
  const auto graphs = graphs_.load();
  // Weights that come and go have no addresses to record.
  if (!graphs || weights_.residence() != nullptr) return Run(std::move(inputs), outputs, stop);
  return graphs->Answer(std::move(inputs), outputs, [this, outputs, &stop](std::vector<at::Tensor> given) {
    return Run(std::move(given), outputs, stop);
  });
}

bool Network::UseGraphs(const std::shared_ptr<void>& pool, size_t limit) {
  const Companion* companion = CompanionOf(device_);
  if (companion == nullptr || companion->record == nullptr || !pool) return false;
  if (limit > 0 && !graphs_.load())
    graphs_ = std::make_shared<Graphs>(*companion, device_, pool, reuse_, limit);
  *tune_ = true;
  return true;
}

GraphStatus Network::graph_status() const {
  const auto graphs = graphs_.load();
  return graphs ? graphs->status() : GraphStatus();
}

Weights& Network::weights() {
  if (const auto graphs = graphs_.load()) graphs->Clear();
  return weights_;
}

// useGraphs(limit): promise of whether the device can record.
Napi::Value NetworkHandle::UseGraphs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    const auto limit = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
    Core& core = Core::Of(env);
    return core.Submit<bool>(
        network_->device(),
        [network = network_, limit, pool = core.GraphPoolOf(network_->device())] {
          return network->UseGraphs(pool, limit);
        },
        [](Napi::Env inner, bool&& can) -> Napi::Value { return Napi::Boolean::New(inner, can); });
  });
}

// graphStatus(): { held, recorded, replayed, eager, fault }.
Napi::Value NetworkHandle::GraphStatus(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    const auto status = network_->graph_status();
    auto result = Napi::Object::New(env);
    result.Set("held", static_cast<double>(status.held));
    result.Set("recorded", static_cast<double>(status.recorded));
    result.Set("replayed", static_cast<double>(status.replayed));
    result.Set("eager", static_cast<double>(status.eager));
    result.Set("fault", status.fault);
    return result;
  });
}

}  // namespace torchbrush
