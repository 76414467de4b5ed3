#include "packed.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "../safetensors.h"

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
  bool mapped;
  bool packed = false;

  void Pack(const c10::OperatorHandle& op, torch::jit::Stack arguments) {
    at::Tensor fresh = Call(op, std::move(arguments));
    // A packer that had nothing to do gives back what it was given.
    if (mapped && !(fresh.layout() == at::kStrided && fresh.is_alias_of(weight))) ForgetPages(weight);
    weight = std::move(fresh);
    packed = true;
  }
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
    if (!held->packed) {
      held->Pack(onednn->pack_convolution,
                 {held->weight, padding, stride, dilation, groups, x.sizes().vec()});
    }
    at::Tensor y = Call(onednn->convolution, {x, held->weight, stack[2], padding, stride, dilation, groups,
                                              "none", Pointwise(), c10::IValue()});
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

void ReplaceLinear(Instruction& instruction, const std::shared_ptr<PackedWeight>& held,
                   const std::shared_ptr<OneDnn>& onednn) {
  instruction.run = [=](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    if (!held->packed) {
      const int64_t rows = x.numel() / x.size(-1);
      held->Pack(onednn->pack_linear, {held->weight, rows});
    }
    at::Tensor y = Call(onednn->linear, {x, held->weight, stack[2], "none", Pointwise(), c10::IValue()});
    stack.clear();
    stack.emplace_back(std::move(y));
  };
}

bool IsConvolution(const Instruction& instruction) { return instruction.name == "aten::conv2d"; }

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
    bool constant = weight < 0 && uses[weight] == 1;
    for (size_t i = 3; i < instruction.inputs.size(); ++i) {
      const ValueRef input = instruction.inputs[i];
      constant = constant && input < 0 && !fixed[~input].isString();
    }
    if (constant) packable.insert(weight);
  }
  return packable;
}

void UsePackedOperators(std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed,
                        const std::set<ValueRef>& packable, const std::set<ValueRef>& mapped) {
  if (packable.empty()) return;
  auto onednn = std::make_shared<OneDnn>();
  for (auto& instruction : instructions) {
    if (instruction.inputs.size() < 2 || packable.count(instruction.inputs[1]) == 0) continue;
    const ValueRef place = instruction.inputs[1];
    auto held =
        std::make_shared<PackedWeight>(PackedWeight{fixed[~place].toTensor(), mapped.count(place) != 0});
    fixed[~place] = c10::IValue();
    if (IsConvolution(instruction)) {
      ReplaceConvolution(instruction, fixed, held, onednn);
    } else {
      ReplaceLinear(instruction, held, onednn);
    }
  }
}

}  // namespace torchbrush
