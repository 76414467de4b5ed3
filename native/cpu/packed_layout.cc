#include "packed_layout.h"

#include <ATen/core/dispatch/Dispatcher.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <set>
#include <tuple>

namespace torchbrush {
namespace {

int64_t Ask(const char* name, const at::Tensor& packed) {
  torch::jit::Stack stack{packed};
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(stack);
  return stack[0].toInt();
}

int64_t Blocks(int64_t length, int64_t block) { return (length + block - 1) / block; }

constexpr int64_t kTile = 16;  // Columns: a cache line of float32.

// [rows][kTile] to [kTile][rows], the latter at a place of its own for each column.
template <typename Element>
void Transpose(const Element* tile, int64_t rows, Element* const* columns, int64_t count, int64_t step) {
  for (int64_t c = 0; c < count; ++c) {
    for (int64_t row = 0; row < rows; ++row) columns[c][row * step] = tile[row * kTile + c];
  }
}

#ifdef __SSE2__
// Past the cache: nobody reads the packed weight soon.
void TransposeFours(const float* tile, int64_t rows, float* const* columns) {
  for (int64_t c = 0; c < kTile; c += 4) {
    for (int64_t row = 0; row < rows; row += 4) {
      const float* from = tile + row * kTile + c;
      __m128 a = _mm_load_ps(from);
      __m128 b = _mm_load_ps(from + kTile);
      __m128 d = _mm_load_ps(from + 2 * kTile);
      __m128 e = _mm_load_ps(from + 3 * kTile);
      _MM_TRANSPOSE4_PS(a, b, d, e);
      _mm_stream_ps(columns[c] + row, a);
      _mm_stream_ps(columns[c + 1] + row, b);
      _mm_stream_ps(columns[c + 2] + row, d);
      _mm_stream_ps(columns[c + 3] + row, e);
    }
  }
}
#endif

}  // namespace

int64_t PackedLayout::PlaceOf(int64_t row, int64_t channel, int64_t place) const {
  const int64_t group = row / block_rows_ * Blocks(channels_, group_) + channel / group_;
  const int64_t in_group = channel % group_;
  const int64_t column = (group * places_ + place) * group_ + in_group / together_ * together_;
  return column * block_rows_ + row % block_rows_ * together_ + in_group % together_;
}

int64_t PackedLayout::PackedSize() const {
  return Blocks(rows_, block_rows_) * block_rows_ * Blocks(channels_, group_) * group_ * places_;
}

std::unique_ptr<PackedRows> PackedLayout::Recognise(const at::Tensor& plain, const at::Tensor& packed) {
  const int64_t bytes = plain.element_size();
  if (packed.layout() != at::kMkldnn || plain.dim() < 2 || plain.numel() == 0 || (bytes != 4 && bytes != 2)) {
    return nullptr;
  }
  PackedLayout layout;
  layout.data_ = reinterpret_cast<char*>(Ask("mkldnn::data_ptr", packed));
  layout.element_bytes_ = bytes;
  layout.rows_ = plain.size(0);
  layout.channels_ = plain.size(1);
  layout.places_ = plain.numel() / (layout.rows_ * layout.channels_);
  if (reinterpret_cast<uintptr_t>(layout.data_) % 16 != 0) return nullptr;
  const int64_t size = Ask("mkldnn::_nbytes", packed) / bytes;
  std::unique_ptr<PackedRows> found;
  std::set<std::tuple<int64_t, int64_t, int64_t>> seen;
  for (const int64_t together : {1, 2}) {
    const int64_t all = Blocks(layout.channels_, together) * together;
    for (const int64_t group : {all, int64_t{8}, int64_t{16}, int64_t{32}, int64_t{64}}) {
      for (const int64_t block : {8, 16, 24, 32, 48, 64}) {
        layout.together_ = together;
        // With one place only, groups differ in nothing but how many channels they round up to.
        const int64_t rounded = Blocks(layout.channels_, group) * group;
        layout.group_ = layout.places_ == 1 ? rounded : group;
        layout.block_rows_ = block;
        if (!seen.emplace(together, layout.group_, block).second) continue;
        if (layout.PackedSize() != size || !layout.Explains(plain)) continue;
        if (found) return nullptr;
        found = std::make_unique<PackedLayout>(layout);
      }
    }
  }
  return found;
}

bool PackedLayout::IsLike(const PackedLayout& other) const {
  const auto all = [](const PackedLayout& layout) {
    return std::tie(layout.element_bytes_, layout.rows_, layout.channels_, layout.places_, layout.block_rows_,
                    layout.group_, layout.together_);
  };
  return all(*this) == all(other);
}

at::Tensor PackedLayout::MemoryOf(const at::Tensor& packed) {
  const int64_t count = Ask("mkldnn::_nbytes", packed) / static_cast<int64_t>(sizeof(float));
  return at::from_blob(reinterpret_cast<void*>(Ask("mkldnn::data_ptr", packed)), {count}, at::kFloat);
}

bool PackedLayout::Explains(const at::Tensor& plain) const {
  return element_bytes_ == 4 ? HoldsSamples<uint32_t>(plain) : HoldsSamples<uint16_t>(plain);
}

template <typename Element>
bool PackedLayout::HoldsSamples(const at::Tensor& plain) const {
  const auto* values = static_cast<const Element*>(plain.const_data_ptr());
  const auto* held = reinterpret_cast<const Element*>(data_);
  const int64_t columns = channels_ * places_;
  constexpr int64_t kSamples = 64;
  int64_t samples = 0;
  int64_t changes = 0;
  Element last{};
  // The first and the last block of rows, at columns all over them: steps that share no factor with
  // anything near meet every remainder.
  for (const int64_t start : {int64_t{0}, (Blocks(rows_, block_rows_) - 1) * block_rows_}) {
    const int64_t count = std::min(block_rows_, rows_ - start);
    for (int64_t i = 0; i < count * kSamples; ++i) {
      const int64_t row = start + i % count;
      const int64_t column = i < kSamples ? i % columns : i * 7919 % columns;
      const int64_t place = PlaceOf(row, column / places_, column % places_);
      const Element value = values[row * columns + column];
      if (value != held[place]) return false;
      ++samples;
      changes += value != last;
      last = value;
    }
  }
  return changes > samples / 2;  // Equal values would agree with anything.
}

void PackedLayout::Write(int64_t first, const at::Tensor& rows) const {
  if (element_bytes_ == 4) {
    WriteBlock<float>(first, rows);
  } else {
    WriteBlock<uint16_t>(first, rows);
  }
}

template <typename Element>
void PackedLayout::WriteBlock(int64_t first, const at::Tensor& rows) const {
  const auto* from = static_cast<const Element*>(rows.const_data_ptr());
  auto* packed = reinterpret_cast<Element*>(data_);
  const int64_t count = rows.size(0);
  const int64_t columns = channels_ * places_;
  alignas(64) Element tile[64 * kTile];
  Element* targets[kTile];
  // What PlaceOf says, without its divisions.
  Element* group = packed + PlaceOf(first, 0, 0);
  int64_t channel = 0;  // Within its group.
  int64_t place = 0;
  for (int64_t column = 0; column < columns; column += kTile) {
    const int64_t width = std::min(kTile, columns - column);
    for (int64_t i = 0; i < width; ++i) {
      const int64_t aside = channel & (together_ - 1);
      targets[i] = group + (place * group_ + channel - aside) * block_rows_ + aside;
      if (++place < places_) continue;
      place = 0;
      if (++channel < group_) continue;
      channel = 0;
      group += places_ * group_ * block_rows_;
    }
    // By way of a tile: rows may lie a multiple of the cache's size apart.
    for (int64_t row = 0; row < count; ++row) {
      std::copy_n(from + row * columns + column, width, tile + row * kTile);
    }
#ifdef __SSE2__
    if constexpr (sizeof(Element) == 4) {
      if (together_ == 1 && width == kTile && count % 4 == 0) {
        TransposeFours(tile, count, targets);
        continue;
      }
    }
#endif
    Transpose(tile, count, targets, width, together_);
  }
#ifdef __SSE2__
  _mm_sfence();
#endif
}

}  // namespace torchbrush
