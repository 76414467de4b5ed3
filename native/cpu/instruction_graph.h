// Who makes and who takes the values of a list of instructions, for passes that put one instruction
// in the place of several.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

#include "../program.h"

namespace torchbrush {

class InstructionGraph {
 public:
  InstructionGraph(const Program& program, std::vector<Instruction>& instructions,
                   const std::vector<c10::IValue>& fixed);

  // The instruction that makes a value; null for inputs of the program and for what is fixed.
  Instruction* Maker(ValueRef value) const;

  // Those that take a value, one entry for each time; the program itself is not among them.
  const std::vector<Instruction*>& Takers(ValueRef value) const;

  // The one instruction that takes the value, where there is one and the program doesn't give it out.
  Instruction* OnlyTaker(ValueRef value) const;

  // The maker, where it is an instruction of that name whose one result only `taker` takes.
  Instruction* MakerFor(const Instruction& taker, ValueRef value, const std::string& name) const;

  // Whether the value is an input that a run may leave out.
  bool IsOptional(ValueRef value) const;

  // A number, list or nothing that is known beforehand; null for values of the run and for parameters.
  const c10::IValue* Constant(ValueRef value) const;

  // Whether the value is a plain sum a + b; with `b` another shape may still be spread over `a`.
  bool IsSum(const Instruction& instruction) const;

  void Remove(Instruction& instruction) { instruction.run = nullptr; }
  static bool IsRemoved(const Instruction& instruction) { return instruction.run == nullptr; }

 private:
  const Program& program_;
  const std::vector<c10::IValue>& fixed_;
  std::vector<bool> is_parameter_;
  std::vector<Instruction*> makers_;
  std::vector<std::vector<Instruction*>> takers_;
  std::vector<bool> is_output_;
};

// Drops what was removed.
void EraseRemoved(std::vector<Instruction>& instructions);

}  // namespace torchbrush
