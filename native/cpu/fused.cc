#include "fused.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>
#include <vector>

#include "bytes.h"

namespace torchbrush {
namespace {

// A tensor whose rows have their values one behind the other.
at::Tensor WithWholeRows(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

// One of several heads: where it starts and how far its rows are apart.
struct Heads {
  explicit Heads(at::Tensor tensor) : x(WithWholeRows(tensor)), bytes(x.element_size()) {}
  char* At(int64_t head, int64_t row) const {
    const int64_t batch = head / x.size(1);
    const int64_t elements = batch * x.stride(0) + head % x.size(1) * x.stride(1) + row * x.stride(2);
    return Bytes(x) + elements * bytes;
  }
  at::Tensor x;
  int64_t bytes;
};

// A mask's rows as numbers to add, shared by all heads.
struct MaskRows {
  const float* At(int64_t batch, int64_t row) const {
    if (!numbers.defined()) return nullptr;
    return numbers.const_data_ptr<float>() + (numbers.size(0) > 1 ? batch : 0) * numbers.stride(0) +
           row * stride();
  }
  int64_t stride() const { return numbers.defined() ? numbers.stride(1) : 0; }
  at::Tensor numbers;  // [1 or batch, rows, padded keys]; undefined without a mask.
};

// `sizes` are those of the scores [B,H,N,M]; none for a mask that differs between heads.
std::optional<MaskRows> RowsOf(const at::Tensor& mask, at::IntArrayRef sizes, int64_t step) {
  if (!mask.defined()) return MaskRows{};
  const bool fits = mask.dim() == 4 && (mask.size(0) == 1 || mask.size(0) == sizes[0]) && mask.size(1) == 1 &&
                    (mask.size(2) == 1 || mask.size(2) == sizes[2]) && mask.size(3) == sizes[3];
  if (!fits) return std::nullopt;
  const int64_t padded = (sizes[3] + step - 1) / step * step;
  at::Tensor numbers = at::zeros({mask.size(0), sizes[2], padded}, at::TensorOptions().dtype(at::kFloat));
  at::Tensor inside = numbers.narrow(2, 0, sizes[3]);
  const at::Tensor given = mask.squeeze(1);
  if (mask.scalar_type() == at::kBool) {
    inside.masked_fill_(given.logical_not(), -std::numeric_limits<float>::infinity());
  } else {
    inside.copy_(given);
  }
  return MaskRows{std::move(numbers)};
}

std::vector<float> Numbers(const at::Tensor& values, int64_t count, float otherwise) {
  if (!values.defined()) return std::vector<float>(count, otherwise);
  const at::Tensor plain = values.to(at::kFloat).contiguous();
  const float* first = plain.const_data_ptr<float>();
  return std::vector<float>(first, first + plain.numel());
}

// The moments of pieces of a picture's rows, taken about a shift near the mean, so that float32 sums do.
struct Moments {
  std::vector<float> shift;    // [channels]
  std::vector<float> sum;      // [pieces, channels]
  std::vector<float> squares;  // [pieces, channels]
};

// Mean and 1/√(variance + ε) of channels first … first+count-1.
std::pair<double, double> Group(const Moments& moments, int64_t channels, int64_t rows, int64_t first,
                                int64_t count, double epsilon) {
  const int64_t pieces = moments.sum.size() / channels;
  std::vector<double> means(count);
  double mean = 0;
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    double sum = 0;
    double square = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      sum += moments.sum[piece * channels + first + i];
      square += moments.squares[piece * channels + first + i];
    }
    means[i] = moments.shift[first + i] + sum / rows;
    mean += means[i] / count;
    squares += square - sum * sum / rows;
  }
  for (const double own : means) squares += rows * (own - mean) * (own - mean);
  const double variance = std::max(squares, 0.0) / (static_cast<double>(rows) * count);
  return {mean, 1.0 / std::sqrt(variance + epsilon)};
}

}  // namespace

const kernels::Family* KernelsFor(at::ScalarType type) {
  static const kernels::Kernels* const best = kernels::Best();
  if (best == nullptr) return nullptr;
  if (type == at::kFloat) return &best->floats;
  return type == at::kBFloat16 ? &best->bfloat16 : nullptr;
}

at::Tensor FusedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const at::Tensor& mask, std::optional<double> scale) {
  const kernels::Family* family = KernelsFor(q.scalar_type());
  const kernels::Attention* kernel = family == nullptr ? nullptr : family->attention;
  const bool fits = kernel != nullptr && q.dim() == 4 && k.dim() == 4 && v.sizes() == k.sizes() &&
                    q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3) &&
                    k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type() &&
                    q.size(3) % 2 == 0 && q.numel() > 0 && k.numel() > 0;
  if (!fits) return {};
  const int64_t batch = q.size(0), heads = q.size(1), rows = q.size(2), head_size = q.size(3);
  const int64_t keys = k.size(2);
  const std::optional<MaskRows> masks = RowsOf(mask, {batch, heads, rows, keys}, kernel->mask_step);
  if (!masks) return {};
  const at::Tensor out = at::empty({batch, rows, heads, head_size}, q.options()).transpose(1, 2);
  const Heads queries(q), key_heads(k), value_heads(v), results(out);
  const int64_t packed_bytes = kernel->packed_bytes(keys, head_size);
  const at::Tensor packed = Room(batch * heads * packed_bytes);
  at::parallel_for(0, batch * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      kernel->pack(key_heads.At(head, 0), key_heads.x.stride(2), value_heads.At(head, 0),
                   value_heads.x.stride(2), keys, head_size, Bytes(packed) + head * packed_bytes);
    }
  });
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(head_size)));
  const int64_t blocks = (rows + kernel->query_block - 1) / kernel->query_block;
  at::parallel_for(0, batch * heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = Room(kernel->scratch_bytes(head_size));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / blocks, row = task % blocks * kernel->query_block;
      kernel->run(queries.At(head, row), queries.x.stride(2), std::min(kernel->query_block, rows - row),
                  Bytes(packed) + head * packed_bytes, keys, head_size, static_cast<float>(factor),
                  masks->At(head / heads, row), masks->stride(), results.At(head, row), results.x.stride(2),
                  Bytes(scratch));
    }
  });
  return out;
}

at::Tensor FusedGroupNorm(const at::Tensor& given, const at::Tensor& addend, int64_t groups,
                          const at::Tensor& weight, const at::Tensor& bias, double epsilon, bool silu) {
  const kernels::Family* family = KernelsFor(given.scalar_type());
  if (family == nullptr || given.dim() != 4 || given.numel() == 0 || given.size(1) % groups != 0) return {};
  const int64_t batch = given.size(0), channels = given.size(1), rows = given.size(2) * given.size(3);
  if (addend.defined() && addend.numel() != batch * channels) return {};
  const at::Tensor x = given.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor out = at::empty_like(x);
  const std::vector<float> factors = Numbers(weight, channels, 1), offsets = Numbers(bias, channels, 0);
  const std::vector<float> added = addend.defined() ? Numbers(addend, channels, 0) : std::vector<float>();
  constexpr int64_t kPiece = 256;  // Rows whose float32 sums are exact enough.
  const int64_t pieces = (rows + kPiece - 1) / kPiece;
  const int64_t picture = rows * channels * x.element_size();
  std::vector<Moments> moments(batch);
  const auto addend_of = [&](int64_t b) { return added.empty() ? nullptr : added.data() + b * channels; };
  for (int64_t b = 0; b < batch; ++b) {
    auto& [shift, sum, squares] = moments[b];
    shift.resize(channels);
    for (int64_t c = 0; c < channels; ++c) {
      shift[c] =
          family->group_norm.load(Bytes(x) + b * picture, c) + (added.empty() ? 0 : added[b * channels + c]);
    }
    sum.resize(pieces * channels);
    squares.resize(pieces * channels);
  }
  at::parallel_for(0, batch * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / pieces, piece = task % pieces, first = piece * kPiece;
      Moments& own = moments[b];
      family->group_norm.moments(Bytes(x) + b * picture + first * channels * x.element_size(), addend_of(b),
                                 std::min(kPiece, rows - first), channels, own.shift.data(),
                                 own.sum.data() + piece * channels, own.squares.data() + piece * channels);
    }
  });
  std::vector<float> factor(batch * channels), offset(batch * channels);
  const int64_t size = channels / groups;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t first = 0; first < channels; first += size) {
      const auto [mean, inverse] = Group(moments[b], channels, rows, first, size, epsilon);
      for (int64_t c = first; c < first + size; ++c) {
        const double own = inverse * factors[c];
        factor[b * channels + c] = static_cast<float>(own);
        const double moved = (added.empty() ? 0.0 : added[b * channels + c]) - mean;
        offset[b * channels + c] = static_cast<float>(moved * own + offsets[c]);
      }
    }
  }
  at::parallel_for(0, batch * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / pieces, first = task % pieces * kPiece;
      const int64_t start = b * picture + first * channels * x.element_size();
      family->group_norm.apply(Bytes(x) + start, factor.data() + b * channels, offset.data() + b * channels,
                               std::min(kPiece, rows - first), channels, silu, Bytes(out) + start);
    }
  });
  return out;
}

std::pair<at::Tensor, at::Tensor> FusedLayerNorm(const at::Tensor& given, const at::Tensor& addend,
                                                 const at::Tensor& weight, const at::Tensor& bias,
                                                 double epsilon) {
  const kernels::Family* family = KernelsFor(given.scalar_type());
  if (family == nullptr || given.dim() < 1 || given.numel() == 0) return {};
  const int64_t channels = given.size(-1);
  const bool fits =
      (!weight.defined() || weight.numel() == channels) &&
      (!addend.defined() || (addend.sizes() == given.sizes() && addend.scalar_type() == given.scalar_type()));
  if (!fits) return {};
  const at::Tensor x = given.contiguous();
  const at::Tensor y = addend.defined() ? addend.contiguous() : at::Tensor();
  const at::Tensor out = at::empty_like(x);
  const at::Tensor sum = y.defined() ? at::empty_like(x) : at::Tensor();
  const std::vector<float> factors = Numbers(weight, channels, 1), offsets = Numbers(bias, channels, 0);
  const int64_t rows = x.numel() / channels, bytes = channels * x.element_size();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(channels);
    const auto at = [&](const at::Tensor& tensor) {
      return tensor.defined() ? Bytes(tensor) + begin * bytes : nullptr;
    };
    family->rows.layer_norm(at(x), at(y), end - begin, channels, factors.data(), offsets.data(),
                            static_cast<float>(epsilon), at(sum), at(out), scratch.data());
  });
  return {sum, out};
}

at::Tensor FusedGatedGelu(const at::Tensor& given) {
  const kernels::Family* family = KernelsFor(given.scalar_type());
  if (family == nullptr || given.dim() < 1 || given.numel() == 0 || given.size(-1) % 2 != 0) return {};
  const at::Tensor x = given.contiguous();
  const int64_t channels = x.size(-1) / 2;
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = channels;
  const at::Tensor out = at::empty(sizes, x.options());
  const int64_t bytes = channels * x.element_size();
  at::parallel_for(0, x.numel() / channels / 2, 4, [&](int64_t begin, int64_t end) {
    family->rows.gated_gelu(Bytes(x) + begin * 2 * bytes, end - begin, channels, Bytes(out) + begin * bytes);
  });
  return out;
}

at::Tensor FusedScaledSilu(const at::Tensor& given, double factor) {
  const kernels::Family* family = KernelsFor(given.scalar_type());
  if (family == nullptr) return {};
  constexpr int64_t kPiece = 4096;
  const at::Tensor x = given.contiguous();
  const at::Tensor out = at::empty_like(x);
  at::parallel_for(0, x.numel(), kPiece, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * x.element_size();
    family->rows.scaled_silu(Bytes(x) + start, end - begin, static_cast<float>(factor), Bytes(out) + start);
  });
  return out;
}

}  // namespace torchbrush
