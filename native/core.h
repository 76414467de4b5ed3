// The state of one JavaScript environment (main thread or worker) and the way in and out of the
// device threads. Nothing here is static: every worker has its own.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device_thread.h"
#include "errors.h"
#include "ledger.h"

namespace torchbrush {

// Array buffers whose tensors are gone. The last owner of such a tensor may be any thread, but only
// the JavaScript thread may let the buffer go, so references wait here until it passes by.
struct ReleasedBuffers {
  std::mutex mutex;
  std::vector<napi_ref> references;
};

// What JavaScript holds alive, for memoryStats() and for the leak tests.
struct LiveCounts {
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
  int64_t programs = 0;
  int64_t networks = 0;
  int64_t generators = 0;
};

class Core {
 public:
  explicit Core(Napi::Env env);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  static Core& Of(Napi::Env env) { return *env.GetInstanceData<Core>(); }

  // Runs `work` on the device's thread under InferenceMode, then `finish` on the JavaScript thread
  // with its result. `work` sees plain C++ values only.
  template <class Result>
  Napi::Promise Submit(c10::Device device, std::function<Result()> work,
                       std::function<Napi::Value(Napi::Env, Result&&)> finish);

  // Ends all device threads; the running network stops after its current operator.
  void Stop();
  const std::atomic<bool>& stopping() const { return stopping_; }

  // Memory that the recorded graphs of a device share; null where it has no companion. Environments have
  // each their own: their graphs run at the same time.
  std::shared_ptr<void> GraphPoolOf(c10::Device device);

  const std::shared_ptr<ReleasedBuffers>& released() const { return released_; }
  void DrainReleased();

  // Shared with networks, which may outlive the environment on a device's thread.
  const std::shared_ptr<Ledger>& ledger() const { return ledger_; }

  LiveCounts counts;
  Napi::FunctionReference tensor_class;
  Napi::FunctionReference generator_class;
  Napi::FunctionReference program_class;
  Napi::FunctionReference network_class;
  Napi::FunctionReference foreign_class;
  // Hand-over of a C++ value to the constructor of the wrapping class.
  void* pending = nullptr;

 private:
  using Completion = std::function<void(Napi::Env)>;

  DeviceThread& ThreadOf(c10::Device device);
  void Began();
  void Complete(Completion completion);
  void RunCompletions(Napi::Env env);

  Napi::Env env_;
  std::map<std::string, std::shared_ptr<void>> graph_pools_;
  std::map<std::string, std::unique_ptr<DeviceThread>> threads_;
  std::shared_ptr<ReleasedBuffers> released_ = std::make_shared<ReleasedBuffers>();
  std::shared_ptr<Ledger> ledger_ = std::make_shared<Ledger>();
  std::atomic<bool> stopping_{false};
  Napi::ThreadSafeFunction wake_;
  std::mutex completions_mutex_;
  std::vector<Completion> completions_;
  int64_t in_flight_ = 0;
};

template <class Result>
Napi::Promise Core::Submit(c10::Device device, std::function<Result()> work,
                           std::function<Napi::Value(Napi::Env, Result&&)> finish) {
  struct Job {
    Napi::Promise::Deferred deferred;
    std::function<Result()> work;
    std::function<Napi::Value(Napi::Env, Result&&)> finish;
    std::optional<Result> result;
    Fault fault;
  };
  auto job = std::make_shared<Job>(
      Job{Napi::Promise::Deferred::New(env_), std::move(work), std::move(finish), std::nullopt, {}});
  DeviceThread& thread = ThreadOf(device);
  Began();
  thread.Post([this, job] {
    try {
      c10::InferenceMode inference;
      job->result.emplace(job->work());
    } catch (...) {
      job->fault = DescribeCurrentException();
    }
    job->work = nullptr;  // Its tensors go before the promise settles.
    Complete([job](Napi::Env env) {
      if (!job->result) {
        job->deferred.Reject(ToJavaScript(env, job->fault).Value());
        return;
      }
      try {
        job->deferred.Resolve(job->finish(env, std::move(*job->result)));
      } catch (const Napi::Error& error) {
        job->deferred.Reject(error.Value());
      } catch (...) {
        job->deferred.Reject(ToJavaScript(env, DescribeCurrentException()).Value());
      }
      // The device's thread may hold the job a little longer; what it made is JavaScript's alone.
      job->result.reset();
    });
  });
  return job->deferred.Promise();
}

}  // namespace torchbrush
