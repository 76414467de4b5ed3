#include "rewrite.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "open.h"

namespace torchbrush {
namespace {

at::Tensor TensorOrNone(const c10::IValue& value) { return value.isNone() ? at::Tensor() : value.toTensor(); }

void Answer(torch::jit::Stack& stack, at::Tensor result) {
  stack.clear();
  stack.emplace_back(std::move(result));
}

class Rewriter {
 public:
  Rewriter(const Program& program, const Companion& companion, std::vector<c10::IValue>& fixed)
      : program_(program), companion_(companion), fixed_(fixed), list_(program.instructions) {
    for (size_t i = 0; i < list_.size(); ++i) {
      for (const ValueRef output : list_[i].outputs) makers_[output] = i;
      for (const ValueRef input : list_[i].inputs) uses_[input].push_back(i);
      writes_ = writes_ || list_[i].writes_inputs;
    }
    kept_.insert(program.outputs.begin(), program.outputs.end());
    none_ = NewFixed(c10::IValue());
    for (const auto& parameter : program.parameters) parameters_.insert(parameter.place);
  }

  std::vector<Instruction> Run(const TuneFlag& tune) {
    // Where operators write to their inputs, values cannot be moved about.
    if (!writes_) {
      for (size_t i = 0; i < list_.size(); ++i) {
        if (companion_.group_norm != nullptr) FuseGroupNorm(i);
        if (companion_.geglu != nullptr) FuseGeglu(i);
      }
      for (size_t i = 0; i < list_.size(); ++i) {
        if (companion_.add_bias != nullptr) FuseAddBias(i);
      }
    }
    std::shared_ptr<AttentionChoices> choices;
    if (companion_.make_attention_choices != nullptr) choices = companion_.make_attention_choices();
    for (auto& instruction : list_) {
      KeepLayout(instruction);
      if (companion_.attention != nullptr) UseAttention(instruction, choices);
      if (companion_.convolution != nullptr) UseConvolution(instruction, tune);
    }
    return std::move(list_);
  }

 private:
  ValueRef NewFixed(c10::IValue value) {
    fixed_.push_back(std::move(value));
    return ~static_cast<ValueRef>(fixed_.size() - 1);
  }

  const c10::IValue* Constant(ValueRef value) const {
    return value < 0 && parameters_.count(value) == 0 ? &fixed_[~value] : nullptr;
  }

  bool IsInteger(ValueRef value, int64_t wanted) const {
    const auto* constant = Constant(value);
    return constant != nullptr && constant->isInt() && constant->toInt() == wanted;
  }

  // The instruction that makes a value which is used once, if it has that name.
  Instruction* OnlyUse(ValueRef value, const char* name) {
    const auto maker = makers_.find(value);
    if (maker == makers_.end() || kept_.count(value) != 0) return nullptr;
    Instruction& instruction = list_[maker->second];
    return instruction.name == name && uses_[value].size() == 1 ? &instruction : nullptr;
  }

  // The only instruction that uses a value, if it has that name.
  Instruction* OnlyUser(ValueRef value, const char* name) {
    const auto users = uses_.find(value);
    if (users == uses_.end() || users->second.size() != 1 || kept_.count(value) != 0) return nullptr;
    Instruction& instruction = list_[users->second[0]];
    return instruction.name == name ? &instruction : nullptr;
  }

  // A sum of two values as they are, neither of which a run may leave out.
  bool IsPlainSum(const Instruction& instruction) const {
    if (instruction.name != "aten::add" || instruction.inputs.size() != 3) return false;
    for (int i = 0; i < 2; ++i) {
      const ValueRef input = instruction.inputs[i];
      if (input >= 0 && input < program_.input_count && program_.optional[input]) return false;
    }
    return instruction.inputs[0] != instruction.inputs[1] && IsInteger(instruction.inputs[2], 1);
  }

  // [B,C] made into [B,C,1,1].
  bool IsPerChannel(ValueRef value) const {
    const auto maker = makers_.find(value);
    if (maker == makers_.end()) return false;
    const Instruction& instruction = list_[maker->second];
    if (instruction.name != "aten::unflatten" || !IsInteger(instruction.inputs[1], 1)) return false;
    const auto* sizes = Constant(instruction.inputs[2]);
    return sizes != nullptr && sizes->isIntList() && sizes->toIntVector() == std::vector<int64_t>{-1, 1, 1};
  }

  // Takes the bias out of the convolution that makes a value only used once; none_ where that cannot be.
  ValueRef TakeBias(ValueRef value) {
    Instruction* convolution = OnlyUse(value, "aten::conv2d");
    if (convolution == nullptr || parameters_.count(convolution->inputs[2]) == 0) return none_;
    return std::exchange(convolution->inputs[2], none_);
  }

  void FuseGroupNorm(size_t at) {
    Instruction& norm = list_[at];
    if (norm.name != "aten::group_norm") return;
    ValueRef x = norm.inputs[0];
    ValueRef addend = none_;
    if (Instruction* sum = OnlyUse(x, "aten::add"); sum != nullptr && IsPlainSum(*sum)) {
      const int other = IsPerChannel(sum->inputs[0]) ? 0 : 1;
      if (IsPerChannel(sum->inputs[other])) {
        addend = sum->inputs[other];
        x = sum->inputs[1 - other];
      }
    }
    const ValueRef bias = TakeBias(x);
    const Instruction* silu = OnlyUser(norm.outputs[0], "aten::silu");
    if (silu != nullptr) norm.outputs = silu->outputs;
    norm.name = silu == nullptr ? "torchbrush::group_norm" : "torchbrush::group_norm_silu";
    norm.inputs = {x, addend, bias, norm.inputs[1], norm.inputs[2], norm.inputs[3], norm.inputs[4]};
    norm.run = [call = companion_.group_norm, after = silu != nullptr](torch::jit::Stack& stack) {
      Answer(stack,
             call({stack[0].toTensor(), TensorOrNone(stack[1]), TensorOrNone(stack[2]), stack[3].toInt(),
                   TensorOrNone(stack[4]), TensorOrNone(stack[5]), stack[6].toDouble(), after}));
    };
    if (silu == nullptr) return;
    // The value has a new maker; the old one must not be taken for it.
    const size_t old = makers_[norm.outputs[0]];
    list_[old].outputs = {};
    list_[old].name = "torchbrush::nothing";
    makers_[norm.outputs[0]] = at;
  }

  void FuseGeglu(size_t at) {
    Instruction& product = list_[at];
    if (product.name != "aten::mul" || product.inputs.size() != 2) return;
    const Instruction* gelu = OnlyUse(product.inputs[1], "aten::gelu");
    if (gelu == nullptr) return;
    const auto* form = Constant(gelu->inputs[1]);
    const Instruction* halves = OnlyUse(gelu->inputs[0], "prim::ListUnpack");
    if (form == nullptr || !form->isString() || form->toStringRef() != "none" || halves == nullptr) return;
    const bool fits = halves->outputs.size() == 2 && halves->outputs[0] == product.inputs[0] &&
                      halves->outputs[1] == gelu->inputs[0] && OnlyUse(product.inputs[0], "prim::ListUnpack");
    const Instruction* chunk = fits ? OnlyUse(halves->inputs[0], "aten::chunk") : nullptr;
    if (chunk == nullptr || !IsInteger(chunk->inputs[1], 2) || !IsInteger(chunk->inputs[2], -1)) return;
    product.name = "torchbrush::geglu";
    product.inputs = {chunk->inputs[0]};
    product.run = [call = companion_.geglu](torch::jit::Stack& stack) {
      Answer(stack, call(stack[0].toTensor()));
    };
  }

  void FuseAddBias(size_t at) {
    Instruction& sum = list_[at];
    if (!IsPlainSum(sum)) return;
    for (const int side : {1, 0}) {
      const ValueRef bias = TakeBias(sum.inputs[side]);
      if (bias == none_) continue;
      sum.name = "torchbrush::add_bias";
      sum.inputs = {sum.inputs[1 - side], sum.inputs[side], bias};
      sum.run = [call = companion_.add_bias](torch::jit::Stack& stack) {
        Answer(stack, call(stack[0].toTensor(), stack[1].toTensor(), stack[2].toTensor()));
      };
      return;
    }
  }

  // Pictures stay channels_last; only operators that need values in a row get them so.
  void KeepLayout(Instruction& instruction) {
    if (instruction.name != "aten::contiguous") return;
    instruction.run = [](torch::jit::Stack& stack) {
      const at::Tensor x = stack[0].toTensor();
      const bool kept = x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
      Answer(stack, kept ? x : x.contiguous());
    };
  }

  void UseAttention(Instruction& instruction, const std::shared_ptr<AttentionChoices>& choices) {
    const auto& in = instruction.inputs;
    if (instruction.name != "aten::scaled_dot_product_attention" || in.size() < 8) return;
    const auto is = [&](size_t i, auto test) {
      const auto* constant = Constant(in[i]);
      return constant != nullptr && test(*constant);
    };
    const auto none = [](const c10::IValue& value) { return value.isNone(); };
    const auto no = [](const c10::IValue& value) { return value.isBool() && !value.toBool(); };
    const auto zero = [](const c10::IValue& value) { return value.isDouble() && value.toDouble() == 0; };
    const auto scale = [](const c10::IValue& value) { return value.isNone() || value.isDouble(); };
    if (!is(3, none) || !is(4, zero) || !is(5, no) || !is(6, scale) || !is(7, no)) return;
    instruction.run = [call = companion_.attention, choices,
                       scale = fixed_[~in[6]].toOptional<double>()](torch::jit::Stack& stack) {
      Answer(stack, call(*choices, stack[0].toTensor(), stack[1].toTensor(), stack[2].toTensor(), scale));
    };
  }

  void UseConvolution(Instruction& instruction, const TuneFlag& tune) {
    const auto& in = instruction.inputs;
    if (instruction.name != "aten::conv2d" || in.size() != 7) return;
    for (size_t i = 3; i < 7; ++i) {
      const auto* constant = Constant(in[i]);
      if (constant == nullptr || constant->isString()) return;
    }
    const auto list = [&](size_t i) { return fixed_[~in[i]].toIntVector(); };
    instruction.run = [call = companion_.convolution, tune, stride = list(3), padding = list(4),
                       dilation = list(5), groups = fixed_[~in[6]].toInt()](torch::jit::Stack& stack) {
      Answer(stack, call({stack[0].toTensor(), stack[1].toTensor(), stack[2].toOptional<at::Tensor>(), stride,
                          padding, dilation, groups, tune->load()}));
    };
  }

  const Program& program_;
  const Companion& companion_;
  std::vector<c10::IValue>& fixed_;
  std::vector<Instruction> list_;
  std::map<ValueRef, size_t> makers_;
  std::map<ValueRef, std::vector<size_t>> uses_;
  std::set<ValueRef> kept_;
  std::set<ValueRef> parameters_;
  ValueRef none_ = 0;
  bool writes_ = false;
};

}  // namespace

std::vector<Instruction> RewriteFor(const Program& program, const Companion& companion,
                                    std::vector<c10::IValue>& fixed, const TuneFlag& tune) {
  return Rewriter(program, companion, fixed).Run(tune);
}

std::vector<Instruction> InstructionsFor(const Program& program, c10::Device device,
                                         std::vector<c10::IValue>& fixed, const TuneFlag& tune,
                                         Reuse& reuse) {
  const Companion* companion = CompanionOf(device);
  if (companion == nullptr) return program.instructions;
  std::vector<Instruction> instructions = RewriteFor(program, *companion, fixed, tune);
  reuse.Wrap(program, instructions);
  return instructions;
}

}  // namespace torchbrush
