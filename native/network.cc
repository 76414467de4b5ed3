#include "network.h"

#include <set>
#include <unordered_map>
#include <utility>

#include "core.h"
#include "cpu/packed.h"
#include "safetensors.h"
#include "tensor.h"

namespace torchbrush {

namespace {

// Rows of embeddings are copied out as bytes, so their tables need no alignment.
std::set<ValueRef> EmbeddingTables(const std::vector<Instruction>& instructions) {
  std::set<ValueRef> tables;
  std::set<ValueRef> others;
  for (const auto& instruction : instructions) {
    for (size_t i = 0; i < instruction.inputs.size(); ++i) {
      const bool table = instruction.name == "aten::embedding" && i == 0;
      (table ? tables : others).insert(instruction.inputs[i]);
    }
  }
  for (const ValueRef other : others) tables.erase(other);
  return tables;
}

}  // namespace

Network::Network(std::shared_ptr<const Program> program, const std::vector<Placement>& placements,
                 c10::Device device, at::ScalarType type)
    : program_(std::move(program)),
      fixed_(program_->constants),
      instructions_(program_->instructions),
      device_(device),
      type_(type) {
  std::set<ValueRef> packable;
  if (device.is_cpu() && CanPack(type)) packable = PackableWeights(instructions_, fixed_);
  std::set<ValueRef> mapped;
  const std::set<ValueRef> tables = EmbeddingTables(instructions_);
  std::unordered_map<std::string, const Parameter*> open;
  for (const auto& parameter : program_->parameters) open[parameter.name] = &parameter;
  std::unordered_map<std::string, std::shared_ptr<MappedFile>> files;
  for (const auto& placement : placements) {
    const auto found = open.find(placement.parameter);
    if (found == open.end()) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + placement.parameter + " is unknown or filled twice.");
    }
    const Parameter& parameter = *found->second;
    open.erase(found);
    if (placement.shape != parameter.shape) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + parameter.name + " has another shape.");
    }
    auto& file = files[placement.file];
    if (!file) file = std::make_shared<MappedFile>(placement.file);
    at::Tensor weight =
        TensorInFile(file, placement.offset, placement.type, placement.shape, placement.strides);
    const bool strided = !weight.is_contiguous();
    if (strided) weight = weight.contiguous();
    const bool converted = !device.is_cpu() || (weight.is_floating_point() && placement.type != type);
    if (converted) {
      weight = weight.is_floating_point() ? weight.to(device, type) : weight.to(device);
    } else if (strided) {
      // Nothing of it lies in the file any more.
    } else if (packable.count(parameter.place) != 0) {
      // Packing reads it once, byte by byte as it were, so it may stay where it is.
      mapped.insert(parameter.place);
    } else if (!IsAligned(*file, placement.offset, placement.type) && tables.count(parameter.place) == 0) {
      weight = weight.clone();
    }
    fixed_[~parameter.place] = std::move(weight);
  }
  if (!open.empty()) {
    throw CoreError("ERR_CHECKPOINT", "Parameter " + open.begin()->first + " was not filled.");
  }
  UsePackedOperators(instructions_, fixed_, packable, mapped);
}

const Network::Plan& Network::PlanFor(const std::vector<int32_t>& outputs) {
  const auto known = plans_.find(outputs);
  if (known != plans_.end()) return known->second;
  std::vector<bool> needed(program_->slot_count, false);
  std::set<ValueRef> kept;
  for (const int32_t output : outputs) {
    const ValueRef place = program_->outputs.at(output);
    kept.insert(place);
    if (place >= 0) needed[place] = true;
  }
  std::vector<bool> seen(program_->slot_count, false);
  Plan plan;
  for (auto it = instructions_.rbegin(); it != instructions_.rend(); ++it) {
    bool wanted = it->writes_inputs;
    for (const ValueRef output : it->outputs) wanted = wanted || needed[output];
    if (!wanted) continue;
    Plan::Step step{&*it, std::vector<bool>(it->inputs.size(), false)};
    // From the right, so that the last of several uses in one instruction takes the value.
    for (size_t i = it->inputs.size(); i-- > 0;) {
      const ValueRef input = it->inputs[i];
      if (input < 0) continue;
      needed[input] = true;
      if (!seen[input] && kept.count(input) == 0) step.last_use[i] = true;
      seen[input] = true;
    }
    plan.steps.push_back(std::move(step));
  }
  std::reverse(plan.steps.begin(), plan.steps.end());
  return plans_[outputs] = std::move(plan);
}

std::vector<at::Tensor> Network::Run(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                                     const std::atomic<bool>& stop) {
  TORCH_CHECK(inputs.size() == static_cast<size_t>(program_->input_count), "The program takes ",
              program_->input_count, " inputs, not ", inputs.size(), ".");
  const Plan& plan = PlanFor(outputs);
  std::vector<c10::IValue> slots(program_->slot_count);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool four = inputs[i].dim() == 4 && inputs[i].is_floating_point();
    slots[i] = four ? inputs[i].contiguous(at::MemoryFormat::ChannelsLast) : std::move(inputs[i]);
  }
  torch::jit::Stack stack;
  for (const auto& step : plan.steps) {
    if (stop) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
    const Instruction& instruction = *step.instruction;
    for (size_t i = 0; i < instruction.inputs.size(); ++i) {
      const ValueRef input = instruction.inputs[i];
      if (input < 0) {
        stack.push_back(fixed_[~input]);
      } else if (step.last_use[i]) {
        stack.push_back(std::move(slots[input]));
      } else {
        stack.push_back(slots[input]);
      }
    }
    instruction.run(stack);
    TORCH_CHECK(stack.size() == instruction.outputs.size(), instruction.name, " returned ", stack.size(),
                " values.");
    for (size_t i = 0; i < instruction.outputs.size(); ++i) {
      slots[instruction.outputs[i]] = std::move(stack[i]);
    }
    stack.clear();
  }
  std::vector<at::Tensor> results;
  for (const int32_t output : outputs) {
    const ValueRef place = program_->outputs.at(output);
    const c10::IValue& value = place >= 0 ? slots[place] : fixed_[~place];
    results.push_back(value.toTensor().contiguous());
  }
  return results;
}

namespace {

// None where there is no list.
std::vector<int64_t> ReadIntegers(const Napi::Value& value) {
  std::vector<int64_t> integers;
  if (!value.IsArray()) return integers;
  auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    integers.push_back(list.Get(i).As<Napi::Number>().Int64Value());
  }
  return integers;
}

// createNetwork(program, placements, device, dtype): promise of a NativeNetwork.
Napi::Value CreateNetwork(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    auto program = ProgramHandle::Get(info[0]);
    auto list = info[1].As<Napi::Array>();
    const c10::Device device = ParseDevice(info[2].As<Napi::String>());
    const at::ScalarType type = ParseDType(info[3].As<Napi::String>());
    std::vector<Placement> placements;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      auto entry = list.Get(i).As<Napi::Object>();
      placements.push_back({entry.Get("parameter").As<Napi::String>(), entry.Get("file").As<Napi::String>(),
                            static_cast<uint64_t>(entry.Get("offset").As<Napi::Number>().Int64Value()),
                            ParseDType(entry.Get("dtype").As<Napi::String>()),
                            ReadIntegers(entry.Get("shape")), ReadIntegers(entry.Get("strides"))});
    }
    using Made = std::shared_ptr<Network>;
    return Core::Of(env).Submit<Made>(
        device,
        [program, placements = std::move(placements), device, type] {
          return std::make_shared<Network>(program, placements, device, type);
        },
        [](Napi::Env inner, Made&& network) -> Napi::Value {
          Core& core = Core::Of(inner);
          core.pending = &network;
          auto object = core.network_class.New({});
          core.pending = nullptr;
          return object;
        });
  });
}

}  // namespace

void NetworkHandle::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "NativeNetwork",
      {InstanceMethod<&NetworkHandle::Run>("run"), InstanceMethod<&NetworkHandle::Dispose>("dispose")});
  Core::Of(env).network_class = Napi::Persistent(constructor);
  exports.Set("createNetwork", Napi::Function::New(env, CreateNetwork));
}

NetworkHandle::NetworkHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Core& core = Core::Of(info.Env());
  if (core.pending == nullptr) {
    throw Napi::TypeError::New(info.Env(), "Networks are made by createNetwork, not with new.");
  }
  network_ = *static_cast<std::shared_ptr<Network>*>(core.pending);
  core.counts.networks += 1;
}

NetworkHandle::~NetworkHandle() { Release(Env()); }

void NetworkHandle::Release(Napi::Env env) {
  if (!network_) return;
  network_.reset();
  Core::Of(env).counts.networks -= 1;
}

// run(inputs: NativeTensor[], outputs: number[]): promise of NativeTensor[].
Napi::Value NetworkHandle::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    auto handles = info[0].As<Napi::Array>();
    std::vector<at::Tensor> inputs;
    for (uint32_t i = 0; i < handles.Length(); ++i) inputs.push_back(TensorHandle::Get(handles.Get(i)));
    auto wanted = info[1].As<Napi::Array>();
    std::vector<int32_t> outputs;
    for (uint32_t i = 0; i < wanted.Length(); ++i) {
      outputs.push_back(wanted.Get(i).As<Napi::Number>().Int32Value());
    }
    Core& core = Core::Of(env);
    using Results = std::vector<at::Tensor>;
    return core.Submit<Results>(
        network_->device(),
        [network = network_, inputs = std::move(inputs), outputs = std::move(outputs), &core] {
          return network->Run(inputs, outputs, core.stopping());
        },
        [](Napi::Env inner, Results&& tensors) -> Napi::Value {
          auto list = Napi::Array::New(inner, tensors.size());
          for (uint32_t i = 0; i < tensors.size(); ++i) {
            list[i] = TensorHandle::Wrap(inner, std::move(tensors[i]));
          }
          return list;
        });
  });
}

void NetworkHandle::Dispose(const Napi::CallbackInfo& info) { Release(info.Env()); }

}  // namespace torchbrush
