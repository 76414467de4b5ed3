// Operators of our own on the CPU: what libtorch does slowly there, or in several passes over memory.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "kernels/kernels.h"

namespace torchbrush {

// The kernels for a dtype that this processor can run best; null where there are none.
const kernels::Family* KernelsFor(at::ScalarType type);

// softmax(scale·q·kᵀ + mask)·v for q [B,H,N,D], k and v [B,H,M,D]. `mask` is undefined, true where a query
// may look at a key, or numbers; its sizes are those of the scores [B,H,N,M], or 1. The result is
// [B,H,N,D] and lies in memory as [B,N,H,D], which is what follows takes. Undefined for what the kernels
// cannot do.
at::Tensor FusedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const at::Tensor& mask, std::optional<double> scale);

// act(norm(x + addend)) for x [B,C,H,W], channels last; `addend`, [B,C,1,1], may be undefined. Undefined
// for what the kernels cannot do.
at::Tensor FusedGroupNorm(const at::Tensor& x, const at::Tensor& addend, int64_t groups,
                          const at::Tensor& weight, const at::Tensor& bias, double epsilon, bool silu);

// x + addend, undefined without an addend, and its layer normalisation over the last dimension. Both
// are undefined for what the kernels cannot do.
std::pair<at::Tensor, at::Tensor> FusedLayerNorm(const at::Tensor& x, const at::Tensor& addend,
                                                 const at::Tensor& weight, const at::Tensor& bias,
                                                 double epsilon);

// a·gelu(b) for x [...,2C], where a is the first half of a row and b the second. Undefined for what the
// kernels cannot do.
at::Tensor FusedGatedGelu(const at::Tensor& x);

// x·sigmoid(factor·x), which with 1.702 is CLIP's "quick GELU". Undefined for what the kernels cannot do.
at::Tensor FusedScaledSilu(const at::Tensor& x, double factor);

}  // namespace torchbrush
