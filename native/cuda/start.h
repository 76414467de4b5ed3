// From a job to the kernel of its type and width; `Launch(kernel, grid, stream)` is the includer's.
#pragma once

#include <c10/util/Exception.h>

#include "kernels.h"

namespace torchbrush::kernels {

template <class Body>
void WithType(c10::ScalarType type, const Body& body) {
  switch (type) {
    case c10::ScalarType::Half:
      return body(c10::Half());
    case c10::ScalarType::BFloat16:
      return body(c10::BFloat16());
    case c10::ScalarType::Float:
      return body(float());
    default:
      TORCH_CHECK(false, "No kernel for ", c10::toString(type), ".");
  }
}

template <int kWidth>
struct Width {};

template <class Body>
void WithWidth(int width, const Body& body) {
  switch (width) {
    case 8:
      return body(Width<8>());
    case 4:
      return body(Width<4>());
    default:
      return body(Width<1>());
  }
}

template <class T, int kWidth>
void StartAs(const GroupNormJob& job, Stream stream, Width<kWidth>) {
  const auto* input = static_cast<const T*>(job.input);
  const auto* addend = static_cast<const T*>(job.addend);
  const auto* bias = static_cast<const T*>(job.bias);
  Launch(GroupNormMoments<T, kWidth>{job.shape, input, addend, job.addend_stride, bias, job.partials},
         job.shape.grid(), stream);
  Launch(GroupNormApply<T, kWidth>{job.shape, input, addend, job.addend_stride, bias, job.partials,
                                   static_cast<const T*>(job.weight), static_cast<const T*>(job.shift),
                                   job.epsilon, job.silu, static_cast<T*>(job.output)},
         job.shape.grid(), stream);
}

template <class T, int kWidth>
void StartAs(const GegluJob& job, Stream stream, Width<kWidth>) {
  const int64_t row_packs = job.columns / kWidth;
  const int64_t packs = job.rows * row_packs;
  Launch(Geglu<T, kWidth>{static_cast<const T*>(job.input), static_cast<T*>(job.output), packs, row_packs},
         BlocksFor(packs), stream);
}

template <class T, int kWidth>
void StartAs(const AddBiasJob& job, Stream stream, Width<kWidth>) {
  const int64_t row_packs = job.channels / kWidth;
  const int64_t packs = job.rows * row_packs;
  Launch(AddBias<T, kWidth>{static_cast<const T*>(job.a), static_cast<const T*>(job.b),
                            static_cast<const T*>(job.bias), static_cast<T*>(job.output), packs, row_packs},
         BlocksFor(packs), stream);
}

template <class Job>
void StartTyped(const Job& job, Stream stream) {
  WithType(job.type, [&](auto value) {
    WithWidth(job.width, [&](auto width) { StartAs<decltype(value)>(job, stream, width); });
  });
}

void Start(const GroupNormJob& job, Stream stream) { StartTyped(job, stream); }
void Start(const GegluJob& job, Stream stream) { StartTyped(job, stream); }
void Start(const AddBiasJob& job, Stream stream) { StartTyped(job, stream); }
void Start(const LinearCombination& job, Stream stream) { Launch(job, BlocksFor(job.size), stream); }

}  // namespace torchbrush::kernels
