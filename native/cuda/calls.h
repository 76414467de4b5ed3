// The kernels with tensors: checks what they need, makes room for the result, starts them.
#pragma once

#include "companion.h"

namespace torchbrush {

// Where kernels run, as the companion at hand has it.
struct Target {
  void* stream;
  int processors;  // How many blocks run side by side, about.
};
Target TargetOf(c10::Device device);

at::Tensor GroupNorm(const GroupNormCall& call);
at::Tensor Geglu(const at::Tensor& input);
at::Tensor AddBias(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);
at::Tensor LinearCombination(const std::vector<double>& coefficients, const std::vector<at::Tensor>& tensors,
                             at::ScalarType result);

}  // namespace torchbrush
