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

MappedFile::MappedFile(const std::string& path) : path_(path) {
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
  void* address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor_, 0);
  const int mapped = errno;
  if (address == MAP_FAILED) {
    close(descriptor_);
    throw CoreError("ERR_OUT_OF_MEMORY", "Cannot map " + path + ": " + std::strerror(mapped));
  }
  data_ = static_cast<char*>(address);
  madvise(data_, size_, MADV_WILLNEED);
}

MappedFile::~MappedFile() {
  munmap(data_, size_);
  close(descriptor_);
}

void MappedFile::RequireUnchanged() const {
  struct stat now {};
  const bool same = fstat(descriptor_, &now) == 0 && static_cast<uint64_t>(now.st_size) == size_ &&
                    now.st_mtim.tv_sec == written_.tv_sec && now.st_mtim.tv_nsec == written_.tv_nsec;
  if (!same) {
    throw CoreError("ERR_CHECKPOINT", path_ + " has changed since it was loaded. Load the checkpoint again.");
  }
}

void MappedFile::Read(uint64_t offset, uint64_t bytes, void* into) const {
  auto* target = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t read = pread(descriptor_, target, bytes, static_cast<off_t>(offset));
    if (read < 0 && errno == EINTR) continue;
    if (read <= 0) throw CoreError("ERR_CHECKPOINT", path_ + " cannot be read to its end.");
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

namespace {

// Gives advice on the whole pages of a tensor's memory.
void Advise(const at::Tensor& tensor, int advice) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + tensor.nbytes()) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

void ForgetPages(const at::Tensor& mapped) {
  if (mapped.is_contiguous()) Advise(mapped, MADV_DONTNEED);
}

void PreferLargePages(const at::Tensor& fresh) { Advise(fresh, MADV_HUGEPAGE); }

}  // namespace torchbrush
