#include "winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "bytes.h"
#include "fused.h"
#include "packed.h"

namespace torchbrush {
namespace {

const kernels::Winograd* Kernel(at::ScalarType type) {
  const kernels::Family* family = KernelsFor(type);
  return family == nullptr ? nullptr : family->winograd;
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t RoundUp(int64_t bytes) { return CeilDivide(bytes, 64) * 64; }

// Whether the transformed weights are kept. Where each of several threads can have its own panels, and reads
// them once for many tiles, transforming them again costs a few percent.
bool KeepsTransformed(int64_t in_channels, int64_t out_channels) {
  constexpr int64_t kMostWeights = 400'000;
  return in_channels * out_channels < kMostWeights;
}

int64_t Panels(const kernels::Winograd& kernel, int64_t out_channels) {
  return CeilDivide(out_channels, kernel.panel(out_channels));
}

// At most as many tiles as `wanted`, in blocks of the same size, a number of them that `threads` divides.
int64_t BlockOf(int64_t tiles, int64_t wanted, int64_t threads) {
  const int64_t rounds = CeilDivide(tiles, wanted * threads);
  return CeilDivide(tiles, rounds * threads);
}

// Pictures, weights and where the result goes.
struct Work {
  const kernels::Winograd* kernel;
  kernels::ConvolutionShape shape;
  int64_t element;
  const char* x;
  const char* packed;
  const float* bias;
  const char* addend;
  char* out;
};

// Each thread takes blocks of tiles, whose transforms stay in its cache, through all panels.
void ByTiles(const Work& work) {
  constexpr int64_t kLeast = 64, kMost = 96, kCache = int64_t{1} << 20;
  const kernels::Winograd& kernel = *work.kernel;
  const int64_t channels = work.shape.in_channels, threads = at::get_num_threads();
  const int64_t tiles = kernel.tiles(work.shape), panels = Panels(kernel, work.shape.out_channels);
  const int64_t wanted = std::clamp(kCache / kernel.tile_bytes(1, channels), kLeast, kMost);
  const int64_t block = BlockOf(tiles, wanted, threads);
  const int64_t tile_bytes = kernel.tile_bytes(block, channels);
  const int64_t own_bytes = RoundUp(tile_bytes + kernel.scratch_bytes(block, true));
  const at::Tensor memory = Room(RoundUp(channels * work.element) + threads * own_bytes);
  char* zeros = Bytes(memory);
  std::memset(zeros, 0, channels * work.element);
  at::parallel_for(0, CeilDivide(tiles, block), 1, [&](int64_t begin, int64_t end) {
    char* own = zeros + RoundUp(channels * work.element) + at::get_thread_num() * own_bytes;
    for (int64_t first = begin * block; first < std::min(tiles, end * block); first += block) {
      const int64_t count = std::min(block, tiles - first);
      kernel.transform(work.x, work.shape, first, 0, count, count, zeros, own);
      for (int64_t panel = 0; panel < panels; ++panel) {
        kernel.multiply(own, work.shape, work.packed, true, panel, work.bias, work.addend, first, count,
                        work.out, own + tile_bytes);
      }
    }
  });
}

// All threads transform a block of tiles, then each takes panels of weights through all of it.
void ByPanels(const Work& work) {
  constexpr int64_t kLeast = 128, kMost = 384, kCache = int64_t{8} << 20;
  const kernels::Winograd& kernel = *work.kernel;
  const int64_t channels = work.shape.in_channels, threads = at::get_num_threads();
  const int64_t tiles = kernel.tiles(work.shape), panels = Panels(kernel, work.shape.out_channels);
  const int64_t block = BlockOf(tiles, std::clamp(kCache / kernel.tile_bytes(1, channels), kLeast, kMost), 1);
  const int64_t own_bytes = RoundUp(kernel.scratch_bytes(block, false));
  const int64_t zero_bytes = RoundUp(channels * work.element);
  const at::Tensor memory = Room(zero_bytes + threads * own_bytes + kernel.tile_bytes(block, channels));
  char* zeros = Bytes(memory);
  char* scratch = zeros + zero_bytes;
  char* transformed = scratch + threads * own_bytes;
  std::memset(zeros, 0, channels * work.element);
  for (int64_t first = 0; first < tiles; first += block) {
    const int64_t count = std::min(block, tiles - first);
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      kernel.transform(work.x, work.shape, first, begin, end, count, zeros, transformed);
    });
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      char* own = scratch + at::get_thread_num() * own_bytes;
      for (int64_t panel = begin; panel < end; ++panel) {
        kernel.multiply(transformed, work.shape, work.packed, false, panel, work.bias, work.addend, first,
                        count, work.out, own);
      }
    });
  }
}

double Seconds(const std::function<void()>& run) {
  const auto began = std::chrono::steady_clock::now();
  run();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
  return taken.count();
}

// oneDNN must be clearly faster to be preferred, so that chance decides on no processor. They take turns,
// and more often as long as oneDNN leads: something else may have slowed all of our runs down.
bool WinsTrial(at::ScalarType type) {
  constexpr int kFewest = 3, kMost = 12;
  c10::InferenceMode inference;
  const auto options = at::TensorOptions().dtype(type);
  const at::Tensor x = at::full({1, 256, 32, 32}, 0.5, options).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor weight = at::full({256, 256, 3, 3}, 0.01, options);
  const at::Tensor packed = PackForWinograd(weight).weight;
  const auto direct = DirectConvolution(x, weight);
  double ours = std::numeric_limits<double>::infinity();
  double theirs = ours;
  bool wins = false;
  for (int i = 0; i < kFewest || (!wins && i < kMost); ++i) {
    ours = std::min(ours, Seconds([&] { WinogradConvolution(x, packed, 256, {}, {}); }));
    theirs = std::min(theirs, Seconds(direct));
    wins = ours < theirs * 1.15;
  }
  return wins;
}

bool Pays(at::ScalarType type) {
  static std::once_flag once[2];
  static bool pays[2];
  const int which = type == at::kFloat ? 0 : 1;
  std::call_once(once[which], [&] { pays[which] = WinsTrial(type); });
  return pays[which];
}

class WinogradRows final : public PackedRows {
 public:
  WinogradRows(const at::Tensor& weight, const at::Tensor& packed, bool transformed)
      : kernel_(Kernel(weight.scalar_type())),
        packed_(packed),
        out_channels_(weight.size(0)),
        in_channels_(weight.size(1)),
        transformed_(transformed) {}

  int64_t block_rows() const override { return kernel_->panel(out_channels_); }

  void Write(int64_t first, const at::Tensor& rows) const override {
    const int64_t panel = first / kernel_->panel(out_channels_);
    kernel_->pack(rows.const_data_ptr(), first, in_channels_, out_channels_, panel, panel + 1, transformed_,
                  Bytes(packed_));
  }

 private:
  const kernels::Winograd* kernel_;
  at::Tensor packed_;
  int64_t out_channels_;
  int64_t in_channels_;
  bool transformed_;
};

}  // namespace

bool PrefersWinograd(at::IntArrayRef x, at::IntArrayRef weight, at::ScalarType type) {
  constexpr int64_t kFewestTiles = 24, kFewestChannels = 64;
  const kernels::Winograd* kernel = Kernel(type);
  const bool fits = kernel != nullptr && x.size() == 4 && weight.size() == 4 && weight[2] == 3 &&
                    weight[3] == 3 && weight[1] == x[1] && weight[1] % kernel->channel_step == 0 &&
                    weight[0] % kernel->channel_step == 0 &&
                    std::min(weight[0], weight[1]) >= kFewestChannels;
  if (!fits) return false;
  const int64_t tiles = x[0] * CeilDivide(x[2], 2) * CeilDivide(x[3], 2);
  return tiles >= kFewestTiles && Pays(type);
}

Packed PackForWinograd(const at::Tensor& weight, bool may_transform) {
  const kernels::Winograd* kernel = Kernel(weight.scalar_type());
  const at::Tensor plain = weight.contiguous();
  const int64_t out_channels = weight.size(0), in_channels = weight.size(1);
  const bool transformed = may_transform && KeepsTransformed(in_channels, out_channels);
  const int64_t bytes = kernel->packed_bytes(in_channels, out_channels, transformed);
  at::Tensor packed = at::empty({bytes / plain.element_size()}, plain.options());
  at::parallel_for(0, Panels(*kernel, out_channels), 1, [&](int64_t first, int64_t last) {
    kernel->pack(plain.data_ptr(), 0, in_channels, out_channels, first, last, transformed, packed.data_ptr());
  });
  return {packed, std::make_unique<WinogradRows>(weight, packed, transformed)};
}

at::Tensor WinogradConvolution(const at::Tensor& given, const at::Tensor& packed, int64_t out_channels,
                               const at::Tensor& bias, const at::Tensor& addend) {
  const kernels::Winograd* kernel = Kernel(given.scalar_type());
  const auto has_bytes_of = [&, bytes = packed.numel() * packed.element_size()](bool transformed) {
    return kernel->packed_bytes(given.size(1), out_channels, transformed) == bytes;
  };
  const bool transformed = has_bytes_of(true);
  TORCH_CHECK(transformed || has_bytes_of(false), "A convolution takes another number of channels than ",
              given.size(1), ".");
  const at::Tensor x = given.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = addend.defined() ? addend.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const at::Tensor offsets = bias.defined() ? bias.to(at::kFloat).contiguous() : at::Tensor();
  const at::Tensor out =
      at::empty({x.size(0), out_channels, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  const Work work{kernel,
                  {x.size(0), x.size(2), x.size(3), x.size(1), out_channels},
                  x.element_size(),
                  Bytes(x),
                  Bytes(packed),
                  offsets.defined() ? offsets.const_data_ptr<float>() : nullptr,
                  y.defined() ? Bytes(y) : nullptr,
                  Bytes(out)};
  transformed ? ByTiles(work) : ByPanels(work);
  return out;
}

}  // namespace torchbrush
