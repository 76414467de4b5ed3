// torch.Generator: the random numbers of a seed, equal to Python's.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>
#include <napi.h>

namespace torchbrush {

class GeneratorHandle : public Napi::ObjectWrap<GeneratorHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  static at::Generator& Get(const Napi::Value& value);

  explicit GeneratorHandle(const Napi::CallbackInfo& info);
  ~GeneratorHandle() override;

 private:
  Napi::Value Seed(const Napi::CallbackInfo& info);
  Napi::Value GetState(const Napi::CallbackInfo& info);
  void SetState(const Napi::CallbackInfo& info);

  at::Generator generator_;
};

}  // namespace torchbrush
