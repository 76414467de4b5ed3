#include "copies.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

namespace torchbrush {
namespace {

// Two streams of an accelerator. Waiting is the device's: the host goes on at once.
class StreamCopies : public Copies {
 public:
  explicit StreamCopies(c10::Device device)
      : device_(device), guard_(device.type()), side_(guard_.getStreamFromGlobalPool(device)) {}

  MarkRef Computed() override { return Record(guard_.getStream(device_)); }

  MarkRef Begin(std::vector<Copy> copies, const MarkRef& after) override {
    Reached(after).block(side_);
    {
      c10::StreamGuard on_side(side_);
      // From pinned memory this returns before the bytes are there. The host's allocator knows of the
      // stream and keeps the memory until then.
      for (const auto& copy : copies) copy.to.copy_(copy.from, true);
    }
    return Record(side_);
  }

  void Await(const MarkRef& mark) override { Reached(mark).block(guard_.getStream(device_)); }

 private:
  struct EventMark : Mark {
    explicit EventMark(c10::DeviceType type) : event(type) {}
    c10::Event event;
  };

  MarkRef Record(const c10::Stream& stream) {
    auto mark = std::make_shared<EventMark>(device_.type());
    mark->event.record(stream);
    return mark;
  }

  static const c10::Event& Reached(const MarkRef& mark) { return static_cast<EventMark&>(*mark).event; }

  c10::Device device_;
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream side_;
};

// The same on the CPU, where computing is what the calling thread does.
class ThreadCopies : public Copies {
 public:
  ThreadCopies() : thread_([this] { Loop(); }) {}

  ~ThreadCopies() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  MarkRef Computed() override {
    auto mark = std::make_shared<Flag>();
    mark->reached = true;
    return mark;
  }

  MarkRef Begin(std::vector<Copy> copies, const MarkRef&) override {
    auto end = std::make_shared<Flag>();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back({std::move(copies), end});
    }
    changed_.notify_all();
    return end;
  }

  void Await(const MarkRef& mark) override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return static_cast<Flag&>(*mark).reached; });
  }

 private:
  struct Flag : Mark {
    bool reached = false;
  };
  struct Job {
    std::vector<Copy> copies;
    std::shared_ptr<Flag> end;
  };

  // Ends when nothing waits any more: whoever queued copies may still await them.
  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      const Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      for (const auto& [to, from] : job.copies) std::memcpy(to.data_ptr(), from.data_ptr(), from.nbytes());
      lock.lock();
      job.end->reached = true;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Copies> Copies::For(c10::Device device) {
  if (device.is_cpu()) return std::make_unique<ThreadCopies>();
  return std::make_unique<StreamCopies>(device);
}

}  // namespace torchbrush
