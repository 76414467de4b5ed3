#include "arguments.h"

#include <utility>

#include "tensor.h"

namespace torchbrush {

// None where there is no list.
std::vector<int64_t> ReadSizes(const Napi::Value& value) {
  std::vector<int64_t> integers;
  if (!value.IsArray()) return integers;
  auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    integers.push_back(list.Get(i).As<Napi::Number>().Int64Value());
  }
  return integers;
}

std::vector<int32_t> ReadIntegers(const Napi::Value& value) {
  auto list = value.As<Napi::Array>();
  std::vector<int32_t> integers;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    integers.push_back(list.Get(i).As<Napi::Number>().Int32Value());
  }
  return integers;
}

// Undefined where an optional input is absent.
std::vector<at::Tensor> ReadInputs(const Napi::Value& value) {
  auto handles = value.As<Napi::Array>();
  std::vector<at::Tensor> inputs;
  for (uint32_t i = 0; i < handles.Length(); ++i) {
    const Napi::Value handle = handles.Get(i);
    inputs.push_back(handle.IsNull() ? at::Tensor() : TensorHandle::Get(handle));
  }
  return inputs;
}

StoredValues ReadStored(const Napi::Object& entry) {
  return {entry.Get("file").As<Napi::String>(),
          static_cast<uint64_t>(entry.Get("offset").As<Napi::Number>().Int64Value()),
          ParseDType(entry.Get("dtype").As<Napi::String>()), ReadSizes(entry.Get("shape")),
          ReadSizes(entry.Get("strides"))};
}

std::vector<Placement> ReadPlacements(const Napi::Value& value) {
  auto list = value.As<Napi::Array>();
  std::vector<Placement> placements;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    auto entry = list.Get(i).As<Napi::Object>();
    placements.push_back({entry.Get("parameter").As<Napi::String>(), ReadStored(entry)});
  }
  return placements;
}

std::vector<std::string> ReadStrings(const Napi::Value& value) {
  auto list = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < list.Length(); ++i) strings.push_back(list.Get(i).As<Napi::String>());
  return strings;
}

Napi::Value WrapAll(Napi::Env env, std::vector<at::Tensor>&& tensors) {
  auto list = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) list[i] = TensorHandle::Wrap(env, std::move(tensors[i]));
  return list;
}

}  // namespace torchbrush
