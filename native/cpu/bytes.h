// Memory as kernels see it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace torchbrush {

inline char* Bytes(const at::Tensor& tensor) { return static_cast<char*>(tensor.data_ptr()); }

inline at::Tensor Room(int64_t bytes) { return at::empty({bytes}, at::TensorOptions().dtype(at::kByte)); }

}  // namespace torchbrush
