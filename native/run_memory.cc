#include "run_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>

namespace torchbrush {
namespace {

constexpr size_t kSmallest = size_t{1} << 18;  // Below, the C library is as good.
constexpr size_t kPage = size_t{1} << 12;
constexpr size_t kLargePage = size_t{1} << 21;

thread_local bool uses_kept_blocks = false;

size_t RoundUp(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

// Sizes that are nearly the same share blocks.
size_t BlockSize(size_t bytes) {
  size_t step = kPage;
  while (step * 32 < bytes) step *= 2;
  return RoundUp(bytes, bytes >= kLargePage ? std::max(step, kPage) : step);
}

void* Map(size_t bytes) {
  // Aligned to large pages, so that the system can use them.
  const size_t room = bytes >= kLargePage ? bytes + kLargePage : bytes;
  void* mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (room == bytes) return mapped;
  auto first = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t start = RoundUp(first, kLargePage);
  if (start > first) munmap(mapped, start - first);
  const uintptr_t end = start + bytes;
  if (first + room > end) munmap(reinterpret_cast<void*>(end), first + room - end);
  madvise(reinterpret_cast<void*>(start), bytes, MADV_HUGEPAGE);
  return reinterpret_cast<void*>(start);
}

class KeptBlocks final : public c10::Allocator {
 public:
  explicit KeptBlocks(c10::Allocator* usual) : usual_(usual) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (!uses_kept_blocks || bytes < kSmallest) return usual_->allocate(bytes);
    void* block = Take(BlockSize(bytes));
    if (block == nullptr) return usual_->allocate(bytes);  // Throws with libtorch's own words.
    return {block, block, &Free, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void Enter() {
    std::lock_guard<std::mutex> lock(mutex_);
    keeping_ = true;
    if (scopes_++ == 0) ++now_;
  }

  void Leave() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--scopes_ == 0) Drop(now_);
  }

  void ReleaseAll() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (scopes_ > 0) return;
    keeping_ = false;
    Drop(now_ + 1);
  }

  static KeptBlocks* instance;

 private:
  struct Kept {
    void* start;
    uint64_t last_used;
  };

  static void Free(void* start) {
    if (!instance->Return(start)) instance->usual_->raw_deleter()(start);
  }

  void* Take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = kept_.lower_bound(size);
    if (found != kept_.end() && found->first <= size + size / 4) {
      void* start = found->second.start;
      used_[start] = found->first;
      kept_.erase(found);
      return start;
    }
    Shed(size);
    void* start = Map(size);
    if (start == nullptr) {  // Perhaps what is kept is what is missing.
      Drop(now_ + 1);
      start = Map(size);
    }
    if (start != nullptr) used_[start] = size;
    return start;
  }

  bool Return(void* start) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = used_.find(start);
    if (found == used_.end()) return false;
    const size_t size = found->second;
    used_.erase(found);
    if (keeping_) {
      kept_.emplace(size, Kept{start, now_});
    } else {
      munmap(start, size);
    }
    return true;
  }

  // Gives back as many bytes of what this run has not used: another network's sizes do not fit it.
  void Shed(size_t bytes) {
    for (auto it = kept_.begin(); it != kept_.end() && bytes > 0;) {
      if (it->second.last_used >= now_) {
        ++it;
        continue;
      }
      munmap(it->second.start, it->first);
      bytes -= std::min(bytes, it->first);
      it = kept_.erase(it);
    }
  }

  // Gives back blocks that were last used before a moment.
  void Drop(uint64_t moment) {
    for (auto it = kept_.begin(); it != kept_.end();) {
      if (it->second.last_used < moment) {
        munmap(it->second.start, it->first);
        it = kept_.erase(it);
      } else {
        ++it;
      }
    }
  }

  c10::Allocator* usual_;
  std::mutex mutex_;
  std::multimap<size_t, Kept> kept_;
  std::unordered_map<void*, size_t> used_;
  uint64_t now_ = 0;
  int scopes_ = 0;
  bool keeping_ = false;
};

KeptBlocks* KeptBlocks::instance = nullptr;

}  // namespace

void RunMemory::Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    KeptBlocks::instance = new KeptBlocks(c10::GetCPUAllocator());  // Lives as long as libtorch.
    c10::SetCPUAllocator(KeptBlocks::instance, 1);
  });
}

void RunMemory::Release() {
  if (KeptBlocks::instance != nullptr) KeptBlocks::instance->ReleaseAll();
}

RunMemory::Scope::Scope() {
  KeptBlocks::instance->Enter();
  uses_kept_blocks = true;
}

RunMemory::Scope::~Scope() {
  uses_kept_blocks = false;
  KeptBlocks::instance->Leave();
}

RunMemory::Pause::Pause() : before_(uses_kept_blocks) { uses_kept_blocks = false; }

RunMemory::Pause::~Pause() { uses_kept_blocks = before_; }

}  // namespace torchbrush
