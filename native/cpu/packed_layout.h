// How oneDNN lays out a weight that it has packed, so that a few rows can be written where they
// belong. oneDNN keeps that to itself: it is recognised from where known values went.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

namespace torchbrush {

// Writes other values into a packed weight, a block of rows at a time.
class PackedRows {
 public:
  virtual ~PackedRows() = default;

  // Rows are written in blocks of that many; the last block may have fewer.
  virtual int64_t block_rows() const = 0;

  // Puts one block of rows [n, channels · places], whose first row starts a block, where they belong.
  virtual void Write(int64_t first, const at::Tensor& rows) const = 0;
};

// A weight as whoever multiplies with it takes it, and where rows of it can be written: null where they
// can't be.
struct Packed {
  at::Tensor weight;
  std::unique_ptr<PackedRows> rows;
};

// A weight [rows, channels, …] in blocks of rows. Within a block come groups of channels, then the
// places of the kernel, then the channels of the group, one or two by two, then the block's rows.
class PackedLayout final : public PackedRows {
 public:
  // The layout of `packed`, which must hold the values of `plain`. None where no layout or more than
  // one explains where they are: all zeros tell nothing.
  static std::unique_ptr<PackedRows> Recognise(const at::Tensor& plain, const at::Tensor& packed);

  int64_t block_rows() const override { return block_rows_; }
  void Write(int64_t first, const at::Tensor& rows) const override;

  // Whether values lie in the same places in both.
  bool IsLike(const PackedLayout& other) const;

  // The memory of a weight that oneDNN has packed, float32 [n].
  static at::Tensor MemoryOf(const at::Tensor& packed);

 private:
  int64_t PlaceOf(int64_t row, int64_t channel, int64_t place) const;
  // In elements.
  int64_t PackedSize() const;
  bool Explains(const at::Tensor& plain) const;
  template <typename Element>
  bool HoldsSamples(const at::Tensor& plain) const;
  template <typename Element>
  void WriteBlock(int64_t first, const at::Tensor& rows) const;

  char* data_ = nullptr;
  int64_t element_bytes_ = 0;
  int64_t rows_ = 0;
  int64_t channels_ = 0;
  int64_t places_ = 0;
  int64_t block_rows_ = 0;
  int64_t group_ = 0;     // Channels in a group.
  int64_t together_ = 0;  // Channels side by side.
};

}  // namespace torchbrush
