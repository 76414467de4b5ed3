// The two passes of a group normalisation over rows of channels.
#pragma once

#include "kernels.h"
#include "vectors.h"

namespace torchbrush::kernels {
namespace {

template <class Element>
struct GroupNormOf {
  static void Moments(const void* from, const float* addend, int64_t rows, int64_t channels,
                      const float* shift, float* sum, float* squares) {
    const auto* x = static_cast<const Element*>(from);
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Floats offset = addend == nullptr ? Load(shift + c) : Load(shift + c) - Load(addend + c);
      Floats s = Zero();
      Floats q = Zero();
      for (int64_t row = 0; row < rows; ++row) {
        const Floats value = Load(x + row * channels + c) - offset;
        s += value;
        q += value * value;
      }
      Store(sum + c, s);
      Store(squares + c, q);
    }
    for (; c < channels; ++c) {
      const float offset = addend == nullptr ? shift[c] : shift[c] - addend[c];
      float s = 0;
      float q = 0;
      for (int64_t row = 0; row < rows; ++row) {
        const float value = Number(x[row * channels + c]) - offset;
        s += value;
        q += value * value;
      }
      sum[c] = s;
      squares[c] = q;
    }
  }

  template <bool kSilu>
  static Floats Activate(Floats value) {
    return kSilu ? Silu(value) : value;
  }

  template <bool kSilu>
  static void Rows(const Element* x, const float* factor, const float* offset, int64_t rows, int64_t channels,
                   Element* out) {
    const int64_t whole = channels / kLanes * kLanes;
    for (int64_t row = 0; row < rows; ++row, x += channels, out += channels) {
      for (int64_t c = 0; c < whole; c += kLanes) {
        Store(out + c, Activate<kSilu>(Load(x + c) * Load(factor + c) + Load(offset + c)));
      }
      if (whole == channels) continue;
      float rest[kLanes] = {};
      for (int64_t c = whole; c < channels; ++c) rest[c - whole] = Number(x[c]) * factor[c] + offset[c];
      Element done[kLanes];
      Store(done, Activate<kSilu>(Load(rest)));
      std::memcpy(out + whole, done, (channels - whole) * sizeof(Element));
    }
  }

  static void Apply(const void* from, const float* factor, const float* offset, int64_t rows,
                    int64_t channels, bool silu, void* to) {
    const auto* x = static_cast<const Element*>(from);
    auto* out = static_cast<Element*>(to);
    if (silu) {
      Rows<true>(x, factor, offset, rows, channels, out);
    } else {
      Rows<false>(x, factor, offset, rows, channels, out);
    }
  }

  static float At(const void* x, int64_t index) { return Number(static_cast<const Element*>(x)[index]); }

  static constexpr GroupNorm kTable{Moments, Apply, At};
};

}  // namespace
}  // namespace torchbrush::kernels
