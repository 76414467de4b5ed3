// TorchScript archives with their weights inside, run by libtorch's own interpreter: they may have
// control flow.
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/jit_exception.h>
#include <torch/csrc/jit/serialization/import.h>

#include <map>
#include <utility>

#include "errors.h"
#include "foreign.h"

namespace torchbrush {
namespace {

[[noreturn]] void Refuse(const std::string& reason) {
  throw CoreError("ERR_PROGRAM", "The TorchScript module " + reason);
}

bool IsTensor(const c10::TypePtr& type) { return type->kind() == c10::TypeKind::TensorType; }

bool IsOptionalTensor(const c10::TypePtr& type) {
  return type->kind() == c10::TypeKind::OptionalType &&
         IsTensor(type->expectRef<c10::OptionalType>().getElementType());
}

class Script : public ForeignNetwork {
 public:
  Script(torch::jit::Module module, c10::Device device, at::ScalarType type,
         const std::vector<std::string>& entries, const std::shared_ptr<Ledger>& ledger)
      : ForeignNetwork(device), module_(std::move(module)) {
    module_.eval();
    int64_t bytes = 0;
    const auto place = [&](const at::Tensor& tensor) {
      at::Tensor placed = tensor.detach();
      placed = tensor.is_floating_point() ? placed.to(device, type) : placed.to(device);
      bytes += static_cast<int64_t>(placed.nbytes());
      const_cast<at::Tensor&>(tensor).set_data(placed);
    };
    for (const at::Tensor& tensor : module_.parameters()) place(tensor);
    for (const at::Tensor& tensor : module_.buffers()) place(tensor);
    booking_ = Booking(ledger, device.str(), bytes);
    for (const auto& entry : entries) Check(entry);
  }

  std::vector<Input> Inputs(const std::string& entry) const override {
    const auto& arguments = Method(entry).function().getSchema().arguments();
    std::vector<Input> inputs;
    for (size_t i = 1; i < arguments.size(); ++i) {
      inputs.push_back({arguments[i].name(), IsOptionalTensor(arguments[i].type())});
    }
    return inputs;
  }

  std::optional<int64_t> OutputCount(const std::string& entry) const override {
    const auto type = Method(entry).function().getSchema().returns().at(0).type();
    if (type->kind() == c10::TypeKind::DictType) return std::nullopt;
    if (type->kind() != c10::TypeKind::TupleType) return 1;
    return static_cast<int64_t>(type->expectRef<c10::TupleType>().elements().size());
  }

  std::string Metadata(const std::string& entry) const override { return ""; }

  void Fill(const std::string& entry, const std::vector<Placement>& placements,
            at::ScalarType type) override {
    Refuse("has its weights inside.");
  }

  std::vector<at::Tensor> Run(const std::string& entry, std::vector<at::Tensor> inputs,
                              const std::vector<std::string>& outputs,
                              const std::vector<std::string>& order) override {
    // Code that names no device means the current one.
    const c10::DeviceGuard guard(device());
    std::vector<c10::IValue> arguments;
    for (auto& input : inputs) {
      arguments.push_back(input.defined() ? c10::IValue(std::move(input)) : c10::IValue());
    }
    const c10::IValue result = Call(entry, std::move(arguments));
    std::vector<at::Tensor> found;
    for (const auto& name : outputs) found.push_back(Output(result, name, order).contiguous());
    return found;
  }

 private:
  torch::jit::Method Method(const std::string& entry) const {
    const auto method = module_.find_method(entry);
    if (!method) Refuse("has no method " + entry + ".");
    return *method;
  }

  void Check(const std::string& entry) const {
    const auto method = module_.find_method(entry);
    if (!method) throw CoreError("ERR_CHECKPOINT", "The TorchScript module has no method " + entry + ".");
    const auto& arguments = method->function().getSchema().arguments();
    for (size_t i = 1; i < arguments.size(); ++i) {
      if (IsTensor(arguments[i].type()) || IsOptionalTensor(arguments[i].type())) continue;
      throw CoreError("ERR_CHECKPOINT", "The method " + entry + " of the TorchScript module takes " +
                                            arguments[i].name() + ", which is no tensor but " +
                                            arguments[i].type()->str() + ".");
    }
  }

  // Errors that the module's own code raises say where in that code: the last line says what.
  c10::IValue Call(const std::string& entry, std::vector<c10::IValue> arguments) {
    try {
      return Method(entry)(std::move(arguments));
    } catch (const torch::jit::JITException& error) {
      Refuse("failed in " + entry + ": " + error.what());
    }
  }

  static at::Tensor Output(const c10::IValue& result, const std::string& name,
                           const std::vector<std::string>& order) {
    if (result.isTensor()) return OutputNamed(name, order, {result.toTensor()});
    if (result.isTuple()) {
      std::vector<at::Tensor> tensors;
      for (const auto& item : result.toTupleRef().elements()) {
        if (!item.isTensor()) Refuse("returned a tuple with something else than tensors.");
        tensors.push_back(item.toTensor());
      }
      return OutputNamed(name, order, tensors);
    }
    if (!result.isGenericDict()) Refuse("returned neither tensors nor a dict of them.");
    std::string names;
    for (const auto& entry : result.toGenericDict()) {
      if (!entry.key().isString() || !entry.value().isTensor()) {
        Refuse("returned a dict that is not of tensors by name.");
      }
      if (entry.key().toStringRef() == name) return entry.value().toTensor();
      names += (names.empty() ? "" : ", ") + entry.key().toStringRef();
    }
    Refuse("returned no " + name + " but " + names + ".");
  }

  torch::jit::Module module_;
  Booking booking_;
};

}  // namespace

std::shared_ptr<ForeignNetwork> LoadScript(const std::string& path, c10::Device device, at::ScalarType type,
                                           const std::vector<std::string>& entries,
                                           const std::shared_ptr<Ledger>& ledger) {
  // Loading makes parameters, which is not allowed under InferenceMode.
  c10::InferenceMode normal(false);
  c10::NoGradGuard no_grad;
  try {
    return std::make_shared<Script>(torch::jit::load(path, c10::Device(c10::kCPU)), device, type, entries,
                                    ledger);
  } catch (const CoreError&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    throw CoreError("ERR_CHECKPOINT",
                    path + " cannot be loaded as a TorchScript archive: " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw CoreError("ERR_CHECKPOINT", path + " cannot be loaded as a TorchScript archive: " + error.what());
  }
}

}  // namespace torchbrush
