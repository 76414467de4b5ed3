#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core.h"
#include "tensor.h"

namespace torchbrush {

void GeneratorHandle::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "NativeGenerator",
      {InstanceMethod<&GeneratorHandle::Seed>("seed"), InstanceMethod<&GeneratorHandle::GetState>("getState"),
       InstanceMethod<&GeneratorHandle::SetState>("setState")});
  Core::Of(env).generator_class = Napi::Persistent(constructor);
  exports.Set("NativeGenerator", constructor);
}

// new NativeGenerator(seed: bigint)
GeneratorHandle::GeneratorHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Guarded(info.Env(), [&] {
    bool lossless = true;
    generator_ = at::detail::createCPUGenerator(info[0].As<Napi::BigInt>().Uint64Value(&lossless));
  });
  Core::Of(info.Env()).counts.generators += 1;
}

GeneratorHandle::~GeneratorHandle() { Core::Of(Env()).counts.generators -= 1; }

at::Generator& GeneratorHandle::Get(const Napi::Value& value) {
  if (!value.IsObject() ||
      !value.As<Napi::Object>().InstanceOf(Core::Of(value.Env()).generator_class.Value())) {
    throw CoreError("ERR_INVALID_ARGUMENT", "Expected a native generator.");
  }
  return Unwrap(value.As<Napi::Object>())->generator_;
}

Napi::Value GeneratorHandle::Seed(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    bool lossless = true;
    std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_current_seed(info[0].As<Napi::BigInt>().Uint64Value(&lossless));
    return info.This();
  });
}

Napi::Value GeneratorHandle::GetState(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&] {
    std::lock_guard<std::mutex> lock(generator_.mutex());
    return TensorHandle::Wrap(info.Env(), generator_.get_state());
  });
}

void GeneratorHandle::SetState(const Napi::CallbackInfo& info) {
  Guarded(info.Env(), [&] {
    std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_state(TensorHandle::Get(info[0]));
  });
}

}  // namespace torchbrush
