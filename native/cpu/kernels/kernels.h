// Kernels that are compiled once for each instruction set and chosen when the core starts. Their
// sources see no libtorch: a template of its headers that was compiled for a newer processor could
// otherwise be taken by the linker for the whole library.
#pragma once

#include <cstdint>

namespace torchbrush::kernels {

// softmax(scale · q·kᵀ + mask)·v for one head, the softmax in float32. Elements are float or bfloat16 (as
// uint16_t); strides are in elements, and values of a row lie one behind the other.
struct Attention {
  int64_t query_block;  // Rows that one call of `run` takes at most.
  int64_t (*packed_bytes)(int64_t keys, int64_t head_size);
  int64_t (*scratch_bytes)(int64_t head_size);
  void (*pack)(const void* keys, int64_t key_stride, const void* values, int64_t value_stride, int64_t count,
               int64_t head_size, void* packed);
  // `mask` is null or has rows of `mask_stride` numbers, which is `keys` rounded up to `mask_step` at least.
  int64_t mask_step;
  void (*run)(const void* queries, int64_t query_stride, int64_t rows, const void* packed, int64_t keys,
              int64_t head_size, float scale, const float* mask, int64_t mask_stride, void* out,
              int64_t out_stride, void* scratch);
};

// Group normalisation of one picture's rows [rows, channels], in two passes that threads may share.
struct GroupNorm {
  // Σ(x−shift) and Σ(x−shift)² of each channel, where x is the element plus the channel's addend.
  void (*moments)(const void* x, const float* addend, int64_t rows, int64_t channels, const float* shift,
                  float* sum, float* squares);
  // act((x + addend)·scale + offset), where act is SiLU or nothing. `factor` and `offset` hold all of it.
  void (*apply)(const void* x, const float* factor, const float* offset, int64_t rows, int64_t channels,
                bool silu, void* out);
  // One element as a number.
  float (*load)(const void* x, int64_t index);
};

// 3×3 convolution with padding 1 and stride 1 as sixteen matrix products over tiles of 2×2 pixels,
// F(2×2, 3×3) of Lavin & Gray, https://arxiv.org/abs/1509.09308: 2.25 times fewer multiplications.
// Pictures are [batch, height, width, channels].
struct ConvolutionShape {
  int64_t batch;
  int64_t height;
  int64_t width;
  int64_t in_channels;   // A multiple of `channel_step`.
  int64_t out_channels;  // A multiple of `channel_step`.
};

struct Winograd {
  int64_t channel_step;
  int64_t (*panel)(int64_t out_channels);  // Of them in a panel, but for the last one.
  // Weights are packed `transformed`, 16/9 as large, or plain, which costs a transform at every use.
  int64_t (*packed_bytes)(int64_t in_channels, int64_t out_channels, bool transformed);
  // Packs panels first … last-1 of weights [out, in, 3, 3], of which `weights` holds those from the output
  // channel `start` on, at any address.
  void (*pack)(const void* weights, int64_t start, int64_t in_channels, int64_t out_channels, int64_t first,
               int64_t last, bool transformed, void* packed);
  int64_t (*tiles)(const ConvolutionShape& shape);
  int64_t (*tile_bytes)(int64_t tiles, int64_t in_channels);
  int64_t (*scratch_bytes)(int64_t tiles, bool transformed);
  // Of the `count` tiles from `first` on, transforms begin … end-1 to where they belong in `tiles`. `zeros`
  // are in_channels of them.
  void (*transform)(const void* x, const ConvolutionShape& shape, int64_t first, int64_t begin, int64_t end,
                    int64_t count, const void* zeros, void* tiles);
  // Draws one panel of those tiles. `bias` and `addend`, of the result's shape, may be null.
  void (*multiply)(const void* tiles, const ConvolutionShape& shape, const void* packed, bool transformed,
                   int64_t panel, const float* bias, const void* addend, int64_t first, int64_t count,
                   void* out, void* scratch);
};

// x·wᵀ + bias for weights [out, in].
struct Linear {
  int64_t in_step;  // What `in` and `out` are multiples of.
  int64_t out_step;
  int64_t panel;  // Columns of a panel, but for the last one.
  int64_t (*packed_bytes)(int64_t in, int64_t out);
  int64_t (*panels)(int64_t out);
  int64_t (*scratch_bytes)();
  // Packs panels first … last-1 of the weights, of which `weights` holds the rows from `start` on, at any
  // address.
  void (*pack)(const void* weights, int64_t start, int64_t in, int64_t out, int64_t first, int64_t last,
               void* packed);
  // The columns of a panel for `rows` rows of x and y, which lie one behind the other. `bias` may be null.
  void (*run)(const void* x, int64_t rows, const void* packed, int64_t in, int64_t out, int64_t panel,
              const float* bias, void* y, void* scratch);
};

struct Rows {
  // sum = x + addend (where there is one) and out = (sum − mean)/√(variance + ε)·weight + bias for each
  // of [rows, channels]. `sum` may be null; `scratch` has room for one row.
  void (*layer_norm)(const void* x, const void* addend, int64_t rows, int64_t channels, const float* weight,
                     const float* bias, float epsilon, void* sum, void* out, float* scratch);
  // out[rows, channels] = a·gelu(b), where a row of x is a and then b.
  void (*gated_gelu)(const void* x, int64_t rows, int64_t channels, void* out);
  // out = x/(1 + e^(−factor·x))
  void (*scaled_silu)(const void* x, int64_t count, float factor, void* out);
};

// For one type of elements. Where the processor has no products of them, the pointers are null.
struct Family {
  const Attention* attention;
  const Winograd* winograd;
  const Linear* linear;
  GroupNorm group_norm;
  Rows rows;
};

struct Kernels {
  Family floats;
  Family bfloat16;
};

// The best that this processor can run and that libtorch's ATEN_CPU_CAPABILITY ("default", "avx2") allows;
// null without AVX2 and FMA.
const Kernels* Best();

const Kernels& Avx2();
const Kernels& Avx512();
const Kernels& Avx512Bf16();

}  // namespace torchbrush::kernels
