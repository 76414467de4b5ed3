#include "foreign.h"

#include <algorithm>
#include <utility>

#include "arguments.h"
#include "core.h"
#include "tensor.h"

namespace torchbrush {

const at::Tensor& OutputNamed(const std::string& name, const std::vector<std::string>& order,
                              const std::vector<at::Tensor>& outputs) {
  const auto found = std::find(order.begin(), order.end(), name);
  const auto index = static_cast<size_t>(found - order.begin());
  if (found == order.end() || index >= outputs.size()) {
    throw CoreError("ERR_PROGRAM", "The module gives " + std::to_string(outputs.size()) +
                                       " outputs without names and none that is known as " + name +
                                       ". Let it return a dict of tensors by name.");
  }
  return outputs[index];
}

namespace {

using Made = std::shared_ptr<ForeignNetwork>;

Napi::Value Submit(Napi::Env env, c10::Device device, std::function<Made()> load) {
  return Core::Of(env).Submit<Made>(device, std::move(load),
                                    [](Napi::Env inner, Made&& network) -> Napi::Value {
                                      Core& core = Core::Of(inner);
                                      core.pending = &network;
                                      auto object = core.foreign_class.New({});
                                      core.pending = nullptr;
                                      return object;
                                    });
}

// loadScript(path, device, dtype, entries): promise of a NativeForeign.
Napi::Value LoadScriptFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string path = info[0].As<Napi::String>();
    const c10::Device device = ParseDevice(info[1].As<Napi::String>());
    const at::ScalarType type = ParseDType(info[2].As<Napi::String>());
    return Submit(env, device,
                  [path, device, type, entries = ReadStrings(info[3]), ledger = Core::Of(env).ledger()] {
                    return LoadScript(path, device, type, entries, ledger);
                  });
  });
}

// loadPackage(path, device, entries): promise of a NativeForeign.
Napi::Value LoadPackageFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string path = info[0].As<Napi::String>();
    const c10::Device device = ParseDevice(info[1].As<Napi::String>());
    return Submit(env, device,
                  [path, device, entries = ReadStrings(info[2]), ledger = Core::Of(env).ledger()] {
                    return LoadPackage(path, device, entries, ledger);
                  });
  });
}

}  // namespace

void ForeignHandle::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(
      env, "NativeForeign",
      {InstanceMethod<&ForeignHandle::Signature>("signature"), InstanceMethod<&ForeignHandle::Fill>("fill"),
       InstanceMethod<&ForeignHandle::Run>("run"), InstanceMethod<&ForeignHandle::Dispose>("dispose")});
  Core::Of(env).foreign_class = Napi::Persistent(constructor);
  exports.Set("loadScript", Napi::Function::New(env, LoadScriptFile));
  exports.Set("loadPackage", Napi::Function::New(env, LoadPackageFile));
}

ForeignHandle::ForeignHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Core& core = Core::Of(info.Env());
  if (core.pending == nullptr) {
    throw Napi::TypeError::New(info.Env(), "Such networks are made by loadScript and loadPackage.");
  }
  network_ = *static_cast<Made*>(core.pending);
  core.counts.networks += 1;
}

ForeignHandle::~ForeignHandle() { Release(Env()); }

void ForeignHandle::Release(Napi::Env env) {
  if (!network_) return;
  network_.reset();
  Core::Of(env).counts.networks -= 1;
}

const std::shared_ptr<ForeignNetwork>& ForeignHandle::network() const {
  if (!network_) throw CoreError("ERR_DISPOSED", "The network has been disposed.");
  return network_;
}

// signature(entry): { inputs: { name, optional }[], outputs: number | null, metadata: string }.
Napi::Value ForeignHandle::Signature(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string entry = info[0].As<Napi::String>();
    auto inputs = Napi::Array::New(env);
    for (const auto& [name, is_optional] : network()->Inputs(entry)) {
      auto input = Napi::Object::New(env);
      input.Set("name", name);
      input.Set("optional", is_optional);
      inputs[inputs.Length()] = input;
    }
    const auto count = network()->OutputCount(entry);
    auto signature = Napi::Object::New(env);
    signature.Set("inputs", inputs);
    signature.Set("outputs", count ? Napi::Number::New(env, static_cast<double>(*count)) : env.Null());
    signature.Set("metadata", network()->Metadata(entry));
    return signature;
  });
}

// fill(entry, placements, dtype): promise.
Napi::Value ForeignHandle::Fill(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string entry = info[0].As<Napi::String>();
    const at::ScalarType type = ParseDType(info[2].As<Napi::String>());
    return Core::Of(env).Submit<bool>(
        network()->device(),
        [network = network(), entry, placements = ReadPlacements(info[1]), type] {
          network->Fill(entry, placements, type);
          return true;
        },
        [](Napi::Env inner, bool&&) -> Napi::Value { return inner.Undefined(); });
  });
}

// run(entry, inputs: (NativeTensor | null)[], outputs: string[], order: string[]): promise of NativeTensor[].
Napi::Value ForeignHandle::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Guarded(env, [&]() -> Napi::Value {
    const std::string entry = info[0].As<Napi::String>();
    using Results = std::vector<at::Tensor>;
    return Core::Of(env).Submit<Results>(
        network()->device(),
        [network = network(), entry, inputs = ReadInputs(info[1]), outputs = ReadStrings(info[2]),
         order = ReadStrings(info[3])] { return network->Run(entry, inputs, outputs, order); },
        [](Napi::Env inner, Results&& tensors) -> Napi::Value { return WrapAll(inner, std::move(tensors)); });
  });
}

void ForeignHandle::Dispose(const Napi::CallbackInfo& info) { Release(info.Env()); }

}  // namespace torchbrush
