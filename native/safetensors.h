// Weight files mapped into memory. JavaScript has parsed the header; here every offset is checked
// again before memory is touched.
#pragma once

#include <ATen/ATen.h>
#include <time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace torchbrush {

class MappedFile {
 public:
  // Private and writable, so that nothing done to a tensor can reach the file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Throws ERR_CHECKPOINT where the file has been written to since it was mapped: what lies there now
  // is something else, and a mapping beyond the file's end must not be touched.
  void RequireUnchanged() const;

  // Copies bytes of the file; leaves no page of it in memory that was not there before.
  void Read(uint64_t offset, uint64_t bytes, void* into) const;

  uint64_t size() const { return size_; }
  char* data() const { return data_; }

 private:
  std::string path_;
  int descriptor_ = -1;
  char* data_ = nullptr;
  uint64_t size_ = 0;
  timespec written_{};
};

// Whether a tensor's memory is aligned for its dtype; it is not in files that were written before
// safetensors padded its header.
bool IsAligned(const MappedFile& file, uint64_t offset, at::ScalarType type);

// Lets the pages of a contiguous mapped tensor go that it shares with no other. They come back from
// the file.
void ForgetPages(const at::Tensor& mapped);

// Asks for large pages under a fresh tensor: touching it for the first time costs less then.
void PreferLargePages(const at::Tensor& fresh);

// The tensor at `offset`, in the file's own memory, which it keeps mapped. `strides` are in elements;
// none means that the values lie one behind the other.
at::Tensor TensorInFile(const std::shared_ptr<MappedFile>& file, uint64_t offset, at::ScalarType type,
                        const std::vector<int64_t>& shape, const std::vector<int64_t>& strides);

}  // namespace torchbrush
