#include "devices.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "core.h"
#include "cuda/open.h"

namespace torchbrush {
namespace {

// deviceCount('cuda'): only what a driver really answers for.
Napi::Value CudaCount(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    const bool usable = at::hasCUDA();
    const int64_t count = usable ? at::accelerator::deviceCount() : 0;
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  });
}

// probeCuda(index): runs a kernel there; the reason where it fails, else undefined. A driver may answer
// for a GPU that this libtorch has no kernels for.
Napi::Value ProbeCuda(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const auto index = static_cast<c10::DeviceIndex>(info[0].As<Napi::Number>().Int32Value());
    try {
      const c10::Device device(c10::kCUDA, index);
      const at::Tensor ones = at::ones({2}, at::TensorOptions().device(device));
      if (ones.add(1).sum().item<float>() == 4) return env.Undefined();
      return Napi::String::New(env, "A sum came out wrong.");
    } catch (const c10::Error& error) {
      return Napi::String::New(env, error.what_without_backtrace());
    } catch (const std::exception& error) {
      return Napi::String::New(env, error.what());
    }
  });
}

// cudaCapability(device): 80 for compute capability 8.0; 0 where there is no companion to ask, or the GPU
// is too old for it.
Napi::Value CudaCapability(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    const c10::Device device(info[0].As<Napi::String>().Utf8Value());
    const Companion* companion = CompanionOf(device);
    return Napi::Number::New(info.Env(), companion == nullptr ? 0 : companion->capability(device));
  });
}

// peakMemory(device): bytes of tensors at most, and bytes that the allocator took from the GPU at most.
Napi::Value PeakMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const c10::Device device(info[0].As<Napi::String>().Utf8Value());
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    auto result = Napi::Object::New(env);
    result.Set("allocated", static_cast<double>(stats.allocated_bytes[kAll].peak));
    result.Set("reserved", static_cast<double>(stats.reserved_bytes[kAll].peak));
    return result;
  });
}

Napi::Value Threads(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    if (info[0].IsNumber()) at::set_num_threads(info[0].As<Napi::Number>().Int32Value());
    return Napi::Number::New(info.Env(), at::get_num_threads());
  });
}

Napi::Value CpuCapability(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(),
                 [&]() -> Napi::Value { return Napi::String::New(info.Env(), at::get_cpu_capability()); });
}

}  // namespace

void DefineDevices(Napi::Env env, Napi::Object exports) {
  exports.Set("cudaCount", Napi::Function::New(env, CudaCount));
  exports.Set("probeCuda", Napi::Function::New(env, ProbeCuda));
  exports.Set("cudaCapability", Napi::Function::New(env, CudaCapability));
  exports.Set("peakMemory", Napi::Function::New(env, PeakMemory));
  exports.Set("threads", Napi::Function::New(env, Threads));
  exports.Set("cpuCapability", Napi::Function::New(env, CpuCapability));
}

}  // namespace torchbrush
