// The kernels on the GPU. The only file that nvcc compiles: it knows no tensors.
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime.h>

#include "kernels.h"

namespace torchbrush::kernels {
namespace {

template <class Kernel>
__global__ void __launch_bounds__(kThreads) Run(const Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  const Place place{blockIdx.x, blockIdx.y, blockIdx.z, static_cast<int>(threadIdx.x)};
#pragma unroll
  for (int phase = 0; phase < Kernel::kPhases; ++phase) {
    if (phase > 0) __syncthreads();
    kernel.Phase(phase, place, shared);
  }
}

template <class Kernel>
void Launch(const Kernel& kernel, const Grid& grid, Stream stream) {
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  if (blocks.x == 0) return;
  Run<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace
}  // namespace torchbrush::kernels

#include "start.h"
