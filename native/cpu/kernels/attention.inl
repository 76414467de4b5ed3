// Attention in blocks that stay in the cache, with the running maximum and sum of "FlashAttention"
// (Dao et al., https://arxiv.org/abs/2205.14135). Scores and their softmax are float32.
//
// Keys are packed in panels of kPanel columns, [head_size/kPair][kPanel][kPair]; values in blocks of
// kKeyBlock rows, [rows/kPair][padded head size][kPair]. A pair is what one instruction multiplies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels.h"
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
constexpr int kPanelVectors = kWide ? 4 : 2;
constexpr int kPanel = kPanelVectors * kLanes;
constexpr int kKeyBlock = 256;
constexpr int kQueryBlock = 48;
constexpr int kRowSlack = 16;  // Tiles may reach this far beyond the last row.
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

template <class Product, int kVectors>
inline void Columns(const typename Product::Element* a, int64_t a_stride, int64_t rows,
                    const typename Product::Element* b, int64_t b_step, int64_t steps, float* c,
                    int64_t c_stride, bool add) {
  constexpr int kRows = TileRows(kVectors);
  for (int64_t row = 0; row < rows; row += kRows) {
    Tile<Product, kRows, kVectors>(a + row * a_stride, a_stride, b, b_step, steps, c + row * c_stride,
                                   c_stride, add);
  }
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

// How many of `vectors` the next group takes: even groups are better than full ones and a rest.
inline int NextGroup(int64_t vectors) {
  const int64_t groups = (vectors + kMostVectors - 1) / kMostVectors;
  return static_cast<int>((vectors + groups - 1) / groups);
}

template <class Product>
struct AttentionOf {
  using Element = typename Product::Element;
  static constexpr int kPair = Product::kPair;

  static int64_t PaddedHead(int64_t head_size) { return RoundUp(head_size, kLanes); }
  static int64_t PaddedKeys(int64_t keys) { return RoundUp(keys, kPanel); }
  static int64_t KeyElements(int64_t keys, int64_t head_size) { return PaddedKeys(keys) * head_size; }

  static int64_t PackedBytes(int64_t keys, int64_t head_size) {
    const int64_t elements = KeyElements(keys, head_size) + PaddedKeys(keys) * PaddedHead(head_size);
    return RoundUp(elements * sizeof(Element), 64);
  }

  struct Scratch {
    Element* queries;  // [rows, head_size]
    float* scores;     // [rows, kKeyBlock]
    Element* weights;  // [rows, kKeyBlock]
    float* sums;       // [rows, padded head size]
    float* largest;    // [rows]
    float* total;      // [rows]
  };

  static constexpr int64_t kRows = kQueryBlock + kRowSlack;

  static int64_t ScratchBytes(int64_t head_size) {
    return kRows * (head_size * sizeof(Element) + kKeyBlock * (4 + sizeof(Element)) +
                    PaddedHead(head_size) * 4 + 8) +
           6 * 64;
  }

  static Scratch Divide(void* memory, int64_t head_size) {
    auto* next = static_cast<char*>(memory);
    const auto take = [&](int64_t bytes) {
      char* taken = next;
      next += RoundUp(bytes, 64);
      return taken;
    };
    Scratch scratch;
    scratch.scores = reinterpret_cast<float*>(take(kRows * kKeyBlock * 4));
    scratch.weights = reinterpret_cast<Element*>(take(kRows * kKeyBlock * sizeof(Element)));
    scratch.sums = reinterpret_cast<float*>(take(kRows * PaddedHead(head_size) * 4));
    scratch.queries = reinterpret_cast<Element*>(take(kRows * head_size * sizeof(Element)));
    scratch.largest = reinterpret_cast<float*>(take(kRows * 4));
    scratch.total = reinterpret_cast<float*>(take(kRows * 4));
    return scratch;
  }

  static void Pack(const void* keys, int64_t key_stride, const void* values, int64_t value_stride,
                   int64_t count, int64_t head_size, void* packed) {
    const auto* k = static_cast<const Element*>(keys);
    const auto* v = static_cast<const Element*>(values);
    auto* packed_keys = static_cast<Element*>(packed);
    auto* packed_values = packed_keys + KeyElements(count, head_size);
    const int64_t padded = PaddedKeys(count);
    for (int64_t key = 0; key < padded; ++key) {
      Element* to = packed_keys + (key / kPanel) * kPanel * head_size + (key % kPanel) * kPair;
      for (int64_t i = 0; i < head_size; i += kPair) {
        for (int e = 0; e < kPair; ++e) to[e] = key < count ? k[key * key_stride + i + e] : Element(0);
        to += kPanel * kPair;
      }
    }
    const int64_t width = PaddedHead(head_size);
    for (int64_t key = 0; key < padded; key += kPair) {
      Element* to = packed_values + key * width;
      for (int64_t i = 0; i < width; ++i) {
        for (int e = 0; e < kPair; ++e) {
          const bool inside = i < head_size && key + e < count;
          to[i * kPair + e] = inside ? v[(key + e) * value_stride + i] : Element(0);
        }
      }
    }
  }

  // Turns the scores of one row into weights; gives by how much what was summed so far shrinks.
  static float Softmax(float* scores, Element* weights, int64_t width, float factor, float& largest,
                       float& total) {
    Floats top = Load(scores);
    for (int64_t i = kLanes; i < width; i += kLanes) top = Max(top, Load(scores + i));
    const float before = largest;
    const float now = std::max(before, Largest(top) * factor);
    Floats sum = Zero();
    const Floats offset = Splat(now);
    for (int64_t i = 0; i < width; i += kLanes) {
      const Floats weight = Exp2<Product::kRough>(Load(scores + i) * factor - offset);
      sum += weight;
      Store(weights + i, weight);
    }
    largest = now;
    const float shrink = before == now ? 1.0f : std::exp2(before - now);
    total = total * shrink + Sum(sum);
    return shrink;
  }

  static void Run(const void* queries, int64_t query_stride, int64_t rows, const void* packed, int64_t keys,
                  int64_t head_size, float scale, void* out, int64_t out_stride, void* memory) {
    const Scratch scratch = Divide(memory, head_size);
    const auto* q = static_cast<const Element*>(queries);
    for (int64_t row = 0; row < kRows; ++row) {
      Element* to = scratch.queries + row * head_size;
      if (row < rows) {
        std::memcpy(to, q + row * query_stride, head_size * sizeof(Element));
      } else {
        std::memset(to, 0, head_size * sizeof(Element));
      }
      scratch.largest[row] = -std::numeric_limits<float>::infinity();
      scratch.total[row] = 0;
    }
    // Rows beyond the last one are multiplied too; they must hold numbers.
    std::memset(scratch.weights, 0, kRows * kKeyBlock * sizeof(Element));
    const auto* packed_keys = static_cast<const Element*>(packed);
    const auto* packed_values = packed_keys + KeyElements(keys, head_size);
    const int64_t width = PaddedHead(head_size);
    std::memset(scratch.sums, 0, kRows * width * sizeof(float));
    for (int64_t first = 0; first < keys; first += kKeyBlock) {
      const int64_t count = std::min<int64_t>(kKeyBlock, keys - first);
      Block(scratch, packed_keys + first * head_size, packed_values + first * width, rows, count, head_size,
            scale * kLog2E);
    }
    auto* to = static_cast<Element*>(out);
    for (int64_t row = 0; row < rows; ++row) Finish(scratch, row, head_size, to + row * out_stride);
  }

  static void Block(const Scratch& scratch, const Element* keys, const Element* values, int64_t rows,
                    int64_t count, int64_t head_size, float factor) {
    const int64_t steps = head_size / kPair;
    const int64_t used = RoundUp(count, kLanes);
    for (int64_t column = 0; column < used; column += kPanel) {
      const int vectors = static_cast<int>(std::min<int64_t>(kPanel, used - column) / kLanes);
      AnyColumns<Product>(vectors, scratch.queries, head_size, rows, keys + column * head_size,
                          kPanel * kPair, steps, scratch.scores + column, kKeyBlock, false);
    }
    const int64_t width = PaddedHead(head_size);
    for (int64_t row = 0; row < rows; ++row) {
      float* scores = scratch.scores + row * kKeyBlock;
      for (int64_t i = count; i < used; ++i) scores[i] = -std::numeric_limits<float>::infinity();
      const float shrink = Softmax(scores, scratch.weights + row * kKeyBlock, used, factor,
                                   scratch.largest[row], scratch.total[row]);
      if (shrink == 1.0f) continue;
      float* sums = scratch.sums + row * width;
      for (int64_t i = 0; i < width; i += kLanes) Store(sums + i, Load(sums + i) * shrink);
    }
    int vectors = 0;
    for (int64_t column = 0; column < width; column += vectors * kLanes) {
      vectors = NextGroup((width - column) / kLanes);
      AnyColumns<Product>(vectors, scratch.weights, kKeyBlock, rows, values + column * kPair, width * kPair,
                          used / kPair, scratch.sums + column, width, true);
    }
  }

  static void Finish(const Scratch& scratch, int64_t row, int64_t head_size, Element* out) {
    const int64_t width = PaddedHead(head_size);
    const float factor = 1.0f / scratch.total[row];
    float* sums = scratch.sums + row * width;
    int64_t i = 0;
    for (; i + kLanes <= head_size; i += kLanes) Store(out + i, Load(sums + i) * factor);
    if (i == head_size) return;
    Element rest[kLanes];
    Store(rest, Load(sums + i) * factor);
    std::memcpy(out + i, rest, (head_size - i) * sizeof(Element));
  }

  static constexpr Attention kTable{kQueryBlock, PackedBytes, ScratchBytes, Pack, Run};
};

}  // namespace
}  // namespace torchbrush::kernels
