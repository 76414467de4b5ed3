#include "instruction_graph.h"

#include <algorithm>

namespace torchbrush {

InstructionGraph::InstructionGraph(const Program& program, std::vector<Instruction>& instructions,
                                   const std::vector<c10::IValue>& fixed)
    : program_(program),
      fixed_(fixed),
      is_parameter_(fixed.size(), false),
      makers_(program.slot_count, nullptr),
      takers_(program.slot_count),
      is_output_(program.slot_count, false) {
  for (const auto& parameter : program.parameters) is_parameter_[~parameter.place] = true;
  for (auto& instruction : instructions) {
    for (const ValueRef input : instruction.inputs) {
      if (input >= 0) takers_[input].push_back(&instruction);
    }
    for (const ValueRef output : instruction.outputs) makers_[output] = &instruction;
  }
  for (const ValueRef output : program.outputs) {
    if (output >= 0) is_output_[output] = true;
  }
}

Instruction* InstructionGraph::Maker(ValueRef value) const { return value < 0 ? nullptr : makers_[value]; }

const std::vector<Instruction*>& InstructionGraph::Takers(ValueRef value) const {
  static const std::vector<Instruction*> none;
  return value < 0 ? none : takers_[value];
}

Instruction* InstructionGraph::OnlyTaker(ValueRef value) const {
  const auto& takers = Takers(value);
  return takers.size() == 1 && !is_output_[value] ? takers[0] : nullptr;
}

Instruction* InstructionGraph::MakerFor(const Instruction& taker, ValueRef value,
                                        const std::string& name) const {
  Instruction* maker = Maker(value);
  const bool fits = maker != nullptr && !IsRemoved(*maker) && maker->name == name &&
                    maker->outputs.size() == 1 && OnlyTaker(value) == &taker;
  return fits ? maker : nullptr;
}

bool InstructionGraph::IsOptional(ValueRef value) const {
  return value >= 0 && value < program_.input_count && program_.optional[value];
}

const c10::IValue* InstructionGraph::Constant(ValueRef value) const {
  return value < 0 && !is_parameter_[~value] ? &fixed_[~value] : nullptr;
}

bool InstructionGraph::IsSum(const Instruction& instruction) const {
  if (IsRemoved(instruction) || instruction.name != "aten::add" || instruction.inputs.size() != 3)
    return false;
  const c10::IValue* factor = Constant(instruction.inputs[2]);
  const bool plain = factor != nullptr && factor->isInt() && factor->toInt() == 1;
  return plain && !IsOptional(instruction.inputs[0]) && !IsOptional(instruction.inputs[1]);
}

void EraseRemoved(std::vector<Instruction>& instructions) {
  const auto gone = std::remove_if(instructions.begin(), instructions.end(), InstructionGraph::IsRemoved);
  instructions.erase(gone, instructions.end());
}

}  // namespace torchbrush
