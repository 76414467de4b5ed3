// Weight files, read piece by piece. Nothing is mapped: touching a mapping of a file that has become
// shorter kills the process, a read reports it. JavaScript has parsed the header; here every offset
// is checked again.
#pragma once

#include <ATen/ATen.h>
#include <time.h>

#include <cstdint>
#include <string>
#include <vector>

namespace torchbrush {

// Where in which file a tensor's values lie.
struct StoredValues {
  std::string file;
  uint64_t offset;
  at::ScalarType type;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // In elements; none where the values lie one behind the other.
};

class WeightFile {
 public:
  explicit WeightFile(const std::string& path);
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  // Throws ERR_CHECKPOINT where the file has been written to since it was opened: what lies there now
  // is something else.
  void RequireUnchanged() const;

  // Throws ERR_CHECKPOINT where the values reach beyond the file.
  void RequireInside(const StoredValues& values) const;

  // Copies bytes of the file.
  void Read(uint64_t offset, uint64_t bytes, void* into) const;

  // The values as they are stored, in memory of their own.
  at::Tensor Read(const StoredValues& values) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  timespec written_{};
};

}  // namespace torchbrush
