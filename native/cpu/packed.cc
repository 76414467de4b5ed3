#include "packed.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "../run_memory.h"
#include "instruction_graph.h"
#include "small_linear.h"
#include "winograd.h"

namespace torchbrush {
namespace {

using Pointwise = c10::List<std::optional<at::Scalar>>;

c10::OperatorHandle Find(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
}

at::Tensor Call(const c10::OperatorHandle& op, torch::jit::Stack stack) {
  op.callBoxed(stack);
  return stack[0].toTensor();
}

struct OneDnn {
  c10::OperatorHandle convolution = Find("mkldnn::_convolution_pointwise");
  c10::OperatorHandle convolution_and_sum = Find("mkldnn::_convolution_pointwise", "binary");
  c10::OperatorHandle pack_convolution = Find("mkldnn::_reorder_convolution_weight");
  c10::OperatorHandle linear = Find("mkldnn::_linear_pointwise");
  c10::OperatorHandle pack_linear = Find("mkldnn::_reorder_linear_weight");
};

std::vector<int64_t> Integers(const c10::IValue& value) { return value.toIntVector(); }

// Whether the addend is as large as the convolution's result.
bool IsSumOf(const at::Tensor& x, int64_t out_channels, const at::Tensor& weight, const at::Tensor& addend,
             const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
             const std::vector<int64_t>& dilation) {
  if (addend.dim() != 4 || addend.scalar_type() != x.scalar_type()) return false;
  bool same = addend.size(0) == x.size(0) && addend.size(1) == out_channels;
  for (int i = 0; i < 2; ++i) {
    const int64_t kernel = weight.is_mkldnn() ? weight.size(2 + i) : 3;
    const int64_t reach = dilation[i] * (kernel - 1) + 1;
    same = same && addend.size(2 + i) == (x.size(2 + i) + 2 * padding[i] - reach) / stride[i] + 1;
  }
  return same;
}

struct ConvolutionOptions {
  std::vector<int64_t> stride;
  std::vector<int64_t> padding;
  std::vector<int64_t> dilation;
  int64_t groups;
};

// What has a faster way for 3×3 kernels, but for shapes.
bool IsPlain3x3(const ConvolutionOptions& options, const at::Tensor& weight) {
  const std::vector<int64_t> one{1, 1};
  return options.groups == 1 && options.stride == one && options.padding == one && options.dilation == one &&
         weight.dim() == 4;
}

Packed InLayoutOfOneDnn(const at::Tensor& plain, at::Tensor packed) {
  TORCH_CHECK(packed.is_mkldnn(), "oneDNN left a weight as it was.");
  auto rows = PackedLayout::Recognise(plain, packed);
  return {std::move(packed), std::move(rows)};
}

Packed PackConvolution(const OneDnn& onednn, const ConvolutionOptions& options, const at::Tensor& plain,
                       at::IntArrayRef sizes, bool is_narrow) {
  const auto& [stride, padding, dilation, groups] = options;
  if (IsPlain3x3(options, plain) && PrefersWinograd(sizes, plain.sizes(), plain.scalar_type())) {
    // Rounding a transformed weight would cost accuracy.
    return PackForWinograd(plain, !is_narrow);
  }
  return InLayoutOfOneDnn(plain,
                          Call(onednn.pack_convolution, {plain, padding, stride, dilation, groups, sizes}));
}

Packed PackLinear(const OneDnn& onednn, const at::Tensor& plain, at::IntArrayRef sizes) {
  if (PrefersSmallLinear(sizes, plain.sizes(), plain.scalar_type())) {
    return PackSmallLinear(plain);
  }
  const int64_t rows = c10::multiply_integers(sizes) / sizes.back();
  return InLayoutOfOneDnn(plain, Call(onednn.pack_linear, {plain, rows}));
}

// `addend` and `bias` may be undefined.
at::Tensor Convolution(const OneDnn& onednn, const ConvolutionOptions& options, const at::Tensor& x,
                       const at::Tensor& weight, int64_t out_channels, const c10::IValue& bias,
                       const at::Tensor& addend) {
  const auto& [stride, padding, dilation, groups] = options;
  const bool fused =
      addend.defined() && groups == 1 && IsSumOf(x, out_channels, weight, addend, stride, padding, dilation);
  at::Tensor y;
  if (!weight.is_mkldnn()) {
    const at::Tensor offset = bias.isTensor() ? bias.toTensor() : at::Tensor();
    y = WinogradConvolution(x, weight, out_channels, offset, fused ? addend : at::Tensor());
  } else if (fused) {
    y = Call(onednn.convolution_and_sum,
             {x, addend.contiguous(at::MemoryFormat::ChannelsLast), weight, bias, padding, stride, dilation,
              groups, "add", c10::IValue(), c10::IValue(), Pointwise(), c10::IValue()});
  } else {
    y = Call(onednn.convolution,
             {x, weight, bias, padding, stride, dilation, groups, "none", Pointwise(), c10::IValue()});
  }
  return addend.defined() && !fused ? y.add(addend) : y;
}

// With `adds`, the last input is what is added to the result.
void ReplaceConvolution(Instruction& instruction, const std::vector<c10::IValue>& fixed, bool adds,
                        const std::shared_ptr<PackedWeight>& held, const std::shared_ptr<OneDnn>& onednn) {
  const auto& in = instruction.inputs;
  const ConvolutionOptions options{Integers(fixed[~in[3]]), Integers(fixed[~in[4]]), Integers(fixed[~in[5]]),
                                   fixed[~in[6]].toInt()};
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor().contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor weight = held->For(x.sizes(), [&](const at::Tensor& plain, at::IntArrayRef sizes) {
      return PackConvolution(*onednn, options, plain, sizes, held->is_narrow());
    });
    const at::Tensor addend = adds ? stack[7].toTensor() : at::Tensor();
    at::Tensor y = Convolution(*onednn, options, x, weight, held->rows(), stack[2], addend);
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

void ReplaceLinear(Instruction& instruction, const std::shared_ptr<PackedWeight>& held,
                   const std::shared_ptr<OneDnn>& onednn) {
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    const at::Tensor weight = held->For(x.sizes(), [&](const at::Tensor& plain, at::IntArrayRef sizes) {
      return PackLinear(*onednn, plain, sizes);
    });
    at::Tensor y =
        weight.is_mkldnn()
            ? Call(onednn->linear, {x, weight, stack[2], "none", Pointwise(), c10::IValue()})
            : SmallLinear(x, weight, held->rows(), stack[2].isTensor() ? stack[2].toTensor() : at::Tensor());
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

bool IsConvolution(const Instruction& instruction) { return instruction.name == "aten::conv2d"; }

// Weights of convolutions and linear layers that are parameters and used nowhere else.
std::set<ValueRef> PackableWeights(const std::vector<Instruction>& instructions,
                                   const std::vector<c10::IValue>& fixed) {
  std::map<ValueRef, int> uses;
  for (const auto& instruction : instructions) {
    for (const ValueRef input : instruction.inputs) uses[input] += 1;
  }
  std::set<ValueRef> packable;
  for (const auto& instruction : instructions) {
    if (!IsConvolution(instruction) && instruction.name != "aten::linear") continue;
    const ValueRef weight = instruction.inputs[1];
    bool constant = weight < 0 && uses[weight] == 1 && fixed[~weight].isNone();
    for (size_t i = 3; i < instruction.inputs.size(); ++i) {
      const ValueRef input = instruction.inputs[i];
      constant = constant && input < 0 && !fixed[~input].isString();
    }
    if (constant) packable.insert(weight);
  }
  return packable;
}

}  // namespace

bool CanPack(at::ScalarType type) {
  if ((type != at::kFloat && type != at::kBFloat16) || !at::hasMKLDNN()) return false;
  try {
    // Not every processor has kernels for bfloat16; oneDNN says so when it is asked.
    Call(OneDnn().pack_linear, {at::zeros({16, 16}, at::TensorOptions().dtype(type)), 16});
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

std::function<void()> DirectConvolution(const at::Tensor& x, const at::Tensor& weight) {
  auto onednn = std::make_shared<OneDnn>();
  const std::vector<int64_t> one{1, 1};
  const at::Tensor packed = Call(onednn->pack_convolution, {weight, one, one, one, 1, x.sizes()});
  return [=] {
    Call(onednn->convolution,
         {x, packed, c10::IValue(), one, one, one, 1, "none", Pointwise(), c10::IValue()});
  };
}

void PackedWeight::Set(Source source) {
  source_ = std::move(source);
  packed_ = {};
  narrow_weight_ = {};
}

at::Tensor PackedWeight::For(at::IntArrayRef sizes, const Pack& pack) {
  if (source_ != nullptr) {
    if (sizes_.empty()) sizes_ = sizes.vec();
    const RunMemory::Pause pause;  // The weight stays.
    const at::Tensor plain = source_();
    packed_ = pack(plain, sizes_);
    rows_ = plain.size(0);
    if (narrow_) narrow_weight_ = narrow_->Keep(packed_, plain.sizes());
    if (narrow_weight_.values.defined()) packed_ = {};
    source_ = nullptr;
  }
  return narrow_weight_.values.defined() ? narrow_->Widen(narrow_weight_) : packed_.weight;
}

PackedWeights UsePackedOperators(const Program& program, std::vector<Instruction>& instructions,
                                 const std::vector<c10::IValue>& fixed,
                                 const std::shared_ptr<NarrowWeights>& narrow) {
  auto onednn = std::make_shared<OneDnn>();
  PackedWeights weights;
  const std::set<ValueRef> packable = PackableWeights(instructions, fixed);
  InstructionGraph graph(program, instructions, fixed);
  for (auto& instruction : instructions) {
    if (instruction.inputs.size() < 2 || packable.count(instruction.inputs[1]) == 0) continue;
    if (weights.count(instruction.inputs[1]) != 0) continue;  // Moved here a moment ago.
    auto held = weights[instruction.inputs[1]] = std::make_shared<PackedWeight>(narrow);
    if (!IsConvolution(instruction)) {
      ReplaceLinear(instruction, held, onednn);
      continue;
    }
    Instruction* sum = graph.OnlyTaker(instruction.outputs[0]);
    const bool adds = sum != nullptr && graph.IsSum(*sum) && sum->inputs[0] != sum->inputs[1];
    ReplaceConvolution(instruction, fixed, adds, held, onednn);
    if (!adds) continue;
    // The two move to where both summands are known.
    instruction.inputs.push_back(sum->inputs[sum->inputs[0] == instruction.outputs[0] ? 1 : 0]);
    instruction.outputs = sum->outputs;
    instruction.name += "+add";
    std::swap(instruction, *sum);
    graph.Remove(instruction);
  }
  EraseRemoved(instructions);
  return weights;
}

}  // namespace torchbrush
