// Layer normalisation and GEGLU, row by row.
#pragma once

#include <cmath>

#include "kernels.h"
#include "vectors.h"

namespace torchbrush::kernels {
namespace {

template <class Element>
struct RowsOf {
  static void LayerNorm(const void* from, const void* added, int64_t rows, int64_t channels,
                        const float* weight, const float* bias, float epsilon, void* summed, void* to,
                        float* scratch) {
    const auto* x = static_cast<const Element*>(from);
    const auto* addend = static_cast<const Element*>(added);
    auto* sum = static_cast<Element*>(summed);
    auto* out = static_cast<Element*>(to);
    for (int64_t row = 0; row < rows; ++row) {
      const float mean = Gather(x, addend, channels, sum, scratch) / static_cast<float>(channels);
      const float variance = Spread(scratch, channels, mean) / static_cast<float>(channels);
      Normalise(scratch, channels, mean, 1.0f / std::sqrt(variance + epsilon), weight, bias, out);
      x += channels;
      out += channels;
      if (addend != nullptr) addend += channels;
      if (sum != nullptr) sum += channels;
    }
  }

  static float Gather(const Element* x, const Element* addend, int64_t channels, Element* sum, float* row) {
    Floats total = Zero();
    float rest = 0;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Floats value = addend == nullptr ? Load(x + c) : Load(x + c) + Load(addend + c);
      if (sum != nullptr) Store(sum + c, value);
      Store(row + c, value);
      total += value;
    }
    for (; c < channels; ++c) {
      row[c] = Number(x[c]) + (addend == nullptr ? 0.0f : Number(addend[c]));
      if (sum != nullptr) StoreOne(sum + c, row[c]);
      rest += row[c];
    }
    return Sum(total) + rest;
  }

  static float Spread(const float* row, int64_t channels, float mean) {
    Floats total = Zero();
    float rest = 0;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Floats value = Load(row + c) - mean;
      total += value * value;
    }
    for (; c < channels; ++c) rest += (row[c] - mean) * (row[c] - mean);
    return Sum(total) + rest;
  }

  static void Normalise(const float* row, int64_t channels, float mean, float factor, const float* weight,
                        const float* bias, Element* out) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      Store(out + c, (Load(row + c) - mean) * factor * Load(weight + c) + Load(bias + c));
    }
    for (; c < channels; ++c) StoreOne(out + c, (row[c] - mean) * factor * weight[c] + bias[c]);
  }

  static void GatedGelu(const void* from, int64_t rows, int64_t channels, void* to) {
    const auto* x = static_cast<const Element*>(from);
    auto* out = static_cast<Element*>(to);
    for (int64_t row = 0; row < rows; ++row, x += 2 * channels, out += channels) {
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) {
        Store(out + c, Load(x + c) * Gelu(Load(x + channels + c)));
      }
      for (; c < channels; ++c) {
        StoreOne(out + c, Number(x[c]) * Gelu(Splat(Number(x[channels + c])))[0]);
      }
    }
  }

  static void ScaledSilu(const void* from, int64_t count, float factor, void* to) {
    const auto* x = static_cast<const Element*>(from);
    auto* out = static_cast<Element*>(to);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) Store(out + i, Silu(Load(x + i), factor));
    for (; i < count; ++i) StoreOne(out + i, Silu(Splat(Number(x[i])), factor)[0]);
  }

  static constexpr Rows kTable{LayerNorm, GatedGelu, ScaledSilu};
};

}  // namespace
}  // namespace torchbrush::kernels
