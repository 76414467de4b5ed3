#include "core.h"

#include <ATen/Parallel.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include "cuda/open.h"
#include "devices.h"
#include "foreign.h"
#include "generator.h"
#include "network.h"
#include "ops.h"
#include "program.h"
#include "run_memory.h"
#include "tensor.h"

namespace torchbrush {

Core::Core(Napi::Env env) : env_(env) {
  wake_ = Napi::ThreadSafeFunction::New(
      env, Napi::Function::New(env, [this](const Napi::CallbackInfo& info) { RunCompletions(info.Env()); }),
      "torchbrush", 0, 1);
  wake_.Unref(env);
}

Core::~Core() { Stop(); }

DeviceThread& Core::ThreadOf(c10::Device device) {
  if (stopping_) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
  auto& thread = threads_[device.str()];
  if (!thread) thread = std::make_unique<DeviceThread>();
  return *thread;
}

std::shared_ptr<void> Core::GraphPoolOf(c10::Device device) {
  const Companion* companion = CompanionOf(device);
  if (companion == nullptr || companion->make_pool == nullptr) return nullptr;
  auto& pool = graph_pools_[device.str()];
  if (!pool) pool = companion->make_pool(device);
  return pool;
}

// A thread-safe function's ref is a flag, so the count is kept here.
void Core::Began() {
  if (in_flight_++ == 0) wake_.Ref(env_);
}

void Core::Complete(Completion completion) {
  {
    std::lock_guard<std::mutex> lock(completions_mutex_);
    completions_.push_back(std::move(completion));
  }
  if (!stopping_) wake_.NonBlockingCall();
}

void Core::RunCompletions(Napi::Env env) {
  std::vector<Completion> ready;
  {
    std::lock_guard<std::mutex> lock(completions_mutex_);
    ready.swap(completions_);
  }
  for (auto& completion : ready) {
    Napi::HandleScope scope(env);
    if (--in_flight_ == 0) wake_.Unref(env);
    completion(env);
  }
  DrainReleased();
}

void Core::DrainReleased() {
  std::vector<napi_ref> references;
  {
    std::lock_guard<std::mutex> lock(released_->mutex);
    references.swap(released_->references);
  }
  for (napi_ref reference : references) napi_delete_reference(env_, reference);
}

void Core::Stop() {
  stopping_ = true;
  for (auto& entry : threads_) entry.second->Stop();
}

namespace {

Napi::Value Stop(const Napi::CallbackInfo& info) {
  Core::Of(info.Env()).Stop();
  return info.Env().Undefined();
}

Napi::Value Counts(const Napi::CallbackInfo& info) {
  Core& core = Core::Of(info.Env());
  core.DrainReleased();
  auto result = Napi::Object::New(info.Env());
  result.Set("tensors", static_cast<double>(core.counts.tensors));
  result.Set("tensorBytes", static_cast<double>(core.counts.tensor_bytes));
  result.Set("programs", static_cast<double>(core.counts.programs));
  result.Set("networks", static_cast<double>(core.counts.networks));
  result.Set("generators", static_cast<double>(core.counts.generators));
  auto weights = Napi::Object::New(info.Env());
  auto most = Napi::Object::New(info.Env());
  for (const auto& [place, account] : core.ledger()->Accounts()) {
    weights.Set(place, static_cast<double>(account.now));
    most.Set(place, static_cast<double>(account.most));
  }
  result.Set("weightBytes", weights);
  result.Set("mostWeightBytes", most);
  return result;
}

// limitWeights(place, bytes | null), for tests: weights beyond it find no memory.
Napi::Value LimitWeights(const Napi::CallbackInfo& info) {
  std::optional<int64_t> bytes;
  if (info[1].IsNumber()) bytes = info[1].As<Napi::Number>().Int64Value();
  Core::Of(info.Env()).ledger()->SetLimit(info[0].As<Napi::String>(), bytes);
  return info.Env().Undefined();
}

}  // namespace
}  // namespace torchbrush

// Called by the bootstrap with the environment that asked for the core.
extern "C" __attribute__((visibility("default"))) napi_value torchbrush_core_init(napi_env raw) {
  using namespace torchbrush;
  Napi::Env env(raw);
  try {
    // Programs are lowered to a flat list by us; the profiling executor is left for archives only.
    torch::jit::getExecutorMode() = false;
    torch::jit::getProfilingMode() = false;
    RunMemory::Install();
    auto* core = new Core(env);
    env.SetInstanceData(core);
    // Runs before the thread-safe function's own clean-up, which was registered earlier.
    env.AddCleanupHook([core] { core->Stop(); });
    auto exports = Napi::Object::New(env);
    TensorHandle::Define(env, exports);
    GeneratorHandle::Define(env, exports);
    ProgramHandle::Define(env, exports);
    NetworkHandle::Define(env, exports);
    ForeignHandle::Define(env, exports);
    DefineOps(env, exports);
    DefineDevices(env, exports);
    exports.Set("stop", Napi::Function::New(env, Stop));
    exports.Set("counts", Napi::Function::New(env, Counts));
    exports.Set("limitWeights", Napi::Function::New(env, LimitWeights));
    return exports;
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (...) {
    ToJavaScript(env, DescribeCurrentException()).ThrowAsJavaScriptException();
  }
  return nullptr;
}
