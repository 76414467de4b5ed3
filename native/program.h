// A program: a TorchScript module without weights, lowered once to a flat list of operators.
//
// Traced programs have no control flow, so the list is the whole truth. Values live in numbered
// slots; what is known beforehand (constants, parameters) lives in a fixed table of the network.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/operator_name.h>
#include <ATen/core/stack.h>
#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace torchbrush {

// Non-negative: a slot written during the run. Negative: ~index into the fixed table.
using ValueRef = int32_t;

struct Instruction {
  std::string name;  // "aten::conv2d"; for messages, profiles and rewriting.
  std::function<void(torch::jit::Stack&)> run;
  std::vector<ValueRef> inputs;
  std::vector<ValueRef> outputs;
  bool writes_inputs = false;
};

struct Parameter {
  std::string name;  // "down_blocks.0.resnets.0.conv1.weight"
  std::vector<int64_t> shape;
  ValueRef place;
};

struct Program {
  std::vector<c10::IValue> constants;  // The fixed table; undefined at the places of parameters.
  std::vector<Parameter> parameters;
  std::vector<Instruction> instructions;
  std::vector<ValueRef> outputs;
  std::vector<bool> optional;  // The inputs that a run may leave out.
  int32_t input_count = 0;     // Slots 0 … input_count-1.
  int32_t slot_count = 0;
};

// Throws ERR_PROGRAM for anything that is not straight-line code, and for an optional input that is
// not simply added to something.
std::shared_ptr<const Program> LowerProgram(const std::string& archive,
                                            const std::vector<int32_t>& optional_inputs);

// What an addition of a value to the input in `slot` comes to without that input: the value. Nothing
// for every other use of the input.
std::optional<ValueRef> ValueWithout(const Program& program, const Instruction& instruction, ValueRef slot);

class ProgramHandle : public Napi::ObjectWrap<ProgramHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  static std::shared_ptr<const Program> Get(const Napi::Value& value);

  explicit ProgramHandle(const Napi::CallbackInfo& info);
  ~ProgramHandle() override;

 private:
  Napi::Value Parameters(const Napi::CallbackInfo& info);
  Napi::Value InputCount(const Napi::CallbackInfo& info);
  Napi::Value OutputCount(const Napi::CallbackInfo& info);
  Napi::Value Operators(const Napi::CallbackInfo& info);

  std::shared_ptr<const Program> program_;
};

}  // namespace torchbrush
