// Starts kernels: on the GPU's stream (kernels.cu) or, for tests, on the host (host.cc).
#pragma once

#include <ATen/core/ScalarType.h>

#include "elementwise.h"
#include "group_norm.h"

namespace torchbrush::kernels {

using Stream = void*;  // A cudaStream_t; ignored on the host.

struct GroupNormJob {
  GroupNormShape shape;
  c10::ScalarType type;
  int width;  // 8, 4 or 1 values at once: what type and alignment allow.
  const void* input;
  const void* addend;
  int64_t addend_stride;
  const void* bias;
  Moments* partials;
  const void* weight;
  const void* shift;
  float epsilon;
  bool silu;
  void* output;
};

struct GegluJob {
  c10::ScalarType type;
  int width;
  const void* input;
  void* output;
  int64_t rows;
  int64_t columns;  // Of the output.
};

struct AddBiasJob {
  c10::ScalarType type;
  int width;
  const void* a;
  const void* b;
  const void* bias;
  void* output;
  int64_t rows;
  int64_t channels;
};

void Start(const GroupNormJob& job, Stream stream);
void Start(const GegluJob& job, Stream stream);
void Start(const AddBiasJob& job, Stream stream);
void Start(const LinearCombination& job, Stream stream);

}  // namespace torchbrush::kernels
