// A libtorch tensor held by JavaScript. Disposing drops the handle's reference; garbage collection
// does the same later, and knows the size.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

namespace torchbrush {

class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  // A fresh handle. `accounted` is false where the memory already counts elsewhere.
  static Napi::Value Wrap(Napi::Env env, at::Tensor tensor, bool accounted = true);
  // The tensor of a handle; throws ERR_DISPOSED or ERR_INVALID_ARGUMENT.
  static const at::Tensor& Get(const Napi::Value& value);
  static bool IsTensor(const Napi::Value& value);

  explicit TensorHandle(const Napi::CallbackInfo& info);
  ~TensorHandle() override;

 private:
  Napi::Value Shape(const Napi::CallbackInfo& info);
  Napi::Value DType(const Napi::CallbackInfo& info);
  Napi::Value Device(const Napi::CallbackInfo& info);
  Napi::Value Disposed(const Napi::CallbackInfo& info);
  Napi::Value View(const Napi::CallbackInfo& info);
  Napi::Value Alias(const Napi::CallbackInfo& info);
  Napi::Value ToHost(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);
  const at::Tensor& tensor() const;
  void Release(Napi::Env env);

  at::Tensor tensor_;
  int64_t accounted_bytes_ = 0;
};

at::ScalarType ParseDType(const std::string& name);
std::string DTypeName(at::ScalarType type);
c10::Device ParseDevice(const std::string& name);

}  // namespace torchbrush
