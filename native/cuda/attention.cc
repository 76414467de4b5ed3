#include "attention.h"

#include <ATen/native/transformers/cuda/sdp_utils.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <limits>
#include <map>

namespace torchbrush {
namespace {

enum class Backend { kAny, kFlash, kCudnn, kEfficient };

struct Operands {
  const at::Tensor& query;  // [B,H,L,D]
  const at::Tensor& key;
  const at::Tensor& value;
  std::optional<double> scale;
};

// Calls the backend itself: libtorch's switches between them hold for the whole process.
at::Tensor Run(Backend backend, const Operands& of) {
  switch (backend) {
    case Backend::kFlash:
      return std::get<0>(
          at::_scaled_dot_product_flash_attention(of.query, of.key, of.value, 0.0, false, false, of.scale));
    case Backend::kCudnn:
      return std::get<0>(at::_scaled_dot_product_cudnn_attention(of.query, of.key, of.value, std::nullopt,
                                                                 false, 0.0, false, false, of.scale));
    case Backend::kEfficient:
      return std::get<0>(at::_scaled_dot_product_efficient_attention(of.query, of.key, of.value, std::nullopt,
                                                                     false, 0.0, false, of.scale));
    default:
      return at::scaled_dot_product_attention(of.query, of.key, of.value, std::nullopt, 0.0, false, of.scale);
  }
}

std::vector<Backend> Candidates(const Operands& of) {
  std::vector<Backend> usable{Backend::kAny};
  const sdp::sdp_params params{of.query, of.key, of.value, std::nullopt, 0.0, false, false};
  // Head sizes that are no multiple of 8 are padded by the general operator only.
  if (of.query.size(-1) % 8 != 0) return usable;
  if (sdp::can_use_flash_attention(params, false)) usable.push_back(Backend::kFlash);
  if (sdp::can_use_cudnn_attention(params, false)) usable.push_back(Backend::kCudnn);
  if (sdp::can_use_mem_efficient_attention(params, false)) usable.push_back(Backend::kEfficient);
  return usable;
}

class MeasuredChoices : public AttentionChoices {
 public:
  Backend For(const Operands& of) {
    const Shape shape = ShapeOf(of);
    if (const auto known = chosen_.find(shape); known != chosen_.end()) return known->second;
    // Nothing can be measured inside a recording; its warm-up has the same shapes, so this is rare.
    if (c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None)
      return Backend::kAny;
    return chosen_[shape] = Fastest(of);
  }

 private:
  using Shape = std::vector<int64_t>;

  static Shape ShapeOf(const Operands& of) {
    Shape shape{static_cast<int64_t>(of.query.scalar_type())};
    for (const auto* tensor : {&of.query, &of.key, &of.value}) {
      shape.insert(shape.end(), tensor->sizes().begin(), tensor->sizes().end());
    }
    return shape;
  }

  static Backend Fastest(const Operands& of) {
    Backend best = Backend::kAny;
    double least = std::numeric_limits<double>::infinity();
    for (const Backend backend : Candidates(of)) {
      const double taken = Time(backend, of);
      if (taken < least) {
        least = taken;
        best = backend;
      }
    }
    return best;
  }

  // Milliseconds; the least of several tries, for others may use the stream. Infinite where the backend
  // refuses: it knows its limits best.
  static double Time(Backend backend, const Operands& of) {
    constexpr int kTries = 3;
    constexpr int kRuns = 3;
    double least = std::numeric_limits<double>::infinity();
    try {
      const c10::Stream stream = c10::cuda::getCurrentCUDAStream();
      Run(backend, of);
      for (int i = 0; i < kTries; ++i) {
        c10::Event began(c10::DeviceType::CUDA, c10::EventFlag::BACKEND_DEFAULT);
        c10::Event ended(c10::DeviceType::CUDA, c10::EventFlag::BACKEND_DEFAULT);
        began.record(stream);
        for (int run = 0; run < kRuns; ++run) Run(backend, of);
        ended.record(stream);
        ended.synchronize();
        least = std::min(least, began.elapsedTime(ended));
      }
    } catch (const c10::OutOfMemoryError&) {
      if (backend == Backend::kAny) throw;
    } catch (const c10::Error&) {
      if (backend == Backend::kAny) throw;
    }
    return least;
  }

  std::map<Shape, Backend> chosen_;
};

}  // namespace

std::unique_ptr<AttentionChoices> MakeAttentionChoices() { return std::make_unique<MeasuredChoices>(); }

at::Tensor Attention(AttentionChoices& choices, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value, std::optional<double> scale) {
  c10::DeviceGuard guard(query.device());
  const Operands of{query, key, value, scale};
  if (query.dim() != 4) return Run(Backend::kAny, of);
  return Run(static_cast<MeasuredChoices&>(choices).For(of), of);
}

}  // namespace torchbrush
