#include "weight_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "errors.h"

namespace torchbrush {

WeightFile::WeightFile(const std::string& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    throw CoreError("ERR_CHECKPOINT", "Cannot open " + path + ": " + std::strerror(errno));
  }
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    close(descriptor_);
    throw CoreError("ERR_CHECKPOINT", path + " is no readable file.");
  }
  size_ = static_cast<uint64_t>(status.st_size);
  written_ = status.st_mtim;
  posix_fadvise(descriptor_, 0, 0, POSIX_FADV_WILLNEED);
}

WeightFile::~WeightFile() { close(descriptor_); }

void WeightFile::RequireUnchanged() const {
  struct stat now {};
  const bool same = fstat(descriptor_, &now) == 0 && static_cast<uint64_t>(now.st_size) == size_ &&
                    now.st_mtim.tv_sec == written_.tv_sec && now.st_mtim.tv_nsec == written_.tv_nsec;
  if (!same) {
    throw CoreError("ERR_CHECKPOINT", path_ + " has changed since it was loaded. Load the checkpoint again.");
  }
}

void WeightFile::Read(uint64_t offset, uint64_t bytes, void* into) const {
  auto* target = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t read = pread(descriptor_, target, bytes, static_cast<off_t>(offset));
    if (read < 0 && errno == EINTR) continue;
    if (read <= 0) {
      throw CoreError("ERR_CHECKPOINT",
                      path_ + " cannot be read to its end. Has it changed since it was loaded?");
    }
    target += read;
    offset += static_cast<uint64_t>(read);
    bytes -= static_cast<uint64_t>(read);
  }
}

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

// Elements from the first one to the last one in the file, both included.
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

void WeightFile::RequireInside(const StoredValues& values) const {
  const auto size = static_cast<int64_t>(c10::elementSize(values.type));
  const uint64_t bytes = CheckedProduct(ElementSpan(values.shape, values.strides), size);
  if (values.offset > size_ || bytes > size_ - values.offset) {
    throw CoreError("ERR_CHECKPOINT", "A tensor lies outside its file.");
  }
}

at::Tensor WeightFile::Read(const StoredValues& values) const {
  RequireInside(values);
  const auto options = at::TensorOptions().dtype(values.type);
  const auto span = static_cast<int64_t>(ElementSpan(values.shape, values.strides));
  const at::Tensor row = at::empty({span}, options);
  Read(values.offset, row.nbytes(), row.data_ptr());
  return values.strides.empty() ? row.view(values.shape) : row.as_strided(values.shape, values.strides);
}

}  // namespace torchbrush
