#include "recording.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <utility>

namespace torchbrush {
namespace {

using at::cuda::CUDAGraph;
using c10::MempoolId_t;

// Recording has a stream of its own, always the same one: libraries keep a workspace for each.
struct Pool {
  explicit Pool(c10::Device device)
      : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}

  c10::cuda::CUDAStream stream;
  // Lives as long as a graph uses it: libtorch takes no graphs into a pool that has lost its last one.
  std::weak_ptr<const MempoolId_t> memory;
};

class GraphRecording : public Recording {
 public:
  GraphRecording(c10::Device device, std::shared_ptr<void> pool, std::shared_ptr<const MempoolId_t> memory)
      : device_(device), pool_(std::move(pool)), memory_(std::move(memory)) {}

  ~GraphRecording() override {
    c10::cuda::CUDAGuard guard(device_);
    graph_.reset();
  }

  void Replay() override {
    c10::cuda::CUDAGuard guard(device_);
    graph_->replay();
  }

  CUDAGraph& graph() { return *graph_; }

 private:
  c10::Device device_;
  std::shared_ptr<void> pool_;
  std::shared_ptr<const MempoolId_t> memory_;
  std::unique_ptr<CUDAGraph> graph_ = std::make_unique<CUDAGraph>();
};

// After a failure inside a recording: ends it, and takes back what libtorch leaves behind when even the
// end fails. What is not there to be taken back throws, which says nothing new.
void Abandon(CUDAGraph& graph, c10::DeviceIndex device, MempoolId_t memory) {
  try {
    graph.capture_end();
    return;
  } catch (const std::exception&) {
  }
  try {
    c10::cuda::CUDACachingAllocator::endAllocateToPool(device, memory);
  } catch (const std::exception&) {
  }
  try {
    c10::cuda::CUDACachingAllocator::releasePool(device, memory);
  } catch (const std::exception&) {
  }
  cudaGetLastError();
}

}  // namespace

std::shared_ptr<void> MakePool(c10::Device device) { return std::make_shared<Pool>(device); }

std::unique_ptr<Recording> Record(c10::Device device, std::shared_ptr<void> shared,
                                  const std::function<void()>& work) {
  c10::cuda::CUDAGuard guard(device);
  auto& pool = *static_cast<Pool*>(shared.get());
  auto memory = pool.memory.lock();
  if (!memory) {
    memory = std::make_shared<const MempoolId_t>(at::cuda::graph_pool_handle());
    pool.memory = memory;
  }
  auto recording = std::make_unique<GraphRecording>(device, std::move(shared), memory);
  const c10::Stream current = c10::cuda::getCurrentCUDAStream(device.index());
  c10::Event before(c10::DeviceType::CUDA);
  before.record(current);
  before.block(pool.stream);
  {
    c10::cuda::CUDAStreamGuard on_side(pool.stream);
    work();
    CUDAGraph& graph = recording->graph();
    // Other threads may go on with the GPU meanwhile.
    graph.capture_begin(*memory, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      Abandon(graph, device.index(), *memory);
      throw;
    }
    try {
      graph.capture_end();
    } catch (...) {
      Abandon(graph, device.index(), *memory);
      throw;
    }
  }
  c10::Event after(c10::DeviceType::CUDA);
  after.record(pool.stream);
  after.block(current);
  return recording;
}

}  // namespace torchbrush
