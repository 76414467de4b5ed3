// Kernels in which every value is made on its own.
#pragma once

#include "device.h"

namespace torchbrush::kernels {

struct NothingShared {};

inline Grid BlocksFor(int64_t items) { return {(items + kThreads - 1) / kThreads, 1, 1}; }

// The first half of a row times GELU of its second: [rows,2·width] → [rows,width].
template <class T, int kWidth>
struct Geglu {
  static constexpr int kPhases = 1;
  using Shared = NothingShared;

  const T* input;
  T* output;
  int64_t packs;      // Of the output.
  int64_t row_packs;  // Of a row of the output.

  TORCHBRUSH_DEVICE void Phase(int, const Place& place, Shared&) const {
    const int64_t pack = place.x * kThreads + place.thread;
    if (pack >= packs) return;
    const int64_t row = pack / row_packs;
    const T* at = input + (row * row_packs + pack) * kWidth;
    float values[kWidth];
    float gates[kWidth];
    Load<T, kWidth>(at, values);
    Load<T, kWidth>(at + row_packs * kWidth, gates);
    for (int i = 0; i < kWidth; ++i) values[i] *= Gelu(gates[i]);
    Store<T, kWidth>(values, output + pack * kWidth);
  }
};

// a + b + bias of the channel, for values whose channels lie innermost, [rows,C].
template <class T, int kWidth>
struct AddBias {
  static constexpr int kPhases = 1;
  using Shared = NothingShared;

  const T* a;
  const T* b;
  const T* bias;
  T* output;
  int64_t packs;
  int64_t row_packs;

  TORCHBRUSH_DEVICE void Phase(int, const Place& place, Shared&) const {
    const int64_t pack = place.x * kThreads + place.thread;
    if (pack >= packs) return;
    float sums[kWidth];
    float others[kWidth];
    float biases[kWidth];
    Load<T, kWidth>(a + pack * kWidth, sums);
    Load<T, kWidth>(b + pack * kWidth, others);
    Load<T, kWidth>(bias + pack % row_packs * kWidth, biases);
    for (int i = 0; i < kWidth; ++i) sums[i] += others[i] + biases[i];
    Store<T, kWidth>(sums, output + pack * kWidth);
  }
};

enum class Kind : int { kFloat, kHalf, kBFloat16, kDouble };

// Σ coefficients[k]·terms[k] in float64, as on the CPU: between noise levels far apart, terms ten
// thousand times as large as their sum cancel. Guidance and the schedulers' steps are such sums.
struct LinearCombination {
  static constexpr int kPhases = 1;
  static constexpr int kMostTerms = 8;
  using Shared = NothingShared;

  const void* terms[kMostTerms];
  Kind kinds[kMostTerms];
  double coefficients[kMostTerms];
  int count;
  void* output;
  Kind kind;
  int64_t size;

  TORCHBRUSH_DEVICE static double Read(const void* from, Kind kind, int64_t i) {
    switch (kind) {
      case Kind::kHalf:
        return static_cast<float>(static_cast<const c10::Half*>(from)[i]);
      case Kind::kBFloat16:
        return static_cast<float>(static_cast<const c10::BFloat16*>(from)[i]);
      case Kind::kDouble:
        return static_cast<const double*>(from)[i];
      default:
        return static_cast<const float*>(from)[i];
    }
  }

  TORCHBRUSH_DEVICE static void Write(double value, Kind kind, void* to, int64_t i) {
    switch (kind) {
      case Kind::kHalf:
        static_cast<c10::Half*>(to)[i] = static_cast<float>(value);
        break;
      case Kind::kBFloat16:
        static_cast<c10::BFloat16*>(to)[i] = static_cast<float>(value);
        break;
      case Kind::kDouble:
        static_cast<double*>(to)[i] = value;
        break;
      default:
        static_cast<float*>(to)[i] = static_cast<float>(value);
    }
  }

  TORCHBRUSH_DEVICE void Phase(int, const Place& place, Shared&) const {
    const int64_t i = place.x * kThreads + place.thread;
    if (i >= size) return;
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += coefficients[k] * Read(terms[k], kinds[k], i);
    Write(sum, kind, output, i);
  }
};

}  // namespace torchbrush::kernels
