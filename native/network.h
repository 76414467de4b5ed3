// A network: a lowered program and the weights that fill its parameters, on one device in one dtype.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda/rewrite.h"
#include "graphs.h"
#include "program.h"
#include "reuse.h"
#include "weights.h"

namespace torchbrush {

// What the operators of a run took, by name.
struct OperatorTime {
  int64_t count = 0;
  double seconds = 0;
};
using Profile = std::map<std::string, OperatorTime>;

class Network {
 public:
  Network(std::shared_ptr<const Program> program, const std::vector<Placement>& placements,
          const Whereabouts& where, at::ScalarType type);

  // Runs what the asked-for outputs need. Optional inputs that are absent are undefined tensors.
  // `stop` is looked at between operators.
  std::vector<at::Tensor> Run(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                              const std::atomic<bool>& stop, Profile* profile = nullptr);

  // The same by a recorded graph, once UseGraphs was called.
  std::vector<at::Tensor> Answer(std::vector<at::Tensor> inputs, const std::vector<int32_t>& outputs,
                                 const std::atomic<bool>& stop);

  // At most `limit` graphs from now on, and convolutions try their algorithms; false where the device has no
  // companion that records. Only on the device's thread.
  bool UseGraphs(const std::shared_ptr<void>& pool, size_t limit);
  GraphStatus graph_status() const;

  // How often each operator occurs in such a run.
  std::map<std::string, int> Operators(const std::vector<bool>& absent,
                                       const std::vector<int32_t>& outputs) const;

  // For changes, which graphs that were recorded with the old weights do not survive.
  Weights& weights();
  c10::Device device() const { return device_; }

 private:
  // The instructions one set of outputs needs of the given inputs, with what may be let go after each.
  struct Plan {
    struct Step {
      const Instruction* instruction;
      std::vector<ValueRef> inputs;
      std::vector<bool> last_use;
    };
    std::vector<Step> steps;
    std::vector<ValueRef> outputs;
    std::unique_ptr<const Schedule> arrivals;  // Of weights that are offloaded; null until then.
  };
  using Wanted = std::pair<std::vector<bool>, std::vector<int32_t>>;

  Plan MakePlan(const std::vector<bool>& absent, const std::vector<int32_t>& outputs) const;
  std::vector<ValueRef> PlacesWithout(const std::vector<bool>& absent) const;
  // Null where all weights that the plan needs are on the device.
  std::unique_ptr<WeightPass> BringWeights(Plan& plan);

  const FreedMemory freed_;  // The first, so that it comes last.
  std::shared_ptr<const Program> program_;
  std::vector<c10::IValue> fixed_;
  TuneFlag tune_ = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<Reuse> reuse_ = std::make_shared<Reuse>();
  std::vector<Instruction> instructions_;
  Weights weights_;
  std::map<Wanted, Plan> plans_;
  c10::Device device_;
  at::ScalarType type_;
  std::atomic<std::shared_ptr<Graphs>> graphs_;  // Read on any thread for its status.
};

class NetworkHandle : public Napi::ObjectWrap<NetworkHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);

  explicit NetworkHandle(const Napi::CallbackInfo& info);
  ~NetworkHandle() override;

 private:
  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value Profiled(const Napi::CallbackInfo& info);
  Napi::Value Operators(const Napi::CallbackInfo& info);
  Napi::Value UpdateWeights(const Napi::CallbackInfo& info);
  Napi::Value ReplaceRows(const Napi::CallbackInfo& info);
  Napi::Value SetOffload(const Napi::CallbackInfo& info);
  Napi::Value Leave(const Napi::CallbackInfo& info);
  Napi::Value UseGraphs(const Napi::CallbackInfo& info);
  Napi::Value GraphStatus(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);
  void Release(Napi::Env env);

  std::shared_ptr<Network> network_;
};

}  // namespace torchbrush
