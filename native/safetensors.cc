#include "safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "errors.h"

namespace torchbrush {

MappedFile::MappedFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    throw CoreError("ERR_CHECKPOINT", "Cannot open " + path + ": " + std::strerror(errno));
  }
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    close(descriptor);
    throw CoreError("ERR_CHECKPOINT", path + " is no readable file.");
  }
  size_ = static_cast<uint64_t>(status.st_size);
  void* address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  const int mapped = errno;
  close(descriptor);
  if (address == MAP_FAILED) {
    throw CoreError("ERR_OUT_OF_MEMORY", "Cannot map " + path + ": " + std::strerror(mapped));
  }
  data_ = static_cast<char*>(address);
  madvise(data_, size_, MADV_WILLNEED);
}

MappedFile::~MappedFile() { munmap(data_, size_); }

namespace {

uint64_t CheckedProduct(uint64_t a, int64_t b) {
  uint64_t product = 0;
  if (b < 0 || __builtin_mul_overflow(a, static_cast<uint64_t>(b), &product)) {
    throw CoreError("ERR_CHECKPOINT", "A tensor's size overflows.");
  }
  return product;
}

uint64_t CheckedSum(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) {
    throw CoreError("ERR_CHECKPOINT", "A tensor's size overflows.");
  }
  return sum;
}

// Elements from the first one to the last one in memory, both included.
uint64_t ElementSpan(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  if (!strides.empty() && strides.size() != shape.size()) {
    throw CoreError("ERR_CHECKPOINT", "A tensor has strides for another shape.");
  }
  uint64_t count = 1;
  for (const int64_t size : shape) count = CheckedProduct(count, size);
  if (strides.empty() || count == 0) return count;
  uint64_t last = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    last = CheckedSum(last, CheckedProduct(static_cast<uint64_t>(shape[i] - 1), strides[i]));
  }
  return CheckedSum(last, 1);
}

}  // namespace

at::Tensor TensorInFile(const std::shared_ptr<MappedFile>& file, uint64_t offset, at::ScalarType type,
                        const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  const uint64_t bytes =
      CheckedProduct(ElementSpan(shape, strides), static_cast<int64_t>(c10::elementSize(type)));
  if (offset > file->size() || bytes > file->size() - offset) {
    throw CoreError("ERR_CHECKPOINT", "A tensor lies outside its file.");
  }
  const auto keep = [file](void*) {};
  const auto options = at::TensorOptions().dtype(type);
  if (strides.empty()) return at::from_blob(file->data() + offset, shape, keep, options);
  return at::from_blob(file->data() + offset, shape, strides, keep, options);
}

bool IsAligned(const MappedFile& file, uint64_t offset, at::ScalarType type) {
  return reinterpret_cast<uintptr_t>(file.data() + offset) % c10::elementSize(type) == 0;
}

void ForgetPages(const at::Tensor& mapped) {
  if (!mapped.is_contiguous()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + mapped.nbytes()) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace torchbrush
