// The companion for CUDA.
#include "companion.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "attention.h"
#include "calls.h"
#include "recording.h"

namespace torchbrush {

Target TargetOf(c10::Device device) {
  int processors = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device.index()));
  return {c10::cuda::getCurrentCUDAStream(device.index()).stream(), processors};
}

namespace {

int Capability(c10::Device device) {
  int major = 0;
  int minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index()));
  return 10 * major + minor;
}

at::Tensor Convolution(const ConvolutionCall& call) {
  const at::Tensor input = call.input.contiguous(at::MemoryFormat::ChannelsLast);
  if (!call.tune) {
    return at::conv2d(input, call.weight, call.bias, call.stride, call.padding, call.dilation, call.groups);
  }
  const std::vector<int64_t> none(2, 0);
  return at::_convolution(input, call.weight, call.bias, call.stride, call.padding, call.dilation,
                          /*transposed=*/false, none, call.groups, /*benchmark=*/true,
                          /*deterministic=*/false, /*cudnn_enabled=*/true, /*allow_tf32=*/true);
}

}  // namespace
}  // namespace torchbrush

extern "C" __attribute__((visibility("default"))) const torchbrush::Companion* torchbrush_companion() {
  using namespace torchbrush;
  static const Companion companion{
      Companion::kVersion, c10::kCUDA,  Capability,           GroupNorm, Geglu,    AddBias,
      LinearCombination,   Convolution, MakeAttentionChoices, Attention, MakePool, Record};
  return &companion;
}
