#include "program.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "core.h"

namespace torchbrush {
namespace {

using torch::jit::Node;
using torch::jit::Value;

[[noreturn]] void Refuse(const std::string& reason) {
  throw CoreError("ERR_PROGRAM", "The program cannot be lowered: " + reason);
}

c10::IValue MakeList(const c10::TypePtr& element, const std::vector<c10::IValue>& values) {
  switch (element->kind()) {
    case c10::TypeKind::IntType: {
      c10::List<int64_t> list;
      for (const auto& value : values) list.push_back(value.toInt());
      return list;
    }
    case c10::TypeKind::FloatType: {
      c10::List<double> list;
      for (const auto& value : values) list.push_back(value.toDouble());
      return list;
    }
    case c10::TypeKind::BoolType: {
      c10::List<bool> list;
      for (const auto& value : values) list.push_back(value.toBool());
      return list;
    }
    case c10::TypeKind::TensorType: {
      c10::List<at::Tensor> list;
      for (const auto& value : values) list.push_back(value.toTensor());
      return list;
    }
    default: {
      c10::impl::GenericList list(element);
      for (const auto& value : values) list.push_back(value);
      return list;
    }
  }
}

class Lowering {
 public:
  explicit Lowering(torch::jit::Module module) : module_(std::move(module)) {}

  std::shared_ptr<const Program> Run(const std::vector<int32_t>& optional_inputs) {
    auto graph = module_.get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
    auto inputs = graph->inputs();
    objects_[inputs[0]] = {module_._ivalue(), ""};
    for (size_t i = 1; i < inputs.size(); ++i) NewSlot(inputs[i]);
    program_->input_count = static_cast<int32_t>(inputs.size() - 1);
    for (Node* node : graph->nodes()) Lower(node);
    ReadOutputs(graph->outputs());
    program_->slot_count = next_slot_;
    AllowAbsence(optional_inputs);
    return program_;
  }

 private:
  struct Object {
    c10::IValue value;
    std::string path;
  };

  ValueRef NewSlot(Value* value) { return places_[value] = next_slot_++; }

  void NewConstant(Value* value, c10::IValue constant) {
    program_->constants.push_back(std::move(constant));
    places_[value] = ~static_cast<ValueRef>(program_->constants.size() - 1);
  }

  ValueRef PlaceOf(Value* value) const {
    const auto found = places_.find(value);
    if (found == places_.end()) Refuse("value %" + value->debugName() + " is used before it is made.");
    return found->second;
  }

  bool AllConstant(Node* node) const {
    for (Value* input : node->inputs()) {
      const ValueRef place = PlaceOf(input);
      if (place >= 0 || parameter_places_.count(place) != 0) return false;
    }
    return true;
  }

  std::vector<c10::IValue> ConstantInputs(Node* node) const {
    std::vector<c10::IValue> values;
    for (Value* input : node->inputs()) values.push_back(program_->constants[~PlaceOf(input)]);
    return values;
  }

  void Lower(Node* node) {
    if (!node->blocks().empty()) Refuse(std::string(node->kind().toQualString()) + " is control flow.");
    switch (node->kind()) {
      case c10::prim::Constant:
        NewConstant(node->output(), torch::jit::toIValue(node->output()).value());
        return;
      case c10::prim::GetAttr:
        LowerAttribute(node);
        return;
      case c10::prim::ListConstruct:
        LowerList(node);
        return;
      case c10::prim::TupleConstruct:
        tuples_[node->output()] = node;
        Emit(node, [n = node->inputs().size()](torch::jit::Stack& stack) {
          std::vector<c10::IValue> items(std::make_move_iterator(stack.end() - n),
                                         std::make_move_iterator(stack.end()));
          stack.resize(stack.size() - n);
          stack.emplace_back(c10::ivalue::Tuple::create(std::move(items)));
        });
        return;
      case c10::prim::TupleUnpack:
        LowerTupleUnpack(node);
        return;
      case c10::prim::ListUnpack:
        Emit(node, [n = node->outputs().size()](torch::jit::Stack& stack) {
          const c10::IValue list = std::move(stack.back());
          stack.pop_back();
          const auto items = list.toListRef();
          TORCH_CHECK(items.size() == n, "A list of ", items.size(), " was unpacked into ", n, ".");
          for (const auto& item : items) stack.push_back(item);
        });
        return;
      default:
        LowerOperator(node);
    }
  }

  void LowerAttribute(Node* node) {
    const auto owner = objects_.find(node->input());
    if (owner == objects_.end()) Refuse("an attribute of a value that is no module.");
    const std::string name = node->s(c10::attr::name);
    c10::IValue value = owner->second.value.toObject()->getAttr(name);
    const std::string path = owner->second.path.empty() ? name : owner->second.path + "." + name;
    Value* output = node->output();
    if (value.isObject()) {
      objects_[output] = {value, path};
    } else if (!value.isTensor()) {
      NewConstant(output, value);
    } else if (const auto known = parameter_by_path_.find(path); known != parameter_by_path_.end()) {
      places_[output] = known->second;
    } else {
      NewConstant(output, c10::IValue());
      const ValueRef place = places_[output];
      parameter_places_.insert(place);
      parameter_by_path_[path] = place;
      program_->parameters.push_back({path, value.toTensor().sizes().vec(), place});
    }
  }

  void LowerList(Node* node) {
    const auto element = node->output()->type()->expectRef<c10::ListType>().getElementType();
    if (AllConstant(node)) {
      NewConstant(node->output(), MakeList(element, ConstantInputs(node)));
      return;
    }
    Emit(node, [element, n = node->inputs().size()](torch::jit::Stack& stack) {
      std::vector<c10::IValue> items(std::make_move_iterator(stack.end() - n),
                                     std::make_move_iterator(stack.end()));
      stack.resize(stack.size() - n);
      stack.push_back(MakeList(element, items));
    });
  }

  void LowerTupleUnpack(Node* node) {
    if (const auto made = tuples_.find(node->input()); made != tuples_.end()) {
      for (size_t i = 0; i < node->outputs().size(); ++i) {
        places_[node->output(i)] = PlaceOf(made->second->input(i));
      }
      return;
    }
    Emit(node, [](torch::jit::Stack& stack) {
      const c10::IValue tuple = std::move(stack.back());
      stack.pop_back();
      for (const auto& item : tuple.toTupleRef().elements()) stack.push_back(item);
    });
  }

  void LowerOperator(Node* node) {
    const auto* schema = node->maybeSchema();
    if (schema == nullptr) Refuse(std::string(node->kind().toQualString()) + " is no registered operator.");
    const std::string name = schema->name();
    // Nothing is trained here.
    if (name == "aten::dropout" || name == "aten::detach") {
      places_[node->output()] = PlaceOf(node->input(0));
      return;
    }
    torch::jit::Operation operation = node->getOperation();
    if (AllConstant(node) && Fold(node, operation)) return;
    Emit(node, [operation](torch::jit::Stack& stack) mutable { operation(stack); });
    for (const auto& argument : schema->arguments()) {
      const auto* alias = argument.alias_info();
      if (alias != nullptr && alias->isWrite()) program_->instructions.back().writes_inputs = true;
    }
  }

  // Shape arithmetic on numbers is done now. Tensors are made at run time, on the run's device.
  bool Fold(Node* node, torch::jit::Operation& operation) {
    for (Value* output : node->outputs()) {
      if (output->type()->kind() == c10::TypeKind::TensorType) return false;
    }
    torch::jit::Stack stack = ConstantInputs(node);
    operation(stack);
    for (size_t i = 0; i < node->outputs().size(); ++i) NewConstant(node->output(i), stack[i]);
    return true;
  }

  void Emit(Node* node, std::function<void(torch::jit::Stack&)> run) {
    Instruction instruction;
    instruction.name = node->kind().toQualString();
    instruction.run = std::move(run);
    for (Value* input : node->inputs()) instruction.inputs.push_back(PlaceOf(input));
    for (Value* output : node->outputs()) instruction.outputs.push_back(NewSlot(output));
    program_->instructions.push_back(std::move(instruction));
  }

  void ReadOutputs(at::ArrayRef<Value*> outputs) {
    if (outputs.size() == 1) {
      if (const auto made = tuples_.find(outputs[0]); made != tuples_.end()) {
        for (Value* item : made->second->inputs()) program_->outputs.push_back(PlaceOf(item));
        return;
      }
    }
    for (Value* output : outputs) program_->outputs.push_back(PlaceOf(output));
  }

  // Without the input its sum is the other summand, under another name: nothing may write to either.
  void AllowAbsence(const std::vector<int32_t>& inputs) {
    program_->optional.resize(program_->input_count, false);
    for (const int32_t input : inputs) program_->optional.at(input) = true;
    for (const auto& instruction : program_->instructions) {
      if (!inputs.empty() && instruction.writes_inputs) Refuse(instruction.name + " writes to its input.");
      for (const int32_t input : inputs) {
        const auto& used = instruction.inputs;
        if (std::find(used.begin(), used.end(), input) == used.end()) continue;
        if (!ValueWithout(*program_, instruction, input)) {
          Refuse(instruction.name + " cannot do without an optional input.");
        }
      }
    }
    for (const ValueRef output : program_->outputs) {
      if (output >= 0 && output < program_->input_count && program_->optional[output]) {
        Refuse("an optional input is an output.");
      }
    }
  }

  torch::jit::Module module_;
  std::shared_ptr<Program> program_ = std::make_shared<Program>();
  int32_t next_slot_ = 0;
  std::unordered_map<Value*, ValueRef> places_;
  std::unordered_map<Value*, Object> objects_;
  std::unordered_map<Value*, Node*> tuples_;
  std::unordered_map<std::string, ValueRef> parameter_by_path_;
  std::set<ValueRef> parameter_places_;
};

// loadProgram(bytes: Uint8Array, optionalInputs: number[]): promise of a NativeProgram.
Napi::Value LoadProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    auto bytes = info[0].As<Napi::Uint8Array>();
    std::string archive(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
    auto listed = info[1].As<Napi::Array>();
    std::vector<int32_t> optional;
    for (uint32_t i = 0; i < listed.Length(); ++i) {
      optional.push_back(listed.Get(i).As<Napi::Number>().Int32Value());
    }
    using Lowered = std::shared_ptr<const Program>;
    return Core::Of(env).Submit<Lowered>(
        c10::Device(c10::kCPU),
        [archive = std::move(archive), optional = std::move(optional)] {
          return LowerProgram(archive, optional);
        },
        [](Napi::Env inner, Lowered&& program) -> Napi::Value {
          Core& core = Core::Of(inner);
          core.pending = &program;
          auto object = core.program_class.New({});
          core.pending = nullptr;
          return object;
        });
  });
}

}  // namespace

std::shared_ptr<const Program> LowerProgram(const std::string& archive,
                                            const std::vector<int32_t>& optional_inputs) {
  // Loading makes parameters, which is not allowed under InferenceMode.
  c10::InferenceMode normal(false);
  std::istringstream stream(archive);
  torch::jit::Module module = torch::jit::load(stream, c10::Device(c10::kCPU));
  return Lowering(std::move(module)).Run(optional_inputs);
}

std::optional<ValueRef> ValueWithout(const Program& program, const Instruction& instruction, ValueRef slot) {
  const auto& inputs = instruction.inputs;
  if (instruction.name != "aten::add" || inputs.size() != 3 || inputs[2] >= 0) return std::nullopt;
  const c10::IValue& factor = program.constants[~inputs[2]];
  if (!factor.isInt() || factor.toInt() != 1 || inputs[0] == inputs[1]) return std::nullopt;
  if (inputs[0] != slot && inputs[1] != slot) return std::nullopt;
  const ValueRef other = inputs[0] == slot ? inputs[1] : inputs[0];
  const bool stays = other < 0 || other >= program.input_count || !program.optional[other];
  return stays ? std::make_optional(other) : std::nullopt;
}

void ProgramHandle::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "NativeProgram",
                                           {InstanceAccessor<&ProgramHandle::Parameters>("parameters"),
                                            InstanceAccessor<&ProgramHandle::InputCount>("inputCount"),
                                            InstanceAccessor<&ProgramHandle::OutputCount>("outputCount"),
                                            InstanceAccessor<&ProgramHandle::Operators>("operators")});
  Core::Of(env).program_class = Napi::Persistent(constructor);
  exports.Set("loadProgram", Napi::Function::New(env, LoadProgram));
}

ProgramHandle::ProgramHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Core& core = Core::Of(info.Env());
  if (core.pending == nullptr) {
    throw Napi::TypeError::New(info.Env(), "Programs are made by loadProgram, not with new.");
  }
  program_ = *static_cast<std::shared_ptr<const Program>*>(core.pending);
  core.counts.programs += 1;
}

ProgramHandle::~ProgramHandle() { Core::Of(Env()).counts.programs -= 1; }

std::shared_ptr<const Program> ProgramHandle::Get(const Napi::Value& value) {
  if (!value.IsObject() ||
      !value.As<Napi::Object>().InstanceOf(Core::Of(value.Env()).program_class.Value())) {
    throw CoreError("ERR_INVALID_ARGUMENT", "Expected a native program.");
  }
  return Unwrap(value.As<Napi::Object>())->program_;
}

Napi::Value ProgramHandle::Parameters(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env(), program_->parameters.size());
  for (uint32_t i = 0; i < program_->parameters.size(); ++i) {
    const Parameter& parameter = program_->parameters[i];
    auto shape = Napi::Array::New(info.Env(), parameter.shape.size());
    for (uint32_t d = 0; d < parameter.shape.size(); ++d) {
      shape[d] = static_cast<double>(parameter.shape[d]);
    }
    auto entry = Napi::Object::New(info.Env());
    entry.Set("name", parameter.name);
    entry.Set("shape", shape);
    list[i] = entry;
  }
  return list;
}

Napi::Value ProgramHandle::InputCount(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), program_->input_count);
}

Napi::Value ProgramHandle::OutputCount(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(program_->outputs.size()));
}

// How often each operator occurs, for tests and inspection.
Napi::Value ProgramHandle::Operators(const Napi::CallbackInfo& info) {
  std::map<std::string, int> counts;
  for (const auto& instruction : program_->instructions) counts[instruction.name] += 1;
  auto result = Napi::Object::New(info.Env());
  for (const auto& [name, count] : counts) result.Set(name, count);
  return result;
}

}  // namespace torchbrush
