// The two ways of bringing weights to a device during a run.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "residence.h"

namespace torchbrush {

// Brings what is missing in the order of its first use, and leaves it there. The first steps run while
// the weights of later ones are on their way.
class Arrival : public WeightPass {
 public:
  // Throws with nothing on the device.
  Arrival(Residence& residence, const Schedule& schedule);
  ~Arrival() override;
  void Before(size_t step) override;

 private:
  void AwaitAll() noexcept;

  Residence& residence_;
  std::deque<std::pair<size_t, Copies::MarkRef>> pending_;  // By first step.
};

// Brings group after group through a few buffers, ahead of use.
class Stream : public WeightPass {
 public:
  // One buffer is computed with, the others are filled.
  static constexpr size_t kBuffers = 3;

  Stream(Residence& residence, const Schedule& schedule);
  ~Stream() override;
  void Before(size_t step) override;

 private:
  void Advance();
  void Queue(size_t group, const Copies::MarkRef& after);
  void Clear();
  void AwaitAll() noexcept;

  struct Filling {
    Residence::Laid laid;
    Copies::MarkRef end;
  };

  Residence& residence_;
  const Schedule& schedule_;
  std::vector<Residence::Buffer> buffers_;
  std::deque<Filling> fillings_;  // The first is that of the next group.
  std::vector<ValueRef> present_;
  size_t next_ = 0;    // The group that comes next.
  size_t queued_ = 0;  // The first group that is not on its way yet.
};

}  // namespace torchbrush
