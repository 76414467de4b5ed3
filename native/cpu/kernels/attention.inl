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
#include "products.h"

namespace torchbrush::kernels {
namespace {

constexpr int kKeyBlock = 256;
constexpr int kQueryBlock = 48;

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

  static int64_t ScratchBytes(int64_t head_size) {
    return kQueryBlock * (head_size * sizeof(Element) + kKeyBlock * (4 + sizeof(Element)) +
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
    scratch.scores = reinterpret_cast<float*>(take(kQueryBlock * kKeyBlock * 4));
    scratch.weights = reinterpret_cast<Element*>(take(kQueryBlock * kKeyBlock * sizeof(Element)));
    scratch.sums = reinterpret_cast<float*>(take(kQueryBlock * PaddedHead(head_size) * 4));
    scratch.queries = reinterpret_cast<Element*>(take(kQueryBlock * head_size * sizeof(Element)));
    scratch.largest = reinterpret_cast<float*>(take(kQueryBlock * 4));
    scratch.total = reinterpret_cast<float*>(take(kQueryBlock * 4));
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

  static void AddMask(float* scores, const float* mask, int64_t width, float factor) {
    for (int64_t i = 0; i < width; i += kLanes) {
      Store(scores + i, Load(scores + i) * factor + Load(mask + i) * kLog2E);
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
    // As long as all keys are masked, nothing is subtracted: their weights are zero.
    const Floats offset = Splat(now == -std::numeric_limits<float>::infinity() ? 0.0f : now);
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
                  int64_t head_size, float scale, const float* mask, int64_t mask_stride, void* out,
                  int64_t out_stride, void* memory) {
    const Scratch scratch = Divide(memory, head_size);
    const auto* q = static_cast<const Element*>(queries);
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(scratch.queries + row * head_size, q + row * query_stride, head_size * sizeof(Element));
      scratch.largest[row] = -std::numeric_limits<float>::infinity();
      scratch.total[row] = 0;
    }
    const auto* packed_keys = static_cast<const Element*>(packed);
    const auto* packed_values = packed_keys + KeyElements(keys, head_size);
    const int64_t width = PaddedHead(head_size);
    std::memset(scratch.sums, 0, rows * width * sizeof(float));
    for (int64_t first = 0; first < keys; first += kKeyBlock) {
      const int64_t count = std::min<int64_t>(kKeyBlock, keys - first);
      Block(scratch, packed_keys + first * head_size, packed_values + first * width, rows, count, head_size,
            scale * kLog2E, mask == nullptr ? nullptr : mask + first, mask_stride);
    }
    auto* to = static_cast<Element*>(out);
    for (int64_t row = 0; row < rows; ++row) Finish(scratch, row, head_size, to + row * out_stride);
  }

  static void Block(const Scratch& scratch, const Element* keys, const Element* values, int64_t rows,
                    int64_t count, int64_t head_size, float factor, const float* mask, int64_t mask_stride) {
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
      if (mask != nullptr) AddMask(scores, mask + row * mask_stride, used, factor);
      for (int64_t i = count; i < used; ++i) scores[i] = -std::numeric_limits<float>::infinity();
      const float shrink = Softmax(scores, scratch.weights + row * kKeyBlock, used,
                                   mask != nullptr ? 1 : factor, scratch.largest[row], scratch.total[row]);
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

  static constexpr Attention kTable{kQueryBlock, PackedBytes, ScratchBytes, Pack, kLanes, Run};
};

}  // namespace
}  // namespace torchbrush::kernels
