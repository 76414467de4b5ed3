// 3×3 convolutions as products of transformed tiles and transformed weights (see kernels.h).
//
// A panel is PanelOf output channels or what is left of them, a position one of the sixteen of a transformed
// tile. Weights are packed as [panel][position][in_channels/pair][panel width][pair], transformed, or as
// [panel][in_channels/pair][9][panel width][pair], to be transformed whenever they are used.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "products.h"

namespace torchbrush::kernels {
namespace {

template <class Product>
struct WinogradOf {
  using Element = typename Product::Element;
  static constexpr int kPair = Product::kPair;
  static constexpr int kPositions = 16;

  static constexpr int kPlaces = 9;  // Of a kernel.

  static int64_t PackedBytes(int64_t in_channels, int64_t out_channels, bool transformed) {
    return (transformed ? kPositions : kPlaces) * in_channels * out_channels * sizeof(Element);
  }

  static constexpr int kWidest = kMostVectors * kLanes;

  // What leaves no narrow panel behind, if there is a choice.
  static int64_t PanelOf(int64_t out_channels) {
    return out_channels % kPanel != 0 && out_channels % kWidest == 0 ? kWidest : kPanel;
  }

  // G·g·Gᵀ
  static void TransformWeights(const Floats (&g)[9], Floats (&u)[16]) {
    Floats rows[4][3];
    for (int j = 0; j < 3; ++j) {
      const Floats even = 0.5f * (g[j] + g[6 + j]);
      const Floats odd = 0.5f * g[3 + j];
      rows[0][j] = g[j];
      rows[1][j] = even + odd;
      rows[2][j] = even - odd;
      rows[3][j] = g[6 + j];
    }
    for (int i = 0; i < 4; ++i) {
      const Floats even = 0.5f * (rows[i][0] + rows[i][2]);
      const Floats odd = 0.5f * rows[i][1];
      u[4 * i] = rows[i][0];
      u[4 * i + 1] = even + odd;
      u[4 * i + 2] = even - odd;
      u[4 * i + 3] = rows[i][2];
    }
  }

  static void StorePair(float* to, const Floats (&values)[1]) { Store(to, values[0]); }

  static void StorePair(Bf16* to, const Floats (&values)[2]) {
    const Words low = __builtin_convertvector(Rounded(values[0]), Words);
    const Words high = __builtin_convertvector(Rounded(values[1]), Words);
    const Words both = low | (high << 16);
    std::memcpy(to, &both, sizeof both);
  }

  // Puts the kernels of a panel for kPair input channels side by side: [kPlaces][width][kPair].
  static void Gather(const char* from, int64_t in_channels, int64_t width, Element* to) {
    for (int64_t column = 0; column < width; ++column) {
      Element kernels[kPair][kPlaces];
      std::memcpy(kernels, from + column * in_channels * kPlaces * sizeof(Element), sizeof kernels);
      for (int i = 0; i < kPlaces; ++i) {
        for (int pair = 0; pair < kPair; ++pair) to[(i * width + column) * kPair + pair] = kernels[pair][i];
      }
    }
  }

  static void Separate(const float* from, Floats (&values)[1]) { values[0] = Load(from); }

  static void Separate(const Bf16* from, Floats (&values)[2]) {
    Words both;
    std::memcpy(&both, from, sizeof both);
    values[0] = reinterpret_cast<Floats>(both << 16);
    values[1] = reinterpret_cast<Floats>(both & 0xffff0000u);
  }

  // Transforms the kernels that lie at `from`, kPlaces rows of `width` pairs, into one row of each position.
  static void TransformColumns(const Element* from, int64_t width, Element* to, int64_t step) {
    for (int64_t column = 0; column < width; column += kLanes) {
      Floats g[kPair][kPlaces];
#pragma GCC unroll 9
      for (int i = 0; i < kPlaces; ++i) {
        Floats values[kPair];
        Separate(from + (i * width + column) * kPair, values);
#pragma GCC unroll 2
        for (int pair = 0; pair < kPair; ++pair) g[pair][i] = values[pair];
      }
      Floats u[kPair][kPositions];
#pragma GCC unroll 2
      for (int pair = 0; pair < kPair; ++pair) TransformWeights(g[pair], u[pair]);
#pragma GCC unroll 16
      for (int i = 0; i < kPositions; ++i) {
        Floats values[kPair];
#pragma GCC unroll 2
        for (int pair = 0; pair < kPair; ++pair) values[pair] = u[pair][i];
        StorePair(to + i * step + column * kPair, values);
      }
    }
  }

  static void Pack(const void* weights, int64_t start, int64_t in_channels, int64_t out_channels,
                   int64_t first, int64_t last, bool transformed, void* packed) {
    const int64_t full = PanelOf(out_channels);
    const int64_t panel_elements = PackedBytes(in_channels, full, transformed) / sizeof(Element);
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t width = std::min(full, out_channels - panel * full);
      auto* to = static_cast<Element*>(packed) + panel * panel_elements;
      const auto* from = static_cast<const char*>(weights) +
                         (panel * full - start) * in_channels * kPlaces * sizeof(Element);
      for (int64_t c = 0; c < in_channels; c += kPair, from += kPair * kPlaces * sizeof(Element)) {
        if (!transformed) {
          Gather(from, in_channels, width, to + c * kPlaces * width);
          continue;
        }
        Element kernels[kPlaces * kWidest * kPair];
        Gather(from, in_channels, width, kernels);
        TransformColumns(kernels, width, to + c * width, in_channels * width);
      }
    }
  }

  static int64_t Tiles(const ConvolutionShape& shape) {
    return shape.batch * ((shape.height + 1) / 2) * ((shape.width + 1) / 2);
  }

  static int64_t TileBytes(int64_t tiles, int64_t in_channels) {
    return RoundUp(kPositions * tiles * in_channels * sizeof(Element), 64);
  }

  // Input channels whose transformed weights stay in the cache, beside the products.
  static constexpr int64_t kChunk = 1024 / sizeof(Element);

  static int64_t ScratchBytes(int64_t tiles, bool transformed) {
    const int64_t products = kPositions * tiles * kWidest * sizeof(float);
    return products + (transformed ? 0 : kPositions * kChunk * kWidest * sizeof(Element));
  }

  // Where a tile's first pixel of the result lies.
  struct Place {
    int64_t picture, row, column;
  };

  static Place PlaceOf(const ConvolutionShape& shape, int64_t tile) {
    const int64_t across = (shape.width + 1) / 2, down = (shape.height + 1) / 2;
    return {tile / (across * down), tile / across % down * 2, tile % across * 2};
  }

  // Bᵀ·d·B for all channels of a tile.
  static void TransformTile(const Element* x, const ConvolutionShape& shape, const Place& place,
                            const Element* zeros, Element* to, int64_t step) {
    const int64_t channels = shape.in_channels;
    const Element* pixels[4][4];
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int64_t row = place.row + i - 1, column = place.column + j - 1;
        const bool inside = row >= 0 && row < shape.height && column >= 0 && column < shape.width;
        const int64_t pixel = (place.picture * shape.height + row) * shape.width + column;
        pixels[i][j] = inside ? x + pixel * channels : zeros;
      }
    }
    for (int64_t c = 0; c < channels; c += kLanes) {
      Floats t[4][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const Floats d0 = Load(pixels[0][j] + c), d1 = Load(pixels[1][j] + c);
        const Floats d2 = Load(pixels[2][j] + c), d3 = Load(pixels[3][j] + c);
        t[0][j] = d0 - d2;
        t[1][j] = d1 + d2;
        t[2][j] = d2 - d1;
        t[3][j] = d1 - d3;
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Element* place_of_row = to + i * 4 * step + c;
        Store(place_of_row, t[i][0] - t[i][2]);
        Store(place_of_row + step, t[i][1] + t[i][2]);
        Store(place_of_row + 2 * step, t[i][2] - t[i][1]);
        Store(place_of_row + 3 * step, t[i][1] - t[i][3]);
      }
    }
  }

  // Aᵀ·m·A for a panel's channels of a tile, with bias and addend.
  static void FinishTile(const float* products, int64_t step, const ConvolutionShape& shape,
                         const Place& place, int64_t channel, int64_t width, const float* bias,
                         const Element* addend, Element* out) {
    int64_t pixels[2][2];
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        const int64_t row = place.row + i, column = place.column + j;
        const int64_t pixel = (place.picture * shape.height + row) * shape.width + column;
        pixels[i][j] = row < shape.height && column < shape.width ? pixel * shape.out_channels + channel : -1;
      }
    }
    for (int64_t c = 0; c < width; c += kLanes) {
      Floats t[2][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const float* from = products + j * step + c;
        const Floats m0 = Load(from), m1 = Load(from + 4 * step);
        const Floats m2 = Load(from + 8 * step), m3 = Load(from + 12 * step);
        t[0][j] = m0 + m1 + m2;
        t[1][j] = m1 - m2 - m3;
      }
      const Floats offset = bias == nullptr ? Zero() : Load(bias + channel + c);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        Floats y[2] = {t[i][0] + t[i][1] + t[i][2] + offset, t[i][1] - t[i][2] - t[i][3] + offset};
        for (int j = 0; j < 2; ++j) {
          if (pixels[i][j] < 0) continue;
          if (addend != nullptr) y[j] += Load(addend + pixels[i][j] + c);
          Store(out + pixels[i][j] + c, y[j]);
        }
      }
    }
  }

  static void Transform(const void* x, const ConvolutionShape& shape, int64_t first, int64_t begin,
                        int64_t end, int64_t count, const void* zeros, void* transformed) {
    const int64_t channels = shape.in_channels;
    for (int64_t tile = begin; tile < end; ++tile) {
      TransformTile(static_cast<const Element*>(x), shape, PlaceOf(shape, first + tile),
                    static_cast<const Element*>(zeros), static_cast<Element*>(transformed) + tile * channels,
                    count * channels);
    }
  }

  static void Multiply(const void* tiles, const ConvolutionShape& shape, const void* packed, bool transformed,
                       int64_t panel, const float* bias, const void* addend, int64_t first, int64_t count,
                       void* out, void* scratch) {
    const int64_t channels = shape.in_channels;
    const int64_t full = PanelOf(shape.out_channels);
    const int64_t width = std::min(full, shape.out_channels - panel * full);
    const auto* weights = static_cast<const Element*>(packed) +
                          panel * PackedBytes(channels, full, transformed) / sizeof(Element);
    auto* products = static_cast<float*>(scratch);
    auto* chunk = reinterpret_cast<Element*>(products + kPositions * count * width);
    const int64_t most = transformed ? channels : kChunk;
    for (int64_t c = 0; c < channels; c += most) {
      const int64_t depth = std::min(most, channels - c);
      if (!transformed) {
        for (int64_t k = 0; k < depth; k += kPair) {
          TransformColumns(weights + (c + k) * kPlaces * width, width, chunk + k * width, depth * width);
        }
      }
      for (int position = 0; position < kPositions; ++position) {
        AnyColumns<Product>(static_cast<int>(width / kLanes),
                            static_cast<const Element*>(tiles) + position * count * channels + c, channels,
                            count, (transformed ? weights : chunk) + position * depth * width, width * kPair,
                            depth / kPair, products + position * count * width, width, c > 0);
      }
    }
    for (int64_t tile = 0; tile < count; ++tile) {
      FinishTile(products + tile * width, count * width, shape, PlaceOf(shape, first + tile), panel * full,
                 width, bias, static_cast<const Element*>(addend), static_cast<Element*>(out));
    }
  }

  static constexpr Winograd kTable{kLanes,    PanelOf,      PackedBytes, Pack,    Tiles,
                                   TileBytes, ScratchBytes, Transform,   Multiply};
};

}  // namespace
}  // namespace torchbrush::kernels
