// A network's weights: read from mapped checkpoint files, and changed at run time by low-rank
// matrices or by further rows. Changes always start from the values in the file, so taking all of
// them back gives the checkpoint's own bits.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cpu/packed.h"
#include "program.h"
#include "residence.h"
#include "safetensors.h"

namespace torchbrush {

// Where in which file a tensor's values lie.
struct StoredValues {
  std::string file;
  uint64_t offset;
  at::ScalarType type;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // In elements; none where the values lie one behind the other.
};

struct Placement {
  std::string parameter;
  StoredValues values;
};

// scale · up · down, where up is [O,R] and down is [R,K] once trailing sizes are flattened. With a
// middle [R,S,h,w], down is [S,I] and the product is the kernel of three convolutions in a row.
struct LowRankTerm {
  StoredValues up;
  StoredValues down;
  std::optional<StoredValues> middle;
  double scale;
};

// The base weight plus the terms; without terms, the base weight itself.
struct WeightUpdate {
  std::string parameter;
  std::vector<LowRankTerm> terms;
};

using Files = std::unordered_map<std::string, std::shared_ptr<MappedFile>>;

class Weights {
 public:
  // Fills the parameters' places in `fixed` and gives instructions packed weights where they can
  // have them. Both belong to the network and must stay where they are.
  Weights(const Program& program, const std::vector<Placement>& placements, const Whereabouts& where,
          at::ScalarType type, std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed);

  // All or nothing: when one update fails, all weights named go back to the base.
  void Update(const std::vector<WeightUpdate>& updates, const std::atomic<bool>& stop);

  // The base weight with `rows` [N,D] from row `first` on; rows beyond its end make it longer.
  void ReplaceRows(const std::string& parameter, int64_t first, const at::Tensor& rows);

  // Takes the weights to the host, or back to the device for good. All or nothing.
  void SetOffload(Offload offload);

  // Null where the weights are on the device for good.
  Residence* residence() { return residence_.get(); }

 private:
  struct Weight {
    ValueRef place;
    std::shared_ptr<MappedFile> file;
    StoredValues stored;
    bool is_table = false;                 // Only looked up by row.
    std::shared_ptr<PackedWeight> packed;  // Null where operators take the plain weight.
  };

  Weight& Find(const std::string& parameter);
  at::Tensor Mapped(const Weight& weight) const;
  void Set(Weight& weight, at::Tensor tensor, bool mapped);
  void Restore(Weight& weight);
  // With all files open already.
  void ChangeAll(const std::vector<WeightUpdate>& updates, const Files& files, const std::atomic<bool>& stop);
  void Change(Weight& weight, const std::vector<LowRankTerm>& terms, const Files& files);

  // Where new values are put: the weights of the CPU and those that are offloaded are on the host.
  c10::Device Target() const { return residence_ ? c10::Device(c10::kCPU) : device_; }
  // That the weights are on the device for good.
  Booking Book() const;

  c10::Device device_;
  at::ScalarType type_;
  std::vector<c10::IValue>& fixed_;
  Whereabouts where_;
  Booking booking_;
  std::unique_ptr<Residence> residence_;
  std::unordered_map<std::string, Weight> weights_;
};

}  // namespace torchbrush
