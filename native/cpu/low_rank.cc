#include "low_rank.h"

#include <algorithm>

namespace torchbrush {
namespace {

constexpr int64_t kWidth = 16;
constexpr int64_t kRanks = 64;  // At a time: so many lines of `down` stay in the nearest cache.

using Lanes = float __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// The loader picks the one for the processor.
#define TORCHBRUSH_FOR_EACH_PROCESSOR \
  __attribute__((target_clones("avx512f", "fma", "default"), optimize("O3,fp-contract=fast")))
#else
#define TORCHBRUSH_FOR_EACH_PROCESSOR
#endif

// kWidth columns; `down` is [ranks, kWidth], `up` and `sum` have rows that far apart.
TORCHBRUSH_FOR_EACH_PROCESSOR
void AddTile(float* sum, int64_t columns, const float* up, int64_t rank, const float* down, int64_t rows,
             int64_t ranks) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    float* to = sum + row * columns;
    const float* from = up + row * rank;
    Lanes a = *reinterpret_cast<const Lanes*>(to);
    Lanes b = *reinterpret_cast<const Lanes*>(to + columns);
    Lanes c = *reinterpret_cast<const Lanes*>(to + 2 * columns);
    Lanes d = *reinterpret_cast<const Lanes*>(to + 3 * columns);
    for (int64_t r = 0; r < ranks; ++r) {
      const Lanes line = *reinterpret_cast<const Lanes*>(down + r * kWidth);
      a += from[r] * line;
      b += from[rank + r] * line;
      c += from[2 * rank + r] * line;
      d += from[3 * rank + r] * line;
    }
    *reinterpret_cast<Lanes*>(to) = a;
    *reinterpret_cast<Lanes*>(to + columns) = b;
    *reinterpret_cast<Lanes*>(to + 2 * columns) = c;
    *reinterpret_cast<Lanes*>(to + 3 * columns) = d;
  }
  for (; row < rows; ++row) {
    float* to = sum + row * columns;
    Lanes a = *reinterpret_cast<const Lanes*>(to);
    for (int64_t r = 0; r < ranks; ++r) {
      a += up[row * rank + r] * *reinterpret_cast<const Lanes*>(down + r * kWidth);
    }
    *reinterpret_cast<Lanes*>(to) = a;
  }
}

}  // namespace

void AddLowRank(float* sum, const float* up, const float* down, int64_t rows, int64_t rank, int64_t columns) {
  alignas(64) float lines[kRanks * kWidth];
  for (int64_t first = 0; first < rank; first += kRanks) {
    const int64_t ranks = std::min(kRanks, rank - first);
    int64_t column = 0;
    for (; column + kWidth <= columns; column += kWidth) {
      for (int64_t r = 0; r < ranks; ++r) {
        std::copy_n(down + (first + r) * columns + column, kWidth, lines + r * kWidth);
      }
      AddTile(sum + column, columns, up + first, rank, lines, rows, ranks);
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t rest = column; rest < columns; ++rest) {
        for (int64_t r = first; r < first + ranks; ++r) {
          sum[row * columns + rest] += up[row * rank + r] * down[r * columns + rest];
        }
      }
    }
  }
}

}  // namespace torchbrush
