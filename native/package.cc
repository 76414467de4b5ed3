// AOTInductor packages: machine code for one architecture, with its weights outside.
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <map>
#include <unordered_map>
#include <utility>

#include "errors.h"
#include "foreign.h"

namespace torchbrush {
namespace {

class Package : public ForeignNetwork {
 public:
  Package(const std::string& path, c10::Device device, const std::vector<std::string>& entries,
          std::shared_ptr<Ledger> ledger)
      : ForeignNetwork(device), ledger_(std::move(ledger)) {
    for (const auto& entry : entries) {
      const auto index = device.is_cpu() ? c10::DeviceIndex(-1) : device.index();
      entries_[entry].loader =
          std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, entry, false, 1, index);
    }
  }

  std::vector<Input> Inputs(const std::string& entry) const override { return {}; }

  std::optional<int64_t> OutputCount(const std::string& entry) const override { return std::nullopt; }

  std::string Metadata(const std::string& entry) const override {
    const auto metadata = Find(entry).loader->get_metadata();
    const auto found = metadata.find("torchbrush");
    return found == metadata.end() ? "" : found->second;
  }

  // The code looks for no shapes and no names: all have been checked against what the exporter wrote
  // down before.
  void Fill(const std::string& entry, const std::vector<Placement>& placements,
            at::ScalarType type) override {
    Entry& found = Find(entry);
    std::unordered_map<std::string, at::Tensor> constants;
    std::map<std::string, std::shared_ptr<WeightFile>> files;
    int64_t bytes = 0;
    for (const auto& [name, values] : placements) {
      auto& file = files[values.file];
      if (!file) file = std::make_shared<WeightFile>(values.file);
      at::Tensor placed = file->Read(values).to(device(), type).contiguous();
      bytes += static_cast<int64_t>(placed.nbytes());
      constants.emplace(name, std::move(placed));
    }
    for (const auto& name : found.loader->get_constant_fqns()) {
      if (constants.count(name) == 0) {
        throw CoreError("ERR_PROGRAM", "The package has a constant " + name + " that no weight fills.");
      }
    }
    Booking booking(ledger_, device().str(), bytes);
    // The code uses this memory as it lies, so it is kept.
    found.loader->load_constants(constants, false, true, true);
    found.constants = std::move(constants);
    found.booking = std::move(booking);
    found.is_filled = true;
  }

  std::vector<at::Tensor> Run(const std::string& entry, std::vector<at::Tensor> inputs,
                              const std::vector<std::string>& outputs,
                              const std::vector<std::string>& order) override {
    Entry& found = Find(entry);
    // Without this the machine code reads from nowhere, and the process ends.
    if (!found.is_filled) throw CoreError("ERR_PROGRAM", "The package has not been given its weights.");
    for (auto& input : inputs) {
      if (!input.defined()) throw CoreError("ERR_PROGRAM", "A package needs all of its inputs.");
      input = input.contiguous();
    }
    const c10::DeviceGuard guard(device());
    const auto results = found.loader->run(inputs);
    std::vector<at::Tensor> wanted;
    for (const auto& name : outputs) wanted.push_back(OutputNamed(name, order, results).contiguous());
    return wanted;
  }

 private:
  struct Entry {
    std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
    std::unordered_map<std::string, at::Tensor> constants;
    Booking booking;
    bool is_filled = false;
  };

  const Entry& Find(const std::string& entry) const {
    const auto found = entries_.find(entry);
    if (found == entries_.end()) throw CoreError("ERR_PROGRAM", "The package has no entry " + entry + ".");
    return found->second;
  }
  Entry& Find(const std::string& entry) { return const_cast<Entry&>(std::as_const(*this).Find(entry)); }

  std::shared_ptr<Ledger> ledger_;
  std::map<std::string, Entry> entries_;
};

}  // namespace

std::shared_ptr<ForeignNetwork> LoadPackage(const std::string& path, c10::Device device,
                                            const std::vector<std::string>& entries,
                                            const std::shared_ptr<Ledger>& ledger) {
  c10::InferenceMode normal(false);
  try {
    return std::make_shared<Package>(path, device, entries, ledger);
  } catch (const c10::Error& error) {
    throw CoreError("ERR_CHECKPOINT",
                    path + " cannot be loaded as an AOTInductor package: " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw CoreError("ERR_CHECKPOINT", path + " cannot be loaded as an AOTInductor package: " + error.what());
  }
}

}  // namespace torchbrush
