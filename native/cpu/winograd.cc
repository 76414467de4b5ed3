#include "winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <mutex>
#include <vector>

#include "fused.h"
#include "packed.h"

namespace torchbrush {
namespace {

const kernels::Winograd* Kernel(at::ScalarType type) {
  const kernels::Family* family = KernelsFor(type);
  return family == nullptr ? nullptr : family->winograd;
}

char* Bytes(const at::Tensor& tensor) { return static_cast<char*>(tensor.data_ptr()); }

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles that a thread takes at a time: enough to use weights that come from memory well, few enough for
// their transforms to stay in the cache; and the same number for each thread.
int64_t BlockOf(int64_t tiles, int64_t in_channels, int64_t element, int64_t threads) {
  constexpr int64_t kLeast = 66, kMost = 96, kRows = 6;
  constexpr int64_t kCache = int64_t{1} << 20;
  const int64_t wanted = std::clamp(kCache / (16 * in_channels * element), kLeast, kMost);
  const int64_t rounds = CeilDivide(tiles, wanted * threads);
  return CeilDivide(CeilDivide(tiles, rounds * threads), kRows) * kRows;
}

double BestOf(int times, const std::function<void()>& run) {
  double best = std::numeric_limits<double>::infinity();
  run();
  for (int i = 0; i < times; ++i) {
    const auto began = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
    best = std::min(best, taken.count());
  }
  return best;
}

// oneDNN must be clearly faster to be preferred, so that chance decides on no processor.
bool WinsTrial(at::ScalarType type) {
  c10::InferenceMode inference;
  const auto options = at::TensorOptions().dtype(type);
  const at::Tensor x = at::full({1, 256, 32, 32}, 0.5, options).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor weight = at::full({256, 256, 3, 3}, 0.01, options);
  const at::Tensor packed = PackForWinograd(weight);
  const double ours = BestOf(4, [&] { WinogradConvolution(x, packed, 256, {}, {}); });
  const double theirs = BestOf(4, DirectConvolution(x, weight));
  return ours < theirs * 1.15;
}

bool Pays(at::ScalarType type) {
  static std::once_flag once[2];
  static bool pays[2];
  const int which = type == at::kFloat ? 0 : 1;
  std::call_once(once[which], [&] { pays[which] = WinsTrial(type); });
  return pays[which];
}

class TransformedRows final : public PackedRows {
 public:
  TransformedRows(const at::Tensor& weight, const at::Tensor& packed)
      : kernel_(Kernel(weight.scalar_type())),
        packed_(packed),
        out_channels_(weight.size(0)),
        in_channels_(weight.size(1)) {}

  int64_t block_rows() const override { return kernel_->panel; }

  void Write(int64_t first, const at::Tensor& rows) const override {
    const int64_t panel = first / kernel_->panel;
    kernel_->pack(rows.const_data_ptr(), first, in_channels_, out_channels_, panel, panel + 1,
                  Bytes(packed_));
  }

 private:
  const kernels::Winograd* kernel_;
  at::Tensor packed_;
  int64_t out_channels_;
  int64_t in_channels_;
};

}  // namespace

std::unique_ptr<PackedRows> WinogradRows(const at::Tensor& weight, const at::Tensor& packed) {
  return std::make_unique<TransformedRows>(weight, packed);
}

bool PrefersWinograd(at::IntArrayRef x, at::IntArrayRef weight, at::ScalarType type) {
  constexpr int64_t kFewestTiles = 96, kFewestChannels = 64;
  const kernels::Winograd* kernel = Kernel(type);
  const bool fits = kernel != nullptr && x.size() == 4 && weight.size() == 4 && weight[2] == 3 &&
                    weight[3] == 3 && weight[1] == x[1] && weight[1] % kernel->channel_step == 0 &&
                    weight[0] % kernel->channel_step == 0 &&
                    std::min(weight[0], weight[1]) >= kFewestChannels;
  if (!fits) return false;
  const int64_t tiles = x[0] * CeilDivide(x[2], 2) * CeilDivide(x[3], 2);
  return tiles >= kFewestTiles && Pays(type);
}

at::Tensor PackForWinograd(const at::Tensor& weight) {
  const kernels::Winograd* kernel = Kernel(weight.scalar_type());
  const at::Tensor plain = weight.contiguous();
  const int64_t out_channels = weight.size(0), in_channels = weight.size(1);
  const int64_t bytes = kernel->packed_bytes(in_channels, out_channels);
  at::Tensor packed = at::empty({bytes / plain.element_size()}, plain.options());
  at::parallel_for(0, kernel->panels(out_channels), 1, [&](int64_t first, int64_t last) {
    kernel->pack(plain.data_ptr(), 0, in_channels, out_channels, first, last, packed.data_ptr());
  });
  return packed;
}

at::Tensor WinogradConvolution(const at::Tensor& given, const at::Tensor& packed, int64_t out_channels,
                               const at::Tensor& bias, const at::Tensor& addend) {
  const kernels::Winograd* kernel = Kernel(given.scalar_type());
  const at::Tensor x = given.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = addend.defined() ? addend.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const at::Tensor offsets = bias.defined() ? bias.to(at::kFloat).contiguous() : at::Tensor();
  const at::Tensor out =
      at::empty({x.size(0), out_channels, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  const kernels::ConvolutionShape shape{x.size(0), x.size(2), x.size(3), x.size(1), out_channels};
  const int64_t tiles = kernel->tiles(shape);
  const int64_t threads = at::get_num_threads();
  const int64_t block = BlockOf(tiles, x.size(1), x.element_size(), threads);
  const int64_t scratch_bytes = CeilDivide(kernel->scratch_bytes(block, x.size(1)), 64) * 64;
  const at::Tensor scratch = at::empty({threads * scratch_bytes}, at::TensorOptions().dtype(at::kByte));
  at::parallel_for(0, CeilDivide(tiles, block), 1, [&](int64_t begin, int64_t end) {
    char* own = Bytes(scratch) + at::get_thread_num() * scratch_bytes;
    for (int64_t first = begin * block; first < std::min(tiles, end * block); first += block) {
      kernel->run(Bytes(x), shape, Bytes(packed),
                  offsets.defined() ? offsets.const_data_ptr<float>() : nullptr,
                  y.defined() ? Bytes(y) : nullptr, first, std::min(block, tiles - first), Bytes(out), own);
    }
  });
  return out;
}

}  // namespace torchbrush
