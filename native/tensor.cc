#include "tensor.h"

#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include "core.h"

namespace torchbrush {
namespace {

struct NamedType {
  const char* name;
  at::ScalarType type;
};

constexpr std::array<NamedType, 9> kTypes = {{{"float32", at::kFloat},
                                              {"float16", at::kHalf},
                                              {"bfloat16", at::kBFloat16},
                                              {"float64", at::kDouble},
                                              {"int64", at::kLong},
                                              {"int32", at::kInt},
                                              {"uint8", at::kByte},
                                              {"int8", at::kChar},
                                              {"bool", at::kBool}}};

// fromBuffer(arrayBuffer, byteOffset, shape, dtype): shares the memory with JavaScript.
Napi::Value FromBuffer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    Core& core = Core::Of(env);
    core.DrainReleased();
    auto buffer = info[0].As<Napi::ArrayBuffer>();
    const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    auto dimensions = info[2].As<Napi::Array>();
    const at::ScalarType type = ParseDType(info[3].As<Napi::String>());
    std::vector<int64_t> shape;
    size_t bytes = c10::elementSize(type);
    for (uint32_t i = 0; i < dimensions.Length(); ++i) {
      const int64_t size = dimensions.Get(i).As<Napi::Number>().Int64Value();
      if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) {
        throw CoreError("ERR_INVALID_ARGUMENT", "The shape's size overflows.");
      }
      shape.push_back(size);
    }
    if (offset > buffer.ByteLength() || bytes > buffer.ByteLength() - offset) {
      throw CoreError("ERR_INVALID_ARGUMENT", "The shape needs more bytes than the buffer has.");
    }
    napi_ref reference = nullptr;
    if (napi_create_reference(env, buffer, 1, &reference) != napi_ok) {
      throw CoreError("ERR_TORCH", "The buffer could not be referenced.");
    }
    auto released = core.released();
    auto deleter = [released, reference](void*) {
      std::lock_guard<std::mutex> lock(released->mutex);
      released->references.push_back(reference);
    };
    at::Tensor tensor = at::from_blob(static_cast<char*>(buffer.Data()) + offset, shape, deleter,
                                      at::TensorOptions().dtype(type));
    return TensorHandle::Wrap(env, std::move(tensor), false);
  });
}

}  // namespace

at::ScalarType ParseDType(const std::string& name) {
  for (const auto& entry : kTypes) {
    if (name == entry.name) return entry.type;
  }
  throw CoreError("ERR_INVALID_ARGUMENT", "Unknown dtype '" + name + "'.");
}

std::string DTypeName(at::ScalarType type) {
  for (const auto& entry : kTypes) {
    if (type == entry.type) return entry.name;
  }
  return c10::toString(type);
}

c10::Device ParseDevice(const std::string& name) {
  try {
    return c10::Device(name);
  } catch (const c10::Error&) {
    throw CoreError("ERR_INVALID_ARGUMENT", "Unknown device '" + name + "'.");
  }
}

void TensorHandle::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "NativeTensor",
      {InstanceAccessor<&TensorHandle::Shape>("shape"), InstanceAccessor<&TensorHandle::DType>("dtype"),
       InstanceAccessor<&TensorHandle::Device>("device"),
       InstanceAccessor<&TensorHandle::Disposed>("disposed"), InstanceMethod<&TensorHandle::View>("view"),
       InstanceMethod<&TensorHandle::Alias>("alias"), InstanceMethod<&TensorHandle::ToHost>("toHost"),
       InstanceMethod<&TensorHandle::Dispose>("dispose")});
  Core::Of(env).tensor_class = Napi::Persistent(constructor);
  exports.Set("NativeTensor", constructor);
  exports.Set("fromBuffer", Napi::Function::New(env, FromBuffer));
}

Napi::Value TensorHandle::Wrap(Napi::Env env, at::Tensor tensor, bool accounted) {
  Core& core = Core::Of(env);
  core.pending = &tensor;
  Napi::Object object = core.tensor_class.New({});
  core.pending = nullptr;
  if (accounted) {
    auto* handle = Unwrap(object);
    handle->accounted_bytes_ = static_cast<int64_t>(handle->tensor_.nbytes());
    core.counts.tensor_bytes += handle->accounted_bytes_;
    Napi::MemoryManagement::AdjustExternalMemory(env, handle->accounted_bytes_);
  }
  return object;
}

TensorHandle::TensorHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Core& core = Core::Of(info.Env());
  if (core.pending == nullptr) {
    throw Napi::TypeError::New(info.Env(), "Native tensors are made by functions, not with new.");
  }
  tensor_ = std::move(*static_cast<at::Tensor*>(core.pending));
  core.counts.tensors += 1;
}

TensorHandle::~TensorHandle() { Release(Env()); }

void TensorHandle::Release(Napi::Env env) {
  if (!tensor_.defined()) return;
  Core& core = Core::Of(env);
  tensor_ = at::Tensor();
  core.counts.tensors -= 1;
  core.counts.tensor_bytes -= accounted_bytes_;
  if (accounted_bytes_ > 0) Napi::MemoryManagement::AdjustExternalMemory(env, -accounted_bytes_);
  accounted_bytes_ = 0;
}

const at::Tensor& TensorHandle::tensor() const {
  if (!tensor_.defined()) throw CoreError("ERR_DISPOSED", "The tensor has been disposed.");
  return tensor_;
}

bool TensorHandle::IsTensor(const Napi::Value& value) {
  if (!value.IsObject()) return false;
  return value.As<Napi::Object>().InstanceOf(Core::Of(value.Env()).tensor_class.Value());
}

const at::Tensor& TensorHandle::Get(const Napi::Value& value) {
  if (!IsTensor(value)) throw CoreError("ERR_INVALID_ARGUMENT", "Expected a native tensor.");
  return Unwrap(value.As<Napi::Object>())->tensor();
}

Napi::Value TensorHandle::Shape(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    const auto sizes = tensor().sizes();
    auto shape = Napi::Array::New(info.Env(), sizes.size());
    for (uint32_t i = 0; i < sizes.size(); ++i) shape[i] = static_cast<double>(sizes[i]);
    return shape;
  });
}

Napi::Value TensorHandle::DType(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), DTypeName(tensor().scalar_type()));
  });
}

Napi::Value TensorHandle::Device(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(),
                 [&]() -> Napi::Value { return Napi::String::New(info.Env(), tensor().device().str()); });
}

Napi::Value TensorHandle::Disposed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !tensor_.defined());
}

// An ArrayBuffer over the tensor's own memory, which lives as long as either does.
Napi::Value TensorHandle::View(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const at::Tensor& source = tensor();
    if (!source.is_cpu() || !source.is_contiguous()) {
      throw CoreError("ERR_INVALID_ARGUMENT", "Only contiguous CPU tensors can be viewed.");
    }
    if (source.nbytes() == 0) return Napi::ArrayBuffer::New(env, 0);
    auto* keeper = new at::Tensor(source);
    napi_value result = nullptr;
    const napi_status status = napi_create_external_arraybuffer(
        env, keeper->data_ptr(), keeper->nbytes(),
        [](napi_env, void*, void* hint) { delete static_cast<at::Tensor*>(hint); }, keeper, &result);
    if (status == napi_ok) return Napi::Value(env, result);
    // Some runtimes (Electron) allow no external buffers: copy there.
    delete keeper;
    auto copy = Napi::ArrayBuffer::New(env, source.nbytes());
    std::memcpy(copy.Data(), source.data_ptr(), source.nbytes());
    return copy;
  });
}

Napi::Value TensorHandle::Alias(const Napi::CallbackInfo& info) {
  return Guarded(info.Env(), [&] { return Wrap(info.Env(), tensor(), false); });
}

// toHost(dtype): promise of an ArrayBuffer with a copy, from any device and dtype.
Napi::Value TensorHandle::ToHost(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const at::Tensor source = tensor();
    const at::ScalarType type = ParseDType(info[0].As<Napi::String>());
    return Core::Of(env).Submit<at::Tensor>(
        source.device(), [source, type] { return source.to(c10::Device(c10::kCPU), type).contiguous(); },
        [](Napi::Env inner, at::Tensor&& host) -> Napi::Value {
          auto buffer = Napi::ArrayBuffer::New(inner, host.nbytes());
          if (host.nbytes() > 0) std::memcpy(buffer.Data(), host.data_ptr(), host.nbytes());
          return buffer;
        });
  });
}

void TensorHandle::Dispose(const Napi::CallbackInfo& info) { Release(info.Env()); }

}  // namespace torchbrush
