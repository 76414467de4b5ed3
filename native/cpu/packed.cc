#include "packed.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

namespace torchbrush {
namespace {

using Pointwise = c10::List<std::optional<at::Scalar>>;

c10::OperatorHandle Find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

at::Tensor Call(const c10::OperatorHandle& op, torch::jit::Stack stack) {
  op.callBoxed(stack);
  return stack[0].toTensor();
}

struct OneDnn {
  c10::OperatorHandle convolution = Find("mkldnn::_convolution_pointwise");
  c10::OperatorHandle pack_convolution = Find("mkldnn::_reorder_convolution_weight");
  c10::OperatorHandle linear = Find("mkldnn::_linear_pointwise");
  c10::OperatorHandle pack_linear = Find("mkldnn::_reorder_linear_weight");
};

std::vector<int64_t> Integers(const c10::IValue& value) { return value.toIntVector(); }

void ReplaceConvolution(Instruction& instruction, const std::vector<c10::IValue>& fixed,
                        const std::shared_ptr<PackedWeight>& held, const std::shared_ptr<OneDnn>& onednn) {
  const auto& in = instruction.inputs;
  const auto stride = Integers(fixed[~in[3]]);
  const auto padding = Integers(fixed[~in[4]]);
  const auto dilation = Integers(fixed[~in[5]]);
  const int64_t groups = fixed[~in[6]].toInt();
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor().contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor& weight = held->For(x.sizes(), [&](const at::Tensor& plain, at::IntArrayRef sizes) {
      return Call(onednn->pack_convolution, {plain, padding, stride, dilation, groups, sizes});
    });
    at::Tensor y = Call(onednn->convolution, {x, weight, stack[2], padding, stride, dilation, groups, "none",
                                              Pointwise(), c10::IValue()});
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

void ReplaceLinear(Instruction& instruction, const std::shared_ptr<PackedWeight>& held,
                   const std::shared_ptr<OneDnn>& onednn) {
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    const at::Tensor& weight = held->For(x.sizes(), [&](const at::Tensor& plain, at::IntArrayRef sizes) {
      return Call(onednn->pack_linear, {plain, c10::multiply_integers(sizes) / sizes.back()});
    });
    at::Tensor y = Call(onednn->linear, {x, weight, stack[2], "none", Pointwise(), c10::IValue()});
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
    // Old processors have no bfloat16 kernels; oneDNN says so when it is asked.
    Call(OneDnn().pack_linear, {at::zeros({16, 16}, at::TensorOptions().dtype(type)), 16});
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

void PackedWeight::Set(Source source) {
  source_ = std::move(source);
  packed_.reset();
  layout_.reset();
}

const at::Tensor& PackedWeight::For(at::IntArrayRef sizes, const Pack& pack) {
  if (packed_.defined()) return packed_;
  if (sizes_.empty()) sizes_ = sizes.vec();
  const at::Tensor plain = source_();
  at::Tensor packed = pack(plain, sizes_);
  // A packer that had nothing to do gives back what it was given, which is only lent.
  if (packed.layout() == at::kStrided && packed.is_alias_of(plain)) packed = packed.clone();
  layout_ = PackedLayout::Recognise(plain, packed);
  packed_ = std::move(packed);
  source_ = nullptr;
  return packed_;
}

PackedWeights UsePackedOperators(std::vector<Instruction>& instructions,
                                 const std::vector<c10::IValue>& fixed) {
  auto onednn = std::make_shared<OneDnn>();
  PackedWeights weights;
  const std::set<ValueRef> packable = PackableWeights(instructions, fixed);
  for (auto& instruction : instructions) {
    if (instruction.inputs.size() < 2 || packable.count(instruction.inputs[1]) == 0) continue;
    auto held = weights[instruction.inputs[1]] = std::make_shared<PackedWeight>();
    if (IsConvolution(instruction)) {
      ReplaceConvolution(instruction, fixed, held, onednn);
    } else {
      ReplaceLinear(instruction, held, onednn);
    }
  }
  return weights;
}

}  // namespace torchbrush
