// Group normalisation of values whose channels lie innermost, [N,rows,C], with what often stands
// around it: an addend for each channel before, SiLU after. Two passes over the values: the first
// leaves mean and spread of parts, the second puts them together and writes the result.
//
// A block sees to a tile of channels (whole groups, whole packs) and a part of the rows, "chunk".
#pragma once

#include <algorithm>
#include <numeric>

#include "device.h"

namespace torchbrush::kernels {

// Count, mean and summed squared deviation; merged as in Chan et al., "Updating formulae and a
// pairwise algorithm for computing sample variances" (1979). Sums of squares would cancel.
struct Moments {
  float count = 0;
  float mean = 0;
  float squares = 0;
};

TORCHBRUSH_DEVICE Moments Merge(const Moments& a, const Moments& b) {
  if (b.count == 0) return a;
  const float count = a.count + b.count;
  const float difference = b.mean - a.mean;
  const float share = b.count / count;
  return {count, a.mean + difference * share,
          a.squares + b.squares + difference * difference * a.count * share};
}

struct GroupNormShape {
  int64_t batch;
  int64_t rows;
  int channels;
  int groups;
  int per_group;
  int tile;  // Channels of a block: a multiple of the group's and of the pack's size.
  int tiles;
  int64_t chunk;  // Rows of a block.
  int64_t chunks;

  Grid grid() const { return {chunks, batch, tiles}; }
};

constexpr int kTileChannels = 256;
constexpr int kMaxChunks = 64;

// How the work is shared out. `width` values are read at once; `processors` is how many blocks run
// side by side. Where a group is wider than a tile
// should be, the tile is a group.
inline GroupNormShape ShareOut(int64_t batch, int64_t rows, int channels, int groups, int width,
                               int processors) {
  GroupNormShape shape{batch, rows, channels, groups, channels / groups, 0, 0, 0, 0};
  const int unit = std::lcm(shape.per_group, width);
  shape.tile = std::min(channels, unit * std::max(1, kTileChannels / unit));
  shape.tiles = (channels + shape.tile - 1) / shape.tile;
  const int columns = shape.tile / width;
  const int64_t rows_at_once = std::max(1, kThreads / columns);
  const int64_t wanted = 2 * processors / std::max<int64_t>(1, batch * shape.tiles);
  const int64_t most = std::min<int64_t>(kMaxChunks, (rows + rows_at_once - 1) / rows_at_once);
  const int64_t chunks = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, most));
  shape.chunk = (rows + chunks - 1) / chunks;
  shape.chunks = (rows + shape.chunk - 1) / shape.chunk;
  return shape;
}

constexpr int kSplit = 8;         // Threads that put one group's parts together.
constexpr int kMostGroups = 128;  // Of a tile.

// Whether the kernels can do it: a block needs a thread for each pack of a row of its tile.
inline bool Fits(const GroupNormShape& shape, int width) {
  return shape.channels % width == 0 && shape.tile / width <= kThreads &&
         shape.tile / shape.per_group <= kMostGroups && shape.rows > 0 && shape.batch > 0;
}

// A block has a thread for each pack of a row of its tile, and sees to several rows at a time.
template <int kWidth>
struct Layout {
  TORCHBRUSH_DEVICE Layout(const GroupNormShape& shape, const Place& place)
      : first(static_cast<int>(place.z) * shape.tile),
        channels(shape.channels - first < shape.tile ? shape.channels - first : shape.tile),
        columns(channels / kWidth),
        row_threads(kThreads / columns),
        row(place.thread / columns),
        column(place.thread % columns),
        active(row < row_threads),
        begin(place.x * shape.chunk + row),
        end((place.x + 1) * shape.chunk < shape.rows ? (place.x + 1) * shape.chunk : shape.rows) {}

  int first;     // Channel of the tile.
  int channels;  // Of the tile; the last one may be narrower.
  int columns;
  int row_threads;
  int row;
  int column;
  bool active;
  int64_t begin;
  int64_t end;
};

template <class T, int kWidth>
struct GroupNormMoments {
  static constexpr int kPhases = 3;
  struct Shared {
    Moments channels[kThreads * kWidth];
    Moments parts[kMostGroups * kSplit];
  };

  GroupNormShape shape;
  const T* input;   // [N,rows,C]
  const T* addend;  // Null, or [C] or [N,C] as addend_stride is 0 or C.
  int64_t addend_stride;
  const T* bias;      // Null or [C]; a second addend.
  Moments* partials;  // [N,chunks,groups]

  TORCHBRUSH_DEVICE void Phase(int phase, const Place& place, Shared& shared) const {
    const Layout<kWidth> layout(shape, place);
    if (phase == 0) {
      if (layout.active) Gather(layout, place, shared);
    } else if (phase == 1) {
      MergeChannels(layout, place, shared);
    } else {
      MergeParts(layout, place, shared);
    }
  }

 private:
  // Mean and spread of this thread's rows, for each channel of its pack. Differences to the first value
  // are summed: they are small where the spread is small.
  TORCHBRUSH_DEVICE void Gather(const Layout<kWidth>& layout, const Place& place, Shared& shared) const {
    float base[kWidth] = {};
    float sums[kWidth] = {};
    float squares[kWidth] = {};
    float x[kWidth];
    const int channel = layout.first + layout.column * kWidth;
    const T* at = input + place.y * shape.rows * shape.channels + channel;
    float count = 0;
    for (int64_t row = layout.begin; row < layout.end; row += layout.row_threads) {
      Load<T, kWidth>(at + row * shape.channels, x);
      for (int i = 0; i < kWidth; ++i) {
        if (count == 0) base[i] = x[i];
        const float difference = x[i] - base[i];
        sums[i] += difference;
        squares[i] += difference * difference;
      }
      count += 1;
    }
    float before[kWidth];
    Addends(channel, place.y, before);
    for (int i = 0; i < kWidth; ++i) {
      Moments& own = shared.channels[(layout.row * layout.columns + layout.column) * kWidth + i];
      const float mean = count == 0 ? 0 : sums[i] / count;
      own = {count, base[i] + mean + before[i], squares[i] - sums[i] * mean};
      if (own.squares < 0) own.squares = 0;
    }
  }

  TORCHBRUSH_DEVICE void Addends(int channel, int64_t image, float (&before)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) {
      before[i] = 0;
      if (addend != nullptr) before[i] += static_cast<float>(addend[image * addend_stride + channel + i]);
      if (bias != nullptr) before[i] += static_cast<float>(bias[channel + i]);
    }
  }

  // Each group's values, [row threads, channels of the group], in kSplit parts.
  TORCHBRUSH_DEVICE void MergeChannels(const Layout<kWidth>& layout, const Place& place,
                                       Shared& shared) const {
    const int groups = layout.channels / shape.per_group;
    for (int task = place.thread; task < groups * kSplit; task += kThreads) {
      const int group = task / kSplit;
      Moments sum;
      const int values = shape.per_group * layout.row_threads;
      for (int i = task % kSplit; i < values; i += kSplit) {
        const int row = i / shape.per_group;
        const int channel = group * shape.per_group + i % shape.per_group;
        sum = Merge(sum, shared.channels[row * layout.channels + channel]);
      }
      shared.parts[task] = sum;
    }
  }

  TORCHBRUSH_DEVICE void MergeParts(const Layout<kWidth>& layout, const Place& place, Shared& shared) const {
    const int groups = layout.channels / shape.per_group;
    for (int group = place.thread; group < groups; group += kThreads) {
      Moments sum;
      for (int i = 0; i < kSplit; ++i) sum = Merge(sum, shared.parts[group * kSplit + i]);
      const int64_t at = (place.y * shape.chunks + place.x) * shape.groups;
      partials[at + layout.first / shape.per_group + group] = sum;
    }
  }
};

template <class T, int kWidth>
struct GroupNormApply {
  static constexpr int kPhases = 3;
  struct Shared {
    Moments parts[kMostGroups * kSplit];
    float means[kMostGroups];
    float scales[kMostGroups];  // 1 ∕ deviation
  };

  GroupNormShape shape;
  const T* input;
  const T* addend;
  int64_t addend_stride;
  const T* bias;
  const Moments* partials;
  const T* weight;  // [C]
  const T* shift;   // [C]
  float epsilon;
  bool silu;
  T* output;

  TORCHBRUSH_DEVICE void Phase(int phase, const Place& place, Shared& shared) const {
    const Layout<kWidth> layout(shape, place);
    const int groups = layout.channels / shape.per_group;
    const int first = layout.first / shape.per_group;
    if (phase == 0) {
      for (int task = place.thread; task < groups * kSplit; task += kThreads) {
        Moments sum;
        for (int64_t chunk = task % kSplit; chunk < shape.chunks; chunk += kSplit) {
          sum = Merge(sum, partials[(place.y * shape.chunks + chunk) * shape.groups + first + task / kSplit]);
        }
        shared.parts[task] = sum;
      }
    } else if (phase == 1) {
      for (int group = place.thread; group < groups; group += kThreads) {
        Moments sum;
        for (int i = 0; i < kSplit; ++i) sum = Merge(sum, shared.parts[group * kSplit + i]);
        shared.means[group] = sum.mean;
        shared.scales[group] = 1.0f / sqrtf(sum.squares / sum.count + epsilon);
      }
    } else if (layout.active) {
      Write(layout, place, shared);
    }
  }

 private:
  // y = factor·(x − centre) + shift, with all three of each channel at hand. The difference comes first:
  // where the mean is large beside the spread, a product's rounding would show.
  TORCHBRUSH_DEVICE void Write(const Layout<kWidth>& layout, const Place& place, const Shared& shared) const {
    float factors[kWidth];
    float centres[kWidth];
    float shifts[kWidth];
    const int channel = layout.first + layout.column * kWidth;
    for (int i = 0; i < kWidth; ++i) {
      const int group = (layout.column * kWidth + i) / shape.per_group;
      float before = 0;
      if (addend != nullptr) before += static_cast<float>(addend[place.y * addend_stride + channel + i]);
      if (bias != nullptr) before += static_cast<float>(bias[channel + i]);
      factors[i] = shared.scales[group] * static_cast<float>(weight[channel + i]);
      centres[i] = shared.means[group] - before;
      shifts[i] = static_cast<float>(shift[channel + i]);
    }
    const int64_t image = place.y * shape.rows * shape.channels + channel;
    float x[kWidth];
    for (int64_t row = layout.begin; row < layout.end; row += layout.row_threads) {
      const int64_t at = image + row * shape.channels;
      Load<T, kWidth>(input + at, x);
      for (int i = 0; i < kWidth; ++i) {
        x[i] = factors[i] * (x[i] - centres[i]) + shifts[i];
        if (silu) x[i] = Silu(x[i]);
      }
      Store<T, kWidth>(x, output + at);
    }
  }
};

}  // namespace torchbrush::kernels
