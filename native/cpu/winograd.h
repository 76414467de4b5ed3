// 3×3 convolutions by Winograd's F(2×2, 3×3), where that is faster than oneDNN's direct ones.
#pragma once

#include <ATen/ATen.h>

#include "packed_layout.h"

namespace torchbrush {

// Whether a convolution with stride 1, padding 1 and nothing else special should go this way: the kernels
// take its shapes, there are enough tiles to be worth their transforms, and a trial on this processor,
// made once for a dtype, found it faster.
bool PrefersWinograd(at::IntArrayRef x, at::IntArrayRef weight, at::ScalarType type);

// `weight` [O,C,3,3], which may lie at any address, as the kernels take it. Small ones are transformed,
// which makes them 16/9 as large; large ones stay as they are and are transformed at every use, so that
// they come from memory faster and take no more of it, and so do all where `may_transform` is false.
Packed PackForWinograd(const at::Tensor& weight, bool may_transform = true);

// `packed` for O output channels over x [B,C,H,W], plus `bias` [O] and `addend` [B,O,H,W], which may both
// be undefined. The result is channels last.
at::Tensor WinogradConvolution(const at::Tensor& x, const at::Tensor& packed, int64_t out_channels,
                               const at::Tensor& bias, const at::Tensor& addend);

}  // namespace torchbrush
