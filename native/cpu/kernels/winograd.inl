// 3×3 convolutions as products of transformed tiles and transformed weights (see kernels.h).
//
// Weights are packed as [panel][position][in_channels/pair][panel width][pair], where a panel is up to
// kPanel output channels and a position one of the sixteen of a transformed tile.
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

  static int64_t PackedBytes(int64_t in_channels, int64_t out_channels) {
    return kPositions * in_channels * out_channels * sizeof(Element);
  }

  static int64_t Panels(int64_t out_channels) { return (out_channels + kPanel - 1) / kPanel; }

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

  static void Pack(const void* weights, int64_t start, int64_t in_channels, int64_t out_channels,
                   int64_t first, int64_t last, void* packed) {
    constexpr int64_t kKernelBytes = 9 * sizeof(Element);
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t width = std::min<int64_t>(kPanel, out_channels - panel * kPanel);
      auto* to = static_cast<Element*>(packed) + panel * kPanel * kPositions * in_channels;
      const auto* from =
          static_cast<const char*>(weights) + (panel * kPanel - start) * in_channels * kKernelBytes;
      for (int64_t c = 0; c < in_channels; c += kPair, to += width * kPair) {
        // The kernels of all columns, side by side.
        float side[kPair][9][kPanel];
        for (int64_t column = 0; column < width; ++column) {
          Element kernels[kPair][9];
          std::memcpy(kernels, from + (column * in_channels + c) * kKernelBytes, sizeof kernels);
          for (int pair = 0; pair < kPair; ++pair) {
            for (int i = 0; i < 9; ++i) side[pair][i][column] = Number(kernels[pair][i]);
          }
        }
        for (int64_t column = 0; column < width; column += kLanes) {
          Floats u[kPair][16];
          for (int pair = 0; pair < kPair; ++pair) {
            Floats g[9];
            for (int i = 0; i < 9; ++i) g[i] = Load(side[pair][i] + column);
            TransformWeights(g, u[pair]);
          }
          for (int i = 0; i < kPositions; ++i) {
            Floats values[kPair];
            for (int pair = 0; pair < kPair; ++pair) values[pair] = u[pair][i];
            StorePair(to + i * in_channels * width + column * kPair, values);
          }
        }
      }
    }
  }

  static int64_t Tiles(const ConvolutionShape& shape) {
    return shape.batch * ((shape.height + 1) / 2) * ((shape.width + 1) / 2);
  }

  static int64_t TransformedElements(int64_t tiles, int64_t in_channels) {
    return kPositions * (tiles + kRowSlack) * in_channels;
  }

  static int64_t ScratchBytes(int64_t tiles, int64_t in_channels) {
    return RoundUp(TransformedElements(tiles, in_channels) * sizeof(Element), 64) +
           RoundUp(in_channels * sizeof(Element), 64) + kPositions * (tiles + kRowSlack) * kPanel * 4;
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

  static void Run(const void* x, const ConvolutionShape& shape, const void* packed, const float* bias,
                  const void* addend, int64_t first, int64_t count, void* out, void* scratch) {
    const int64_t channels = shape.in_channels;
    auto* transformed = static_cast<Element*>(scratch);
    auto* zeros = reinterpret_cast<Element*>(
        static_cast<char*>(scratch) + RoundUp(TransformedElements(count, channels) * sizeof(Element), 64));
    auto* products =
        reinterpret_cast<float*>(reinterpret_cast<char*>(zeros) + RoundUp(channels * sizeof(Element), 64));
    std::memset(zeros, 0, channels * sizeof(Element));
    const int64_t step = (count + kRowSlack) * channels;
    for (int64_t tile = 0; tile < count; ++tile) {
      TransformTile(static_cast<const Element*>(x), shape, PlaceOf(shape, first + tile), zeros,
                    transformed + tile * channels, step);
    }
    const int64_t product_step = (count + kRowSlack) * kPanel;
    for (int64_t panel = 0; panel < Panels(shape.out_channels); ++panel) {
      const int64_t width = std::min<int64_t>(kPanel, shape.out_channels - panel * kPanel);
      const auto* weights = static_cast<const Element*>(packed) + panel * kPanel * kPositions * channels;
      for (int position = 0; position < kPositions; ++position) {
        AnyColumns<Product>(static_cast<int>(width / kLanes), transformed + position * step, channels, count,
                            weights + position * channels * width, width * kPair, channels / kPair,
                            products + position * product_step, kPanel, false);
      }
      for (int64_t tile = 0; tile < count; ++tile) {
        FinishTile(products + tile * kPanel, product_step, shape, PlaceOf(shape, first + tile),
                   panel * kPanel, width, bias, static_cast<const Element*>(addend),
                   static_cast<Element*>(out));
      }
    }
  }

  static constexpr Winograd kTable{kLanes, kPanel, PackedBytes, Panels, Pack, Tiles, ScratchBytes, Run};
};

}  // namespace
}  // namespace torchbrush::kernels
