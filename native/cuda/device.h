// What kernels are written in: ordinary C++ that nvcc compiles for the GPU and any compiler for the
// host. A kernel is a struct with its arguments and a method `Phase`, which one thread of one block
// runs; between two phases all threads of a block meet. On the host the tests run the same phases one
// thread after the other.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define TORCHBRUSH_DEVICE __host__ __device__ __forceinline__
#else
#define TORCHBRUSH_DEVICE inline
#endif

namespace torchbrush::kernels {

constexpr int kThreads = 256;

// Which block of the grid, and which of its threads.
struct Place {
  int64_t x;
  int64_t y;
  int64_t z;
  int thread;
};

struct Grid {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
};

// Values that are read or written in one go.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

template <class T, int kWidth>
TORCHBRUSH_DEVICE void Load(const T* from, float (&to)[kWidth]) {
  const auto pack = *reinterpret_cast<const Pack<T, kWidth>*>(from);
  for (int i = 0; i < kWidth; ++i) to[i] = static_cast<float>(pack.values[i]);
}

template <class T, int kWidth>
TORCHBRUSH_DEVICE void Store(const float (&from)[kWidth], T* to) {
  Pack<T, kWidth> pack;
  for (int i = 0; i < kWidth; ++i) pack.values[i] = static_cast<T>(from[i]);
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

TORCHBRUSH_DEVICE float Silu(float x) { return x / (1.0f + expf(-x)); }

// x·Φ(x), the exact form.
TORCHBRUSH_DEVICE float Gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

}  // namespace torchbrush::kernels
