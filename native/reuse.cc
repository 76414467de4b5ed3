#include "reuse.h"

#include <algorithm>
#include <utility>

namespace torchbrush {

void Reuse::Wrap(const Program& program, std::vector<Instruction>& instructions) {
  const bool writes = std::any_of(instructions.begin(), instructions.end(),
                                  [](const Instruction& instruction) { return instruction.writes_inputs; });
  if (writes) return;
  for (auto& instruction : instructions) {
    const auto& in = instruction.inputs;
    const bool of_input = instruction.name == "aten::linear" && in[0] >= 0 && in[0] < program.input_count &&
                          in[1] < 0 && in[2] < 0;
    if (!of_input) continue;
    const auto memory = memories_.emplace_back(std::make_shared<Memory>());
    instruction.run = [memory, plain = std::move(instruction.run)](torch::jit::Stack& stack) {
      const at::Tensor input = stack[0].toTensor();
      const at::Tensor weight = stack[1].toTensor();
      const at::Tensor bias = stack[2].isNone() ? at::Tensor() : stack[2].toTensor();
      if (memory->input.Is(input) && memory->weight.Is(weight) &&
          (!bias.defined() || memory->bias.Is(bias))) {
        stack.clear();
        stack.emplace_back(memory->result);
        return;
      }
      plain(stack);
      *memory = {Identity(input), Identity(weight), bias.defined() ? Identity(bias) : Identity(),
                 stack[0].toTensor()};
    };
  }
}

std::vector<Reuse::Derived> Reuse::DerivedFrom(const std::vector<at::Tensor>& inputs) const {
  std::vector<Derived> derived;
  for (const auto& memory : memories_) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const at::Tensor weight = memory->weight.Get();
      if (weight.defined() && memory->input.Is(inputs[i])) {
        derived.push_back({i, weight, memory->bias.Get(), memory->result});
      }
    }
  }
  return derived;
}

void Reuse::Renew(const Derived& derived, const at::Tensor& input) {
  const auto bias = derived.bias.defined() ? std::make_optional(derived.bias) : std::nullopt;
  derived.result.copy_(at::linear(input, derived.weight, bias));
}

}  // namespace torchbrush
