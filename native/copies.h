// Copies from the host to a device, beside what the device computes.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <utility>
#include <vector>

namespace torchbrush {

// Used by one thread: the device's.
class Copies {
 public:
  // A place in the order of copies or of computations.
  struct Mark {
    virtual ~Mark() = default;
  };
  using MarkRef = std::shared_ptr<Mark>;

  struct Copy {
    at::Tensor to;
    at::Tensor from;  // On the host; of the same bytes in one row.
  };

  // On the CPU a thread of its own makes the copies: so a machine without an accelerator tests the
  // order of things as well.
  static std::unique_ptr<Copies> For(c10::Device device);
  virtual ~Copies() = default;

  // The end of what has been given to the device to compute so far.
  virtual MarkRef Computed() = 0;

  // Queues copies, not before the device is past `after`. Gives their end.
  virtual MarkRef Begin(std::vector<Copy> copies, const MarkRef& after) = 0;

  // What is computed from now on waits until then.
  virtual void Await(const MarkRef& mark) = 0;
};

}  // namespace torchbrush
