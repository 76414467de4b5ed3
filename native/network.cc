#include "network.h"

#include <chrono>
#include <numeric>
#include <set>
#include <utility>

#include "arguments.h"
#include "core.h"
#include "run_memory.h"
#include "tensor.h"

namespace torchbrush {

Network::Network(std::shared_ptr<const Program> program, const std::vector<Placement>& placements,
                 const Whereabouts& where, at::ScalarType type)
    : program_(std::move(program)),
      fixed_(program_->constants),
      instructions_(InstructionsFor(*program_, where.device, fixed_, tune_, *reuse_)),
      weights_(*program_, placements, where, type, instructions_, fixed_),
      device_(where.device),
      type_(type) {}

// Where the value of every slot lies when some inputs are absent.
std::vector<ValueRef> Network::PlacesWithout(const std::vector<bool>& absent) const {
  std::vector<ValueRef> places(program_->slot_count);
  std::iota(places.begin(), places.end(), 0);
  for (const auto& instruction : instructions_) {
    for (const ValueRef input : instruction.inputs) {
      if (input < 0 || input >= program_->input_count || !absent[input]) continue;
      const ValueRef value = ValueWithout(*program_, instruction, input).value();
      places[instruction.outputs[0]] = value >= 0 ? places[value] : value;
    }
  }
  return places;
}

Network::Plan Network::MakePlan(const std::vector<bool>& absent, const std::vector<int32_t>& outputs) const {
  TORCH_CHECK(absent.size() == program_->optional.size(), "The program takes ", program_->optional.size(),
              " inputs, not ", absent.size(), ".");
  for (size_t i = 0; i < absent.size(); ++i) {
    TORCH_CHECK(!absent[i] || program_->optional[i], "Input ", i, " of the program is missing.");
  }
  const std::vector<ValueRef> places = PlacesWithout(absent);
  const auto place_of = [&](ValueRef value) { return value >= 0 ? places[value] : value; };
  std::vector<bool> needed(program_->slot_count, false);
  std::set<ValueRef> kept;
  Plan plan;
  for (const int32_t output : outputs) {
    const ValueRef place = place_of(program_->outputs.at(output));
    plan.outputs.push_back(place);
    kept.insert(place);
    if (place >= 0) needed[place] = true;
  }
  std::vector<bool> seen(program_->slot_count, false);
  for (auto it = instructions_.rbegin(); it != instructions_.rend(); ++it) {
    bool wanted = it->writes_inputs;
    // Nobody needs the sum with an absent input: its place is that of the other summand.
    for (const ValueRef output : it->outputs) wanted = wanted || needed[output];
    if (!wanted) continue;
    Plan::Step step{&*it, it->inputs, std::vector<bool>(it->inputs.size(), false)};
    // From the right, so that the last of several uses in one instruction takes the value.
    for (size_t i = it->inputs.size(); i-- > 0;) {
      const ValueRef input = step.inputs[i] = place_of(it->inputs[i]);
      if (input < 0) continue;
      needed[input] = true;
      if (!seen[input] && kept.count(input) == 0) step.last_use[i] = true;
      seen[input] = true;
    }
    plan.steps.push_back(std::move(step));
  }
  std::reverse(plan.steps.begin(), plan.steps.end());
  return plan;
}

std::map<std::string, int> Network::Operators(const std::vector<bool>& absent,
                                              const std::vector<int32_t>& outputs) const {
  std::map<std::string, int> counts;
  for (const auto& step : MakePlan(absent, outputs).steps) counts[step.instruction->name] += 1;
  return counts;
}

namespace {

void Time(const Instruction& instruction, torch::jit::Stack& stack, Profile& profile) {
  const auto began = std::chrono::steady_clock::now();
  instruction.run(stack);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
  OperatorTime& total = profile[instruction.name];
  total.count += 1;
  total.seconds += taken.count();
}

}  // namespace

std::vector<at::Tensor> Network::Run(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                                     const std::atomic<bool>& stop, Profile* profile) {
  const RunMemory::Scope scope;
  std::vector<bool> absent;
  for (const auto& input : inputs) absent.push_back(!input.defined());
  auto known = plans_.find({absent, outputs});
  if (known == plans_.end()) known = plans_.emplace(Wanted(absent, outputs), MakePlan(absent, outputs)).first;
  Plan& plan = known->second;
  std::vector<c10::IValue> slots(program_->slot_count);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (absent[i]) continue;
    at::Tensor input = std::move(inputs[i]);
    if (input.scalar_type() == type_) input = input.to(weights_.computed_in());
    const bool four = input.dim() == 4 && input.is_floating_point();
    slots[i] = four ? input.contiguous(at::MemoryFormat::ChannelsLast) : std::move(input);
  }
  torch::jit::Stack stack;
  const auto weights = BringWeights(plan);
  for (const auto& step : plan.steps) {
    if (weights) weights->Before(static_cast<size_t>(&step - plan.steps.data()));
    if (stop) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
    const Instruction& instruction = *step.instruction;
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const ValueRef input = step.inputs[i];
      if (input < 0) {
        stack.push_back(fixed_[~input]);
      } else if (step.last_use[i]) {
        stack.push_back(std::move(slots[input]));
      } else {
        stack.push_back(slots[input]);
      }
    }
    if (profile == nullptr) {
      instruction.run(stack);
    } else {
      Time(instruction, stack, *profile);
    }
    TORCH_CHECK(stack.size() == instruction.outputs.size(), instruction.name, " returned ", stack.size(),
                " values.");
    for (size_t i = 0; i < instruction.outputs.size(); ++i) {
      slots[instruction.outputs[i]] = std::move(stack[i]);
    }
    stack.clear();
  }
  weights_.ReleaseScratch();
  if (weights) weights->Before(plan.steps.size());
  std::vector<at::Tensor> results;
  for (const ValueRef place : plan.outputs) {
    const c10::IValue& value = place >= 0 ? slots[place] : fixed_[~place];
    at::Tensor result = value.toTensor();
    if (result.scalar_type() == weights_.computed_in()) result = result.to(type_);
    results.push_back(result.contiguous());
  }
  return results;
}

namespace {

LowRankTerm ReadTerm(const Napi::Object& term) {
  const auto stored = [&](const char* name) { return ReadStored(term.Get(name).As<Napi::Object>()); };
  LowRankTerm read{stored("up"), stored("down"), std::nullopt, term.Get("scale").As<Napi::Number>()};
  if (!term.Get("middle").IsUndefined()) read.middle = stored("middle");
  return read;
}

std::vector<WeightUpdate> ReadUpdates(const Napi::Array& list) {
  std::vector<WeightUpdate> updates;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    auto entry = list.Get(i).As<Napi::Object>();
    auto terms = entry.Get("terms").As<Napi::Array>();
    WeightUpdate& update = updates.emplace_back();
    update.parameter = entry.Get("parameter").As<Napi::String>();
    for (uint32_t t = 0; t < terms.Length(); ++t) {
      update.terms.push_back(ReadTerm(terms.Get(t).As<Napi::Object>()));
    }
  }
  return updates;
}

// createNetwork(program, placements, device, dtype, offload, isSimulated): promise of a NativeNetwork.
Napi::Value CreateNetwork(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    auto program = ProgramHandle::Get(info[0]);
    const Whereabouts where{ParseDevice(info[2].As<Napi::String>()), Core::Of(env).ledger(),
                            ParseOffload(info[4].As<Napi::String>()), info[5].ToBoolean()};
    const at::ScalarType type = ParseDType(info[3].As<Napi::String>());
    std::vector<Placement> placements = ReadPlacements(info[1]);
    using Made = std::shared_ptr<Network>;
    return Core::Of(env).Submit<Made>(
        where.device,
        [program, placements = std::move(placements), where, type] {
          return std::make_shared<Network>(program, placements, where, type);
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
      {InstanceMethod<&NetworkHandle::Run>("run"), InstanceMethod<&NetworkHandle::Profiled>("profile"),
       InstanceMethod<&NetworkHandle::Operators>("operators"),
       InstanceMethod<&NetworkHandle::UpdateWeights>("updateWeights"),
       InstanceMethod<&NetworkHandle::ReplaceRows>("replaceRows"),
       InstanceMethod<&NetworkHandle::SetOffload>("setOffload"),
       InstanceMethod<&NetworkHandle::Leave>("leave"), InstanceMethod<&NetworkHandle::UseGraphs>("useGraphs"),
       InstanceMethod<&NetworkHandle::GraphStatus>("graphStatus"),
       InstanceMethod<&NetworkHandle::Dispose>("dispose")});
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

// run(inputs: (NativeTensor | null)[], outputs: number[]): promise of NativeTensor[].
Napi::Value NetworkHandle::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    std::vector<at::Tensor> inputs = ReadInputs(info[0]);
    std::vector<int32_t> outputs = ReadIntegers(info[1]);
    Core& core = Core::Of(env);
    using Results = std::vector<at::Tensor>;
    return core.Submit<Results>(
        network_->device(),
        [network = network_, inputs = std::move(inputs), outputs = std::move(outputs), &core] {
          return network->Answer(inputs, outputs, core.stopping());
        },
        [](Napi::Env inner, Results&& tensors) -> Napi::Value { return WrapAll(inner, std::move(tensors)); });
  });
}

// profile(inputs, outputs): promise of { name, count, seconds }[]. A run whose results are thrown away.
Napi::Value NetworkHandle::Profiled(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    Core& core = Core::Of(env);
    return core.Submit<Profile>(
        network_->device(),
        [network = network_, inputs = ReadInputs(info[0]), outputs = ReadIntegers(info[1]), &core] {
          Profile profile;
          network->Run(inputs, outputs, core.stopping(), &profile);
          return profile;
        },
        [](Napi::Env inner, Profile&& profile) -> Napi::Value {
          auto list = Napi::Array::New(inner);
          for (const auto& [name, time] : profile) {
            auto entry = Napi::Object::New(inner);
            entry.Set("name", name);
            entry.Set("count", static_cast<double>(time.count));
            entry.Set("seconds", time.seconds);
            list[list.Length()] = entry;
          }
          return list;
        });
  });
}

// operators(given: boolean[], outputs: number[]): counts by name, for tests and inspection.
Napi::Value NetworkHandle::Operators(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    auto given = info[0].As<Napi::Array>();
    std::vector<bool> absent;
    for (uint32_t i = 0; i < given.Length(); ++i) absent.push_back(!given.Get(i).ToBoolean());
    auto result = Napi::Object::New(env);
    for (const auto& [name, count] : network_->Operators(absent, ReadIntegers(info[1]))) {
      result.Set(name, count);
    }
    return result;
  });
}

// updateWeights(updates): promise. Takes its turn among the runs; see Weights::Update.
Napi::Value NetworkHandle::UpdateWeights(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    Core& core = Core::Of(env);
    return core.Submit<bool>(
        network_->device(),
        [network = network_, updates = ReadUpdates(info[0].As<Napi::Array>()), &core] {
          network->weights().Update(updates, core.stopping());
          return true;
        },
        [](Napi::Env inner, bool&&) -> Napi::Value { return inner.Undefined(); });
  });
}

// replaceRows(parameter, first, rows: NativeTensor): promise. See Weights::ReplaceRows.
Napi::Value NetworkHandle::ReplaceRows(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
    const std::string parameter = info[0].As<Napi::String>();
    const int64_t first = info[1].As<Napi::Number>().Int64Value();
    return Core::Of(env).Submit<bool>(
        network_->device(),
        [network = network_, parameter, first, rows = TensorHandle::Get(info[2])] {
          network->weights().ReplaceRows(parameter, first, rows);
          return true;
        },
        [](Napi::Env inner, bool&&) -> Napi::Value { return inner.Undefined(); });
  });
}

void NetworkHandle::Dispose(const Napi::CallbackInfo& info) { Release(info.Env()); }

}  // namespace torchbrush
