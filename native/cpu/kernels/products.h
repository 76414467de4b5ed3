// Small matrix products whose sums stay in registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace torchbrush::kernels {
namespace {

struct FloatProduct {
  using Element = float;
  static constexpr int kPair = 1;
  static constexpr bool kRough = false;
  using Factor = Floats;
  static Factor Row(const float* from) { return Load(from); }
  static Factor Spread(const float* from) { return Splat(*from); }
  static Floats Add(Floats sum, Factor a, Factor b) { return sum + a * b; }
};

#if defined(__AVX512BF16__)
struct Bf16Product {
  using Element = Bf16;
  static constexpr int kPair = 2;
  static constexpr bool kRough = true;
  using Factor = __m512i;
  static Factor Row(const Bf16* from) { return _mm512_loadu_si512(from); }
  static Factor Spread(const Bf16* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static Floats Add(Floats sum, Factor a, Factor b) {
    return reinterpret_cast<Floats>(_mm512_dpbf16_ps(
        reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
  }
};
#endif

constexpr bool kWide = kLanes == 16;
// Columns of a panel of packed factors, [steps][kPanel][pair].
constexpr int kPanelVectors = kWide ? 4 : 2;
constexpr int kPanel = kPanelVectors * kLanes;
constexpr int kMostVectors = kWide ? 5 : 3;

// Rows of a tile of so many vectors, as many as there are registers for.
constexpr int TileRows(int vectors) {
  constexpr int kWideRows[] = {0, 14, 12, 8, 6, 5};
  constexpr int kNarrowRows[] = {0, 10, 6, 4};
  return kWide ? kWideRows[vectors] : kNarrowRows[vectors < 4 ? vectors : 0];
}

// c[rows, vectors] (+)= a[rows, steps pairs] · b[steps, …]; `b_step` elements from step to step.
template <class Product, int kRows, int kVectors>
inline void Tile(const typename Product::Element* a, int64_t a_stride, const typename Product::Element* b,
                 int64_t b_step, int64_t steps, float* c, int64_t c_stride, bool add) {
  Floats sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[r][v] = add ? Load(c + r * c_stride + v * kLanes) : Zero();
  }
  for (int64_t step = 0; step < steps; ++step) {
    typename Product::Factor columns[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) columns[v] = Product::Row(b + v * kLanes * Product::kPair);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto value = Product::Spread(a + r * a_stride);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Product::Add(sums[r][v], columns[v], value);
    }
    a += Product::kPair;
    b += b_step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(c + r * c_stride + v * kLanes, sums[r][v]);
  }
}

// The tile for `rows`, which are at most kRows.
template <class Product, int kRows, int kVectors>
inline void LastTile(const typename Product::Element* a, int64_t a_stride, int64_t rows,
                     const typename Product::Element* b, int64_t b_step, int64_t steps, float* c,
                     int64_t c_stride, bool add) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return Tile<Product, kRows, kVectors>(a, a_stride, b, b_step, steps, c, c_stride, add);
    LastTile<Product, kRows - 1, kVectors>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
  }
}

template <class Product, int kVectors>
inline void Columns(const typename Product::Element* a, int64_t a_stride, int64_t rows,
                    const typename Product::Element* b, int64_t b_step, int64_t steps, float* c,
                    int64_t c_stride, bool add) {
  constexpr int kRows = TileRows(kVectors);
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    Tile<Product, kRows, kVectors>(a + row * a_stride, a_stride, b, b_step, steps, c + row * c_stride,
                                   c_stride, add);
  }
  LastTile<Product, kRows - 1, kVectors>(a + row * a_stride, a_stride, rows - row, b, b_step, steps,
                                         c + row * c_stride, c_stride, add);
}

template <class Product>
void AnyColumns(int vectors, const typename Product::Element* a, int64_t a_stride, int64_t rows,
                const typename Product::Element* b, int64_t b_step, int64_t steps, float* c, int64_t c_stride,
                bool add) {
  switch (vectors) {
    case 1:
      return Columns<Product, 1>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
    case 2:
      return Columns<Product, 2>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
    case 3:
      return Columns<Product, 3>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
#if defined(__AVX512F__)
    case 4:
      return Columns<Product, 4>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
    default:
      return Columns<Product, 5>(a, a_stride, rows, b, b_step, steps, c, c_stride, add);
#endif
  }
}

inline int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace
}  // namespace torchbrush::kernels
