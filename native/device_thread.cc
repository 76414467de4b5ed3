#include "device_thread.h"

#include <chrono>
#include <utility>

#include "run_memory.h"

namespace torchbrush {
namespace {

// Longer than between two steps, shorter than anyone waits before looking at the memory in use.
constexpr std::chrono::milliseconds kIdle(500);

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
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto called = [this] { return stopping_ || !jobs_.empty(); };
      if (!wake_.wait_for(lock, kIdle, called)) {
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
