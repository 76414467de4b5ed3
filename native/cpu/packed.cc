#include "packed.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <map>
#include <memory>
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

// One weight; packed for the first shape it meets. Other shapes reuse it.
struct PackedWeight {
  at::Tensor weight;
  bool packed = false;
};

std::vector<int64_t> Integers(const c10::IValue& value) { return value.toIntVector(); }

void ReplaceConvolution(Instruction& instruction, std::vector<c10::IValue>& fixed,
                        const std::shared_ptr<OneDnn>& onednn) {
  const auto& in = instruction.inputs;
  const auto stride = Integers(fixed[~in[3]]);
  const auto padding = Integers(fixed[~in[4]]);
  const auto dilation = Integers(fixed[~in[5]]);
  const int64_t groups = fixed[~in[6]].toInt();
  auto held = std::make_shared<PackedWeight>(PackedWeight{fixed[~in[1]].toTensor()});
  fixed[~in[1]] = c10::IValue();
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor().contiguous(at::MemoryFormat::ChannelsLast);
    if (!held->packed) {
      held->weight =
          Call(onednn->pack_convolution, {held->weight, padding, stride, dilation, groups, x.sizes().vec()});
      held->packed = true;
    }
    at::Tensor y = Call(onednn->convolution, {x, held->weight, stack[2], padding, stride, dilation, groups,
                                              "none", Pointwise(), c10::IValue()});
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

void ReplaceLinear(Instruction& instruction, std::vector<c10::IValue>& fixed,
                   const std::shared_ptr<OneDnn>& onednn) {
  const auto& in = instruction.inputs;
  auto held = std::make_shared<PackedWeight>(PackedWeight{fixed[~in[1]].toTensor()});
  fixed[~in[1]] = c10::IValue();
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    if (!held->packed) {
      const int64_t rows = x.numel() / x.size(-1);
      held->weight = Call(onednn->pack_linear, {held->weight, rows});
      held->packed = true;
    }
    at::Tensor y = Call(onednn->linear, {x, held->weight, stack[2], "none", Pointwise(), c10::IValue()});
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

// oneDNN has no bfloat16 kernels for older processors; it says so when asked.
bool CanPack(const OneDnn& onednn, at::ScalarType type) {
  try {
    Call(onednn.pack_linear, {at::zeros({16, 16}, at::TensorOptions().dtype(type)), 16});
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

}  // namespace

void UsePackedOperators(std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed,
                        at::ScalarType type) {
  if (type != at::kFloat && type != at::kBFloat16) return;
  if (!at::hasMKLDNN()) return;
  std::map<ValueRef, int> uses;
  for (const auto& instruction : instructions) {
    for (const ValueRef input : instruction.inputs) uses[input] += 1;
  }
  auto onednn = std::make_shared<OneDnn>();
  if (!CanPack(*onednn, type)) return;
  for (auto& instruction : instructions) {
    const bool convolution = instruction.name == "aten::conv2d";
    if (!convolution && instruction.name != "aten::linear") continue;
    const ValueRef weight = instruction.inputs[1];
    if (weight >= 0 || uses[weight] != 1 || !fixed[~weight].isTensor()) continue;
    bool constant = true;
    for (size_t i = 3; i < instruction.inputs.size(); ++i) {
      constant = constant && instruction.inputs[i] < 0 && !fixed[~instruction.inputs[i]].isString();
    }
    if (!constant) continue;
    if (convolution) {
      ReplaceConvolution(instruction, fixed, onednn);
    } else {
      ReplaceLinear(instruction, fixed, onednn);
    }
  }
}

}  // namespace torchbrush
