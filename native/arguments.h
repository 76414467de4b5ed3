// Lists and objects of JavaScript as plain C++ values, and results as handles.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <string>
#include <vector>

#include "weights.h"

namespace torchbrush {

// None where there is no list.
std::vector<int64_t> ReadSizes(const Napi::Value& value);
std::vector<int32_t> ReadIntegers(const Napi::Value& value);
std::vector<std::string> ReadStrings(const Napi::Value& value);

// Undefined where an optional input is absent.
std::vector<at::Tensor> ReadInputs(const Napi::Value& value);

StoredValues ReadStored(const Napi::Object& entry);
std::vector<Placement> ReadPlacements(const Napi::Value& value);

Napi::Value WrapAll(Napi::Env env, std::vector<at::Tensor>&& tensors);

}  // namespace torchbrush
