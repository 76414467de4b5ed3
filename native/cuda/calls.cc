#include "calls.h"

#include <c10/core/DeviceGuard.h>

#include <array>
#include <initializer_list>

#include "kernels.h"

namespace torchbrush {
namespace {

bool IsComputed(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 || type == at::kFloat;
}

// How many values can be read at once: 16 bytes, where rows and memory are aligned so.
int WidthOf(at::ScalarType type, int64_t columns, std::initializer_list<const void*> places) {
  const int width = static_cast<int>(16 / c10::elementSize(type));
  bool aligned = columns % width == 0;
  for (const void* place : places) aligned = aligned && reinterpret_cast<uintptr_t>(place) % 16 == 0;
  return aligned ? width : 1;
}

at::Tensor Optional(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.defined() ? tensor.to(type).contiguous() : tensor;
}

const void* PlaceOf(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }

// Through libtorch's own operators, for what the kernels cannot do.
at::Tensor PlainGroupNorm(const GroupNormCall& call) {
  at::Tensor x = call.input;
  std::vector<int64_t> sizes(x.dim(), 1);
  sizes[1] = x.size(1);
  if (call.bias.defined()) x = x + call.bias.view(sizes);
  sizes[0] = x.size(0);
  if (call.addend.defined()) x = x + call.addend.reshape(sizes);
  at::Tensor y = at::group_norm(x, call.groups, call.weight, call.shift, call.epsilon);
  return call.silu ? at::silu(y) : y;
}

kernels::Kind KindOf(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return kernels::Kind::kHalf;
    case at::kBFloat16:
      return kernels::Kind::kBFloat16;
    case at::kDouble:
      return kernels::Kind::kDouble;
    default:
      return kernels::Kind::kFloat;
  }
}

}  // namespace

at::Tensor GroupNorm(const GroupNormCall& call) {
  const at::Tensor& given = call.input;
  const at::ScalarType type = given.scalar_type();
  if (!IsComputed(type) || given.dim() < 3 || call.groups < 1) return PlainGroupNorm(call);
  c10::DeviceGuard guard(given.device());
  const Target target = TargetOf(given.device());
  const at::Tensor input = given.movedim(1, -1).contiguous();
  const at::Tensor weight = Optional(call.weight, type);
  const at::Tensor shift = Optional(call.shift, type);
  const at::Tensor addend = Optional(call.addend, type);
  const at::Tensor bias = Optional(call.bias, type);
  const int64_t batch = input.size(0);
  const int64_t channels = input.size(-1);
  const int64_t rows = channels == 0 || batch == 0 ? 0 : input.numel() / batch / channels;
  at::Tensor output = at::empty_like(input);
  const int width = WidthOf(type, channels, {PlaceOf(input), PlaceOf(output)});
  const auto shape = kernels::ShareOut(batch, rows, static_cast<int>(channels), static_cast<int>(call.groups),
                                       width, target.processors);
  const bool whole = addend.defined() && addend.numel() != batch * channels;
  if (!kernels::Fits(shape, width) || whole || !weight.defined() || !shift.defined()) {
    return PlainGroupNorm(call);
  }
  constexpr int64_t kFloats = sizeof(kernels::Moments) / sizeof(float);
  at::Tensor partials =
      at::empty({batch * shape.chunks * shape.groups * kFloats}, input.options().dtype(at::kFloat));
  kernels::Start(
      kernels::GroupNormJob{shape, type, width, PlaceOf(input), PlaceOf(addend), channels, PlaceOf(bias),
                            static_cast<kernels::Moments*>(partials.data_ptr()), PlaceOf(weight),
                            PlaceOf(shift), static_cast<float>(call.epsilon), call.silu, output.data_ptr()},
      target.stream);
  return output.movedim(-1, 1);
}

at::Tensor Geglu(const at::Tensor& given) {
  const at::ScalarType type = given.scalar_type();
  const int64_t columns = given.size(-1) / 2;
  if (!IsComputed(type) || given.size(-1) % 2 != 0 || given.numel() == 0) {
    const auto parts = given.chunk(2, -1);
    return parts[0] * at::gelu(parts[1]);
  }
  c10::DeviceGuard guard(given.device());
  const at::Tensor input = given.contiguous();
  std::vector<int64_t> sizes = input.sizes().vec();
  sizes.back() = columns;
  at::Tensor output = at::empty(sizes, input.options());
  const int width = WidthOf(type, columns, {PlaceOf(input), PlaceOf(output)});
  kernels::Start(
      kernels::GegluJob{type, width, PlaceOf(input), output.data_ptr(), output.numel() / columns, columns},
      TargetOf(given.device()).stream);
  return output;
}

at::Tensor AddBias(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  const at::ScalarType type = a.scalar_type();
  const bool same = b.sizes() == a.sizes() && b.scalar_type() == type && bias.scalar_type() == type;
  if (!same || !IsComputed(type) || a.dim() != 4 || a.numel() == 0) return a + (b + bias.view({-1, 1, 1}));
  c10::DeviceGuard guard(a.device());
  const at::Tensor left = a.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor right = b.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor added = bias.contiguous();
  at::Tensor output = at::empty_like(left);
  const int64_t channels = a.size(1);
  const int width = WidthOf(type, channels, {PlaceOf(left), PlaceOf(right), PlaceOf(added), PlaceOf(output)});
  kernels::Start(kernels::AddBiasJob{type, width, PlaceOf(left), PlaceOf(right), PlaceOf(added),
                                     output.data_ptr(), a.numel() / channels, channels},
                 TargetOf(a.device()).stream);
  return output;
}

at::Tensor LinearCombination(const std::vector<double>& coefficients, const std::vector<at::Tensor>& tensors,
                             at::ScalarType result) {
  using Kernel = kernels::LinearCombination;
  const auto computed = [](at::ScalarType type) { return IsComputed(type) || type == at::kDouble; };
  c10::DeviceGuard guard(tensors[0].device());
  std::vector<at::Tensor> terms;
  for (const auto& tensor : tensors) {
    TORCH_CHECK(tensor.device() == tensors[0].device(), "linearCombination needs tensors on one device.");
    terms.push_back((computed(tensor.scalar_type()) ? tensor : tensor.to(at::kFloat)).contiguous());
  }
  at::Tensor sum;
  for (size_t begin = 0; begin < terms.size();) {
    Kernel kernel{};
    kernel.size = terms[0].numel();
    const auto add = [&kernel](const at::Tensor& term, double coefficient) {
      kernel.terms[kernel.count] = term.const_data_ptr();
      kernel.kinds[kernel.count] = KindOf(term.scalar_type());
      kernel.coefficients[kernel.count++] = coefficient;
    };
    const at::Tensor before = sum;
    if (before.defined()) add(before, 1);
    for (; begin < terms.size() && kernel.count < Kernel::kMostTerms; ++begin) {
      add(terms[begin], coefficients[begin]);
    }
    const bool last = begin == terms.size();
    const at::ScalarType type = last && computed(result) ? result : at::kDouble;
    sum = at::empty(terms[0].sizes(), terms[0].options().dtype(type));
    kernel.kind = KindOf(type);
    kernel.output = sum.data_ptr();
    kernels::Start(kernel, TargetOf(sum.device()).stream);
  }
  return sum.to(result);
}

}  // namespace torchbrush
