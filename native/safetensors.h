// Weight files mapped into memory. JavaScript has parsed the header; here every offset is checked
// again before memory is touched.
#pragma once

#include <ATen/ATen.h>

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

  uint64_t size() const { return size_; }
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  uint64_t size_ = 0;
};

// The tensor at `offset`; it keeps the mapping alive. Memory that is not aligned for the dtype
// (files written before safetensors padded its header) is copied.
at::Tensor TensorInFile(const std::shared_ptr<MappedFile>& file, uint64_t offset, at::ScalarType type,
                        const std::vector<int64_t>& shape);

}  // namespace torchbrush
