// What the core asks of a companion: a library of its own, beside the core, that may link what the core
// must not. The one for CUDA needs libtorch_cuda and brings kernels and graphs. Core and companion are
// built together, by one compiler for one libtorch, so C++ types pass between them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace torchbrush {

// Recorded work, which runs again on the current stream with whatever its inputs' memory holds then.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void Replay() = 0;
};

struct GroupNormCall {
  at::Tensor input;   // [N,C,…]
  at::Tensor addend;  // Added before: [N,C] or [N,C,1,1]; may be undefined.
  at::Tensor bias;    // Added before: [C]; may be undefined.
  int64_t groups;
  at::Tensor weight;
  at::Tensor shift;
  double epsilon;
  bool silu;  // Afterwards.
};

struct ConvolutionCall {
  at::Tensor input;
  at::Tensor weight;
  std::optional<at::Tensor> bias;
  std::vector<int64_t> stride;
  std::vector<int64_t> padding;
  std::vector<int64_t> dilation;
  int64_t groups;
  bool tune;  // Tries the algorithms at the first use of a shape.
};

// The attention backends that were measured, by shape. One for each network.
class AttentionChoices {
 public:
  virtual ~AttentionChoices() = default;
};

// Functions that a companion lacks are null: the operators stay as they are then.
struct Companion {
  static constexpr uint32_t kVersion = 1;
  static constexpr int kLeastCapability = 80;

  uint32_t version;
  c10::DeviceType device;

  // 80 for a GPU of compute capability 8.0. The kernels need kLeastCapability.
  int (*capability)(c10::Device device);

  at::Tensor (*group_norm)(const GroupNormCall& call);
  // The first half along the last dimension times GELU of the second.
  at::Tensor (*geglu)(const at::Tensor& input);
  // a + b + bias[C], for [N,C,H,W] of one shape.
  at::Tensor (*add_bias)(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);
  at::Tensor (*linear_combination)(const std::vector<double>& coefficients,
                                   const std::vector<at::Tensor>& tensors, at::ScalarType result);
  at::Tensor (*convolution)(const ConvolutionCall& call);

  std::unique_ptr<AttentionChoices> (*make_attention_choices)();
  // Without mask and dropout, by the backend that was fastest for the shape.
  at::Tensor (*attention)(AttentionChoices& choices, const at::Tensor& query, const at::Tensor& key,
                          const at::Tensor& value, std::optional<double> scale);

  // Memory that recordings share; they must be replayed on one stream, and what a replay leaves must be
  // copied away before the next.
  std::shared_ptr<void> (*make_pool)(c10::Device device);
  // Runs `work` once to warm up and once to record it, both on a side stream. Throws what `work` throws
  // and what recording does; nothing is left of it then.
  std::unique_ptr<Recording> (*record)(c10::Device device, std::shared_ptr<void> pool,
                                       const std::function<void()>& work);
};

// The companion's one exported symbol.
constexpr const char* kCompanionSymbol = "torchbrush_companion";
using CompanionSymbol = const Companion* (*)();

}  // namespace torchbrush
