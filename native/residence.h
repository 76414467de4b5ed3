// Weights that live on the host and come to the device when they are needed: all that a run needs,
// to stay until they are sent away (model offload), or group by group through a few buffers
// (sequential offload).
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "copies.h"
#include "ledger.h"
#include "schedule.h"

namespace torchbrush {

enum class Offload { kNone, kModel, kSequential };

// Throws ERR_INVALID_ARGUMENT.
Offload ParseOffload(const std::string& name);

// Where a network's weights are to be.
struct Whereabouts {
  c10::Device device;
  std::shared_ptr<Ledger> ledger;
  Offload offload = Offload::kNone;
  // For tests: the CPU stands in for an accelerator, on which weights are copies of their own.
  bool is_simulated = false;

  // The device's name in the ledger.
  std::string Name() const { return is_simulated ? "simulated" : device.str(); }
};

// Brings weights during one run. Its end comes before that of the residence.
class WeightPass {
 public:
  virtual ~WeightPass() = default;
  // Called before each step, in order: its weights are in the fixed table then.
  virtual void Before(size_t step) = 0;
};

class Residence {
 public:
  // Weights have places in `fixed`, which hold nothing while they are away.
  Residence(Whereabouts where, std::vector<c10::IValue>& fixed);
  ~Residence();
  Residence(const Residence&) = delete;
  Residence& operator=(const Residence&) = delete;

  // A weight's new value, which is copied; an undefined tensor lets the old one go. The one on the
  // device stays in place until Forget(). Different places may be set by several threads.
  void Keep(ValueRef place, const at::Tensor& value);
  void Forget(ValueRef place);

  // Lets go what is on the device.
  void Leave();
  // Brings everything to the device for good. Throws with nothing there.
  void Return();

  void SetOffload(Offload offload);

  Schedule Groups(const std::vector<std::vector<ValueRef>>& uses) const;
  // Null where everything is there already. Throws with nothing on the device.
  std::unique_ptr<WeightPass> Begin(const Schedule& schedule);

  // Memory on the device for weights.
  struct Buffer {
    at::Tensor bytes;
    Booking booking;
  };
  Buffer Allocate(int64_t bytes) const;
  int64_t BytesOf(const std::vector<ValueRef>& places) const;
  // Weights and their copies, one behind the other in a buffer.
  struct Laid {
    std::vector<std::pair<ValueRef, at::Tensor>> weights;
    std::vector<Copies::Copy> copies;
  };
  Laid LayOut(const std::vector<ValueRef>& places, const at::Tensor& bytes) const;
  bool IsHere(ValueRef place) const { return !fixed_[~place].isNone(); }
  void Put(ValueRef place, at::Tensor weight) { fixed_[~place] = std::move(weight); }
  void Hold(Buffer buffer) { held_.push_back(std::move(buffer)); }
  Copies& copies() { return *copies_; }

 private:
  struct Home {
    at::Tensor value;
    Booking booking;
  };

  at::Tensor OnHost(const at::Tensor& like) const;

  Whereabouts where_;
  std::vector<c10::IValue>& fixed_;
  std::vector<Home> homes_;  // By place, as the fixed table.
  std::vector<Buffer> held_;
  std::unique_ptr<Copies> copies_;
};

}  // namespace torchbrush
