// A product of low rank, added to rows of a weight. General matrix products are made for large
// inner sizes; with sixteen they take twice as long as this.
#pragma once

#include <cstdint>

namespace torchbrush {

// sum [rows, columns] += up [rows, rank] · down [rank, columns], all in rows one behind the other.
void AddLowRank(float* sum, const float* up, const float* down, int64_t rows, int64_t rank, int64_t columns);

}  // namespace torchbrush
