#include "small_linear.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "bytes.h"
#include "fused.h"

namespace torchbrush {
namespace {

// Multiplications beyond which oneDNN is as fast.
constexpr int64_t kMostProducts = int64_t{1} << 26;

const kernels::Linear* Kernel(at::ScalarType type) {
  const kernels::Family* family = KernelsFor(type);
  return family == nullptr ? nullptr : family->linear;
}

class LinearRows final : public PackedRows {
 public:
  LinearRows(const at::Tensor& weight, const at::Tensor& packed)
      : kernel_(Kernel(weight.scalar_type())), packed_(packed), out_(weight.size(0)), in_(weight.size(1)) {}

  int64_t block_rows() const override { return kernel_->panel; }

  void Write(int64_t first, const at::Tensor& rows) const override {
    const int64_t panel = first / kernel_->panel;
    kernel_->pack(rows.const_data_ptr(), first, in_, out_, panel, panel + 1, packed_.data_ptr());
  }

 private:
  const kernels::Linear* kernel_;
  at::Tensor packed_;
  int64_t out_;
  int64_t in_;
};

}  // namespace

bool PrefersSmallLinear(at::IntArrayRef x, at::IntArrayRef weight, at::ScalarType type) {
  const kernels::Linear* kernel = Kernel(type);
  if (kernel == nullptr || x.empty() || weight.size() != 2) return false;
  const int64_t rows = c10::multiply_integers(x.slice(0, x.size() - 1));
  return x.back() == weight[1] && weight[1] % kernel->in_step == 0 && weight[0] % kernel->out_step == 0 &&
         rows * weight[0] * weight[1] <= kMostProducts;
}

Packed PackSmallLinear(const at::Tensor& weight) {
  const kernels::Linear* kernel = Kernel(weight.scalar_type());
  const at::Tensor plain = weight.contiguous();
  const int64_t out = weight.size(0), in = weight.size(1);
  at::Tensor packed = at::empty({kernel->packed_bytes(in, out) / plain.element_size()}, plain.options());
  at::parallel_for(0, kernel->panels(out), 1, [&](int64_t first, int64_t last) {
    kernel->pack(plain.const_data_ptr(), 0, in, out, first, last, packed.data_ptr());
  });
  return {packed, std::make_unique<LinearRows>(weight, packed)};
}

at::Tensor SmallLinear(const at::Tensor& given, const at::Tensor& packed, int64_t out,
                       const at::Tensor& bias) {
  const kernels::Linear* kernel = Kernel(given.scalar_type());
  const at::Tensor x = given.contiguous();
  const at::Tensor offsets = bias.defined() ? bias.to(at::kFloat).contiguous() : at::Tensor();
  const int64_t in = x.size(-1), rows = x.numel() / in, panels = kernel->panels(out);
  TORCH_CHECK(packed.numel() == in * out, "A linear layer takes rows of ", packed.numel() / out,
              " values, not ", in, ".");
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = out;
  const at::Tensor y = at::empty(sizes, x.options());
  // A thread's own panels, or, where those are few, its own rows of a panel.
  const int64_t threads = at::get_num_threads();
  const int64_t splits = std::min(panels % threads == 0 ? 1 : threads, std::max<int64_t>(rows / 8, 1));
  at::parallel_for(0, panels * splits, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = Room(kernel->scratch_bytes());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t panel = task / splits, part = task % splits;
      const int64_t first = part * rows / splits, last = (part + 1) * rows / splits;
      const auto at_row = [&](const at::Tensor& tensor, int64_t width) {
        return Bytes(tensor) + first * width * tensor.element_size();
      };
      kernel->run(at_row(x, in), last - first, packed.const_data_ptr(), in, out, panel,
                  offsets.defined() ? offsets.const_data_ptr<float>() : nullptr, at_row(y, out),
                  Bytes(scratch));
    }
  });
  return y;
}

}  // namespace torchbrush
