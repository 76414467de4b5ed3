// A network: a lowered program and the weights that fill its parameters, on one device in one dtype.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "program.h"

namespace torchbrush {

// Where in which file a parameter's values lie.
struct Placement {
  std::string parameter;
  std::string file;
  uint64_t offset;
  at::ScalarType type;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // In elements; none where the values lie one behind the other.
};

class Network {
 public:
  Network(std::shared_ptr<const Program> program, const std::vector<Placement>& placements,
          c10::Device device, at::ScalarType type);

  // Runs what the asked-for outputs need. `stop` is looked at between operators.
  std::vector<at::Tensor> Run(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                              const std::atomic<bool>& stop);

  c10::Device device() const { return device_; }
  at::ScalarType type() const { return type_; }

 private:
  // The instructions one set of outputs needs, with what may be let go after each.
  struct Plan {
    struct Step {
      const Instruction* instruction;
      std::vector<bool> last_use;
    };
    std::vector<Step> steps;
  };

  const Plan& PlanFor(const std::vector<int32_t>& outputs);

  std::shared_ptr<const Program> program_;
  std::vector<c10::IValue> fixed_;
  std::vector<Instruction> instructions_;
  std::map<std::vector<int32_t>, Plan> plans_;
  c10::Device device_;
  at::ScalarType type_;
};

class NetworkHandle : public Napi::ObjectWrap<NetworkHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);

  explicit NetworkHandle(const Napi::CallbackInfo& info);
  ~NetworkHandle() override;

 private:
  Napi::Value Run(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);
  void Release(Napi::Env env);

  std::shared_ptr<Network> network_;
};

}  // namespace torchbrush
