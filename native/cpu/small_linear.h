// Linear layers over few rows, where what oneDNN does around a product takes as long as the product.
#pragma once

#include <ATen/ATen.h>

#include "packed_layout.h"

namespace torchbrush {

// Whether a linear layer over x [...,C] with `weight` [O,C] should go this way.
bool PrefersSmallLinear(at::IntArrayRef x, at::IntArrayRef weight, at::ScalarType type);

// `weight` [O,C], which may lie at any address, as the kernels take it.
Packed PackSmallLinear(const at::Tensor& weight);

// x [...,C] through packed weights of O rows, plus `bias` [O], which may be undefined.
at::Tensor SmallLinear(const at::Tensor& x, const at::Tensor& packed, int64_t out, const at::Tensor& bias);

}  // namespace torchbrush
