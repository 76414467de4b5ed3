#include "device_thread.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>

#include "run_memory.h"

namespace torchbrush {
namespace {

// Longer than between two steps, shorter than anyone waits before looking at the memory in use.
constexpr std::chrono::milliseconds kIdle(500);

#if defined(__linux__) && defined(SYS_sched_setattr)
// The kernel's struct sched_attr in its first version.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = 0;  // SCHED_OTHER
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};

// Since Linux 6.12 a thread that wakes up runs at once where it has asked for shorter slices than the one
// that is running. Whoever computes for minutes loses nothing by long ones, and the event loop's thread
// need not wait for the end of a slice. Threads that are made from here on inherit it; older kernels, and
// sandboxes that forbid it, change nothing.
void AskForLongSlices() {
  SchedulingAttributes attributes;
  errno = 0;
  attributes.nice = getpriority(PRIO_PROCESS, 0);
  if (errno != 0) return;
  attributes.runtime = 20'000'000;  // In nanoseconds.
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}
#else
void AskForLongSlices() {}
#endif

}  // namespace

DeviceThread::DeviceThread() : thread_([this] { Loop(); }) {}

DeviceThread::~DeviceThread() { Stop(); }

void DeviceThread::Post(std::function<void()> job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void DeviceThread::Stop() {
  std::deque<std::function<void()>> dropped;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    dropped.swap(jobs_);
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void DeviceThread::Loop() {
  AskForLongSlices();
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto called = [this] { return stopping_ || !jobs_.empty(); };
      // By the system's clock: waiting by the steady one takes a symbol that glibc 2.28 lacks.
      if (!wake_.wait_until(lock, std::chrono::system_clock::now() + kIdle, called)) {
        lock.unlock();
        RunMemory::Release();
        lock.lock();
        wake_.wait(lock, called);
      }
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace torchbrush
