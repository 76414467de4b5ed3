// Compares a companion's kernels with libtorch's own operators in float64, over shapes that networks have
// and shapes that lie at the kernels' edges:
//   check LIBRARY [cpu|cuda] [FURTHER LIBRARIES…]
// Prints the largest error of each kernel; ends with 1 where one is too large. A development tool: the
// tests run it with the host's companion, scripts/gpu with CUDA's.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "companion.h"

namespace {

using torchbrush::Companion;

// Errors in units of the dtype's rounding error.
struct Tally {
  double limit{};
  double worst{};
  int count{};
  std::string where{};
};

struct Shape {
  std::vector<int64_t> sizes;  // [N,C,…]
  int64_t groups;
};

const std::vector<Shape> kShapes = {{{2, 320, 64, 64}, 32}, {{2, 640, 32, 32}, 32}, {{2, 2560, 8, 8}, 32},
                                    {{1, 960, 16, 20}, 32}, {{1, 128, 96, 80}, 32}, {{3, 32, 7, 9}, 32},
                                    {{1, 30, 5, 5}, 3},     {{2, 12, 1, 1}, 4},     {{1, 7, 3, 11}, 7},
                                    {{1, 512, 4, 4}, 1},    {{1, 24, 129, 3}, 2},   {{2, 512, 77}, 32},
                                    {{1, 320, 1, 4096}, 32}};

class Check {
 public:
  Check(const Companion& companion, c10::Device device) : companion_(companion), device_(device) {}

  bool Run() {
    for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16}) {
      options_ = at::TensorOptions().device(device_).dtype(type);
      for (const auto& shape : kShapes) GroupNorms(shape);
      for (const auto& sizes :
           std::vector<std::vector<int64_t>>{{2, 77, 640}, {3, 5, 26}, {1, 4096, 2560}, {6}}) {
        Geglus(sizes);
      }
      for (const auto& sizes :
           std::vector<std::vector<int64_t>>{{2, 320, 16, 16}, {1, 5, 3, 3}, {2, 8, 1, 7}}) {
        Additions(sizes);
      }
      for (const int terms : {1, 2, 8, 9, 20}) Combinations(type, terms);
    }
    bool good = true;
    for (const auto& [name, tally] : tallies_) {
      printf("%-28s %3d cases, largest error %6.2f rounding steps (limit %3.0f) at %s\n", name.c_str(),
             tally.count, tally.worst, tally.limit, tally.where.c_str());
      good = good && tally.worst <= tally.limit;
    }
    return good;
  }

 private:
  // In float32 the error is that of the sums on the way, where terms cancel; the narrow types are rounded
  // once, at the end.
  static double LimitOf(const std::string& kernel, at::ScalarType type) {
    if (kernel == "linear_combination") return 1.01;
    if (type != at::kFloat) return 1.5;
    return kernel == "group_norm" ? 200 : kernel == "geglu" ? 32 : 8;
  }

  // The distance from the truth, as a multiple of the dtype's rounding error at the truth's size.
  void Compare(const std::string& kernel, const at::Tensor& answer, const at::Tensor& truth,
               const std::string& where) {
    const at::ScalarType type = answer.scalar_type();
    const double step = type == at::kHalf ? 0x1p-11 : type == at::kBFloat16 ? 0x1p-8 : 0x1p-24;
    TORCH_CHECK(answer.sizes() == truth.sizes(), kernel, " gave ", answer.sizes(), " for ", truth.sizes());
    const at::Tensor exact = truth.cpu();
    const at::Tensor allowed = exact.abs().clamp_min(0.5) * step;
    const double error = ((answer.cpu().to(at::kDouble) - exact).abs() / allowed).max().item<double>();
    Tally& tally = tallies_[kernel + " " + c10::toString(type)];
    tally.limit = LimitOf(kernel, type);
    tally.count += 1;
    if (!(error <= tally.worst)) {
      tally.worst = error;
      tally.where = where;
    }
  }

  at::Tensor Random(const std::vector<int64_t>& sizes, double mean = 0, double deviation = 1) const {
    return (at::randn(sizes, at::kFloat) * deviation + mean).to(options_);
  }

  void GroupNorms(const Shape& shape) {
    const int64_t batch = shape.sizes[0];
    const int64_t channels = shape.sizes[1];
    std::vector<int64_t> ones(shape.sizes.size(), 1);
    for (int variant = 0; variant < 8; ++variant) {
      const bool silu = (variant & 1) != 0;
      torchbrush::GroupNormCall call{
          Random(shape.sizes, 3, 0.5), {},   {},  shape.groups, Random({channels}, 1),
          Random({channels}),          1e-5, silu};
      if (shape.sizes.size() == 4) call.input = call.input.contiguous(at::MemoryFormat::ChannelsLast);
      at::Tensor x = call.input.to(at::kDouble);
      if ((variant & 2) != 0) {
        call.addend = Random({batch, channels, 1, 1});
        ones[0] = batch, ones[1] = channels;
        x = x + call.addend.to(at::kDouble).reshape(ones);
      }
      if ((variant & 4) != 0) {
        call.bias = Random({channels});
        ones[0] = 1, ones[1] = channels;
        x = x + call.bias.to(at::kDouble).reshape(ones);
      }
      at::Tensor truth = at::group_norm(x.cpu().contiguous(), shape.groups, call.weight.to(at::kDouble).cpu(),
                                        call.shift.to(at::kDouble).cpu(), 1e-5);
      if (silu) truth = at::silu(truth);
      const at::Tensor before = call.input.clone();
      Compare("group_norm", companion_.group_norm(call), truth,
              Describe(shape.sizes) + " variant " + std::to_string(variant));
      TORCH_CHECK(at::equal(before, call.input), "group_norm wrote to its input.");
    }
  }

  void Geglus(const std::vector<int64_t>& sizes) {
    const at::Tensor x = Random(sizes, 0, 2);
    const auto halves = x.to(at::kDouble).cpu().chunk(2, -1);
    Compare("geglu", companion_.geglu(x), halves[0] * at::gelu(halves[1]), Describe(sizes));
  }

  void Additions(const std::vector<int64_t>& sizes) {
    const at::Tensor a = Random(sizes).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor b = Random(sizes);
    const at::Tensor bias = Random({sizes[1]});
    const at::Tensor truth = a.to(at::kDouble) + b.to(at::kDouble) + bias.to(at::kDouble).view({-1, 1, 1});
    Compare("add_bias", companion_.add_bias(a, b, bias), truth, Describe(sizes));
  }

  void Combinations(at::ScalarType result, int terms) {
    std::vector<double> coefficients;
    std::vector<at::Tensor> tensors;
    at::Tensor truth = at::zeros({2, 4, 9, 7}, at::kDouble);
    for (int i = 0; i < terms; ++i) {
      coefficients.push_back(1.5 - 0.7 * i);
      tensors.push_back(Random({2, 4, 9, 7}).to(i % 3 == 0 ? result : i % 3 == 1 ? at::kFloat : at::kDouble));
      truth += coefficients.back() * tensors.back().to(at::kDouble).cpu();
    }
    Compare("linear_combination", companion_.linear_combination(coefficients, tensors, result), truth,
            std::to_string(terms) + " terms");
  }

  std::string Describe(const std::vector<int64_t>& sizes) const {
    std::string text = c10::toString(options_.dtype().toScalarType());
    for (const int64_t size : sizes) text.append(" ").append(std::to_string(size));
    return text;
  }

  const Companion& companion_;
  c10::Device device_;
  at::TensorOptions options_;
  std::map<std::string, Tally> tallies_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  for (int i = 3; i < count; ++i) {
    if (dlopen(arguments[i], RTLD_NOW | RTLD_GLOBAL) == nullptr) printf("%s\n", dlerror());
  }
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return printf("%s\n", dlerror()), 1;
  const auto symbol =
      reinterpret_cast<torchbrush::CompanionSymbol>(dlsym(library, torchbrush::kCompanionSymbol));
  try {
    at::manual_seed(7);
    return Check(*symbol(), c10::Device(count > 2 ? arguments[2] : "cpu")).Run() ? 0 : 1;
  } catch (const std::exception& error) {
    return printf("%s\n", error.what()), 1;
  }
}
