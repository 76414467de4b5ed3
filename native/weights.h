// A network's weights: read from checkpoint files, and changed at run time by low-rank
// matrices or by further rows. Changes always start from the values in the file, so taking all of
// them back gives the checkpoint's own bits.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cpu/packed.h"
#include "cpu/row_table.h"
#include "program.h"
#include "residence.h"
#include "weight_values.h"

namespace torchbrush {

struct Placement {
  std::string parameter;
  StoredValues values;
};

// The base weight plus the terms; without terms, the base weight itself.
struct WeightUpdate {
  std::string parameter;
  std::vector<LowRankTerm> terms;
};

// Gives back to the system, at its end, what the C library keeps of memory that was freed.
class FreedMemory {
 public:
  FreedMemory() = default;
  FreedMemory(const FreedMemory&) = delete;
  FreedMemory& operator=(const FreedMemory&) = delete;
  ~FreedMemory();
};

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

  // What the network computes in. On processors without products of bfloat16 it is float32 for that too, and
  // packed weights alone are kept in bfloat16.
  at::ScalarType computed_in() const { return computed_in_; }

  // Lets memory go that only packing needs.
  void ReleaseScratch() { scratch_->Release(); }
  // Takes the weights to the host, or back to the device for good. All or nothing.
  void SetOffload(Offload offload);

  // Null where the weights are on the device for good.
  Residence* residence() { return residence_.get(); }

 private:
  struct Weight {
    ValueRef place;
    std::shared_ptr<WeightFile> file;
    StoredValues stored;
    std::shared_ptr<PackedWeight> packed;  // Null where operators take the plain weight.
    std::shared_ptr<RowTable> table;       // Of weights that are only looked up by row.
  };

  Weight& Find(const std::string& parameter);
  WeightValues ValuesOf(const Weight& weight, std::vector<Product> products = {}) const;
  void Restore(Weight& weight);
  // The whole weight where operators take it. Packed ones are read when they are packed.
  void Set(Weight& weight, WeightValues values);
  void Put(Weight& weight, at::Tensor tensor);
  // With all files open already. `block` is the thread's own.
  void ChangeAll(const std::vector<WeightUpdate>& updates, const Files& files, const std::atomic<bool>& stop);
  void Change(Weight& weight, const std::vector<LowRankTerm>& terms, const Files& files, Scratch& block);

  // Where new values are put: the weights of the CPU and those that are offloaded are on the host.
  c10::Device Target() const { return residence_ ? c10::Device(c10::kCPU) : device_; }
  // That the weights are on the device for good.
  Booking Book() const;

  c10::Device device_;
  at::ScalarType type_;
  at::ScalarType computed_in_;
  std::vector<c10::IValue>& fixed_;
  std::shared_ptr<Scratch> scratch_ = std::make_shared<Scratch>();
  Whereabouts where_;
  Booking booking_;
  std::unique_ptr<Residence> residence_;
  std::unordered_map<std::string, Weight> weights_;
};

}  // namespace torchbrush
