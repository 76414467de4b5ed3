// Networks that bring code of their own: TorchScript archives and AOTInductor packages. They may do
// whatever a program may, so JavaScript loads none that it was not told to trust.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger.h"
#include "weights.h"

namespace torchbrush {

class ForeignNetwork {
 public:
  struct Input {
    std::string name;
    bool is_optional;
  };

  explicit ForeignNetwork(c10::Device device) : device_(device) {}
  virtual ~ForeignNetwork() = default;

  c10::Device device() const { return device_; }

  // What the code says of itself, by entry ("forward"). Throws ERR_PROGRAM for an unknown entry.
  virtual std::vector<Input> Inputs(const std::string& entry) const = 0;
  // None where outputs have names of their own.
  virtual std::optional<int64_t> OutputCount(const std::string& entry) const = 0;
  // What the exporter wrote down; empty where there is nothing.
  virtual std::string Metadata(const std::string& entry) const = 0;

  // Gives an entry its weights where they are not inside; `inner` names are the code's own.
  virtual void Fill(const std::string& entry, const std::vector<Placement>& placements,
                    at::ScalarType type) = 0;

  // The named outputs. Those without names of their own are called as `order` says. Absent optional
  // inputs are undefined tensors.
  virtual std::vector<at::Tensor> Run(const std::string& entry, std::vector<at::Tensor> inputs,
                                      const std::vector<std::string>& outputs,
                                      const std::vector<std::string>& order) = 0;

 private:
  c10::Device device_;
};

// The output `name` of those that stand in `order`. Throws ERR_PROGRAM.
const at::Tensor& OutputNamed(const std::string& name, const std::vector<std::string>& order,
                              const std::vector<at::Tensor>& outputs);

// Throw ERR_CHECKPOINT for files that are none, or that lack an entry.
std::shared_ptr<ForeignNetwork> LoadScript(const std::string& path, c10::Device device, at::ScalarType type,
                                           const std::vector<std::string>& entries,
                                           const std::shared_ptr<Ledger>& ledger);
std::shared_ptr<ForeignNetwork> LoadPackage(const std::string& path, c10::Device device,
                                            const std::vector<std::string>& entries,
                                            const std::shared_ptr<Ledger>& ledger);

class ForeignHandle : public Napi::ObjectWrap<ForeignHandle> {
 public:
  static void Define(Napi::Env env, Napi::Object exports);

  explicit ForeignHandle(const Napi::CallbackInfo& info);
  ~ForeignHandle() override;

 private:
  Napi::Value Signature(const Napi::CallbackInfo& info);
  Napi::Value Fill(const Napi::CallbackInfo& info);
  Napi::Value Run(const Napi::CallbackInfo& info);
  void Dispose(const Napi::CallbackInfo& info);
  void Release(Napi::Env env);
  const std::shared_ptr<ForeignNetwork>& network() const;

  std::shared_ptr<ForeignNetwork> network_;
};

}  // namespace torchbrush
