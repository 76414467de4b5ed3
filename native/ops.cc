#include "ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "core.h"
#include "cuda/open.h"
#include "generator.h"
#include "tensor.h"

namespace torchbrush {
namespace {

// An operator looked up once; JavaScript keeps it and calls it.
using Operator = c10::OperatorHandle;

int64_t ToInteger(const Napi::Value& value) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? 1 : 0;
  if (!value.IsNumber()) throw CoreError("ERR_INVALID_ARGUMENT", "Expected a whole number.");
  return value.As<Napi::Number>().Int64Value();
}

at::Scalar ToScalar(const Napi::Value& value) {
  if (!value.IsNumber()) throw CoreError("ERR_INVALID_ARGUMENT", "Expected a number.");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (std::nearbyint(number) == number && std::fabs(number) < 9e15) {
    return at::Scalar(static_cast<int64_t>(number));
  }
  return at::Scalar(number);
}

c10::IValue ToIValue(const Napi::Value& value, const c10::TypePtr& type, const c10::TypePtr& real) {
  using c10::TypeKind;
  switch (type->kind()) {
    case TypeKind::OptionalType:
      if (value.IsUndefined() || value.IsNull()) return c10::IValue();
      return ToIValue(value, type->castRaw<c10::OptionalType>()->getElementType(),
                      real->castRaw<c10::OptionalType>()->getElementType());
    case TypeKind::TensorType:
      return TensorHandle::Get(value);
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      // dtypes and devices are whole numbers in a schema; they come as names.
      if (value.IsString() && real->kind() == TypeKind::ScalarTypeType) {
        return static_cast<int64_t>(ParseDType(value.As<Napi::String>()));
      }
      return ToInteger(value);
    case TypeKind::ScalarTypeType:
      return static_cast<int64_t>(ParseDType(value.As<Napi::String>()));
    case TypeKind::FloatType:
      return value.As<Napi::Number>().DoubleValue();
    case TypeKind::BoolType:
      return value.ToBoolean().Value();
    case TypeKind::NumberType:
      return ToScalar(value);
    case TypeKind::StringType:
      return value.As<Napi::String>().Utf8Value();
    case TypeKind::DeviceObjType:
      return ParseDevice(value.As<Napi::String>());
    case TypeKind::GeneratorType:
      return GeneratorHandle::Get(value);
    case TypeKind::ListType: {
      auto element = type->castRaw<c10::ListType>()->getElementType();
      auto array = value.As<Napi::Array>();
      if (element->kind() == TypeKind::TensorType) {
        c10::List<at::Tensor> list;
        for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(TensorHandle::Get(array.Get(i)));
        return list;
      }
      if (element->kind() == TypeKind::FloatType) {
        c10::List<double> list;
        for (uint32_t i = 0; i < array.Length(); ++i) {
          list.push_back(array.Get(i).As<Napi::Number>().DoubleValue());
        }
        return list;
      }
      c10::List<int64_t> list;
      for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(ToInteger(array.Get(i)));
      return list;
    }
    default:
      throw CoreError("ERR_INVALID_ARGUMENT", "Arguments of type " + type->str() + " are not supported.");
  }
}

Napi::Value FromIValue(Napi::Env env, const c10::IValue& value) {
  if (value.isTensor()) return TensorHandle::Wrap(env, value.toTensor());
  if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
  if (value.isInt()) return Napi::Number::New(env, static_cast<double>(value.toInt()));
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  throw CoreError("ERR_TORCH", "The operator returned a " + value.tagKind() + ".");
}

// operator(name, overload): a function that takes the operator's arguments in schema order.
Napi::Value MakeOperator(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string name = info[0].As<Napi::String>();
    const std::string overload = info[1].As<Napi::String>();
    const Operator op = c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), overload.c_str());
    return Napi::Function::New(env, [op](const Napi::CallbackInfo& call) -> Napi::Value {
      Napi::Env inner = call.Env();
      return Guarded(inner, [&]() -> Napi::Value {
        const auto& arguments = op.schema().arguments();
        torch::jit::Stack stack;
        stack.reserve(arguments.size());
        for (size_t i = 0; i < arguments.size(); ++i) {
          const auto& argument = arguments[i];
          if (i < call.Length() && !call[i].IsUndefined()) {
            stack.push_back(ToIValue(call[i], argument.type(), argument.real_type()));
          } else if (argument.default_value()) {
            stack.push_back(*argument.default_value());
          } else if (argument.type()->kind() == c10::TypeKind::OptionalType) {
            stack.emplace_back();
          } else {
            throw CoreError("ERR_INVALID_ARGUMENT", op.schema().name() + " needs " + argument.name());
          }
        }
        c10::InferenceMode inference;
        op.callBoxed(stack);
        if (stack.size() == 1) return FromIValue(inner, stack[0]);
        auto results = Napi::Array::New(inner, stack.size());
        for (uint32_t i = 0; i < stack.size(); ++i) results[i] = FromIValue(inner, stack[i]);
        return results;
      });
    });
  });
}

// One pass over the memory. The sums are double: between noise levels far apart, terms ten thousand
// times as large as their sum cancel.
template <class T>
at::Tensor CombineContiguous(const std::vector<double>& coefficients,
                             const std::vector<at::Tensor>& tensors) {
  at::Tensor result = at::empty_like(tensors[0]);
  T* out = result.data_ptr<T>();
  at::parallel_for(0, result.numel(), 32768, [&](int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 1024;
    std::array<double, kBlock> sums;
    for (int64_t start = begin; start < end; start += kBlock) {
      const int64_t count = std::min(kBlock, end - start);
      sums.fill(0);
      for (size_t k = 0; k < tensors.size(); ++k) {
        const T* term = tensors[k].const_data_ptr<T>() + start;
        for (int64_t i = 0; i < count; ++i) sums[i] += coefficients[k] * term[i];
      }
      for (int64_t i = 0; i < count; ++i) out[start + i] = static_cast<T>(sums[i]);
    }
  });
  return result;
}

at::Tensor LinearCombination(const std::vector<double>& coefficients, std::vector<at::Tensor> tensors,
                             at::ScalarType result) {
  at::ScalarType type = at::kFloat;
  for (const auto& tensor : tensors) {
    if (tensor.scalar_type() == at::kDouble) type = at::kDouble;
    if (tensor.sizes() != tensors[0].sizes()) {
      throw CoreError("ERR_INVALID_ARGUMENT", "linearCombination needs tensors of one shape.");
    }
  }
  const Companion* companion = CompanionOf(tensors[0].device());
  if (companion != nullptr && companion->linear_combination != nullptr) {
    return companion->linear_combination(coefficients, tensors, result);
  }
  if (tensors[0].is_cpu()) {
    for (auto& tensor : tensors) tensor = tensor.to(type).contiguous();
    at::Tensor sum = type == at::kDouble ? CombineContiguous<double>(coefficients, tensors)
                                         : CombineContiguous<float>(coefficients, tensors);
    return sum.to(result);
  }
  at::Tensor sum = tensors[0].to(type).mul(coefficients[0]);
  for (size_t k = 1; k < tensors.size(); ++k) sum.add_(tensors[k].to(type), coefficients[k]);
  return sum.to(result);
}

// linearCombination(coefficients: number[], tensors: NativeTensor[], dtype?: string)
Napi::Value LinearCombinationJs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    auto numbers = info[0].As<Napi::Array>();
    auto handles = info[1].As<Napi::Array>();
    if (numbers.Length() == 0 || numbers.Length() != handles.Length()) {
      throw CoreError("ERR_INVALID_ARGUMENT", "linearCombination needs one coefficient per tensor.");
    }
    std::vector<double> coefficients;
    std::vector<at::Tensor> tensors;
    for (uint32_t i = 0; i < numbers.Length(); ++i) {
      coefficients.push_back(numbers.Get(i).As<Napi::Number>().DoubleValue());
      tensors.push_back(TensorHandle::Get(handles.Get(i)));
    }
    const at::ScalarType result =
        info[2].IsString() ? ParseDType(info[2].As<Napi::String>()) : tensors[0].scalar_type();
    c10::InferenceMode inference;
    return TensorHandle::Wrap(env, LinearCombination(coefficients, std::move(tensors), result));
  });
}

// randn(shape, generator, dtype): drawn on the CPU in that dtype, as torch.randn does.
Napi::Value Randn(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    auto dimensions = info[0].As<Napi::Array>();
    std::vector<int64_t> shape;
    for (uint32_t i = 0; i < dimensions.Length(); ++i) shape.push_back(ToInteger(dimensions.Get(i)));
    const auto options = at::TensorOptions().dtype(ParseDType(info[2].As<Napi::String>()));
    c10::InferenceMode inference;
    return TensorHandle::Wrap(env, at::randn(shape, GeneratorHandle::Get(info[1]), options));
  });
}

}  // namespace

void DefineOps(Napi::Env env, Napi::Object exports) {
  exports.Set("operator", Napi::Function::New(env, MakeOperator));
  exports.Set("linearCombination", Napi::Function::New(env, LinearCombinationJs));
  exports.Set("randn", Napi::Function::New(env, Randn));
}

}  // namespace torchbrush
