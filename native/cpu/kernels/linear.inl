// x·wᵀ + bias for few rows, where setting up a larger library's product takes as long as the product.
//
// Weights are packed as [panel][in/pair][panel width][pair], where a panel is up to kPanel columns.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "products.h"

namespace torchbrush::kernels {
namespace {

template <class Product>
struct LinearOf {
  using Element = typename Product::Element;
  static constexpr int kPair = Product::kPair;
  static constexpr int64_t kRowBlock = 48;

  static int64_t PackedBytes(int64_t in, int64_t out) { return in * out * sizeof(Element); }
  static int64_t Panels(int64_t out) { return (out + kPanel - 1) / kPanel; }
  static int64_t ScratchBytes() { return kRowBlock * kPanel * sizeof(float); }

  static void Pack(const void* weights, int64_t start, int64_t in, int64_t out, int64_t first, int64_t last,
                   void* packed) {
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t width = std::min<int64_t>(kPanel, out - panel * kPanel);
      const char* from = static_cast<const char*>(weights) + (panel * kPanel - start) * in * sizeof(Element);
      Element* to = static_cast<Element*>(packed) + panel * kPanel * in;
      for (int64_t i = 0; i < in; i += kPair) {
        for (int64_t column = 0; column < width; ++column, to += kPair) {
          std::memcpy(to, from + (column * in + i) * sizeof(Element), kPair * sizeof(Element));
        }
      }
    }
  }

  static void Run(const void* x, int64_t rows, const void* packed, int64_t in, int64_t out, int64_t panel,
                  const float* bias, void* y, void* scratch) {
    const int64_t width = std::min<int64_t>(kPanel, out - panel * kPanel);
    const auto* weights = static_cast<const Element*>(packed) + panel * kPanel * in;
    auto* products = static_cast<float*>(scratch);
    for (int64_t row = 0; row < rows; row += kRowBlock) {
      const int64_t count = std::min(kRowBlock, rows - row);
      AnyColumns<Product>(static_cast<int>(width / kLanes), static_cast<const Element*>(x) + row * in, in,
                          count, weights, width * kPair, in / kPair, products, kPanel, false);
      for (int64_t column = 0; column < width; column += kLanes) {
        const Floats offset = bias == nullptr ? Zero() : Load(bias + panel * kPanel + column);
        auto* to = static_cast<Element*>(y) + row * out + panel * kPanel + column;
        for (int64_t i = 0; i < count; ++i) {
          Store(to + i * out, Load(products + i * kPanel + column) + offset);
        }
      }
    }
  }

  static constexpr Linear kTable{kPair, kLanes, kPanel, PackedBytes, Panels, ScratchBytes, Pack, Run};
};

}  // namespace
}  // namespace torchbrush::kernels
