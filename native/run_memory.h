// Memory of the values inside a run. They are megabytes large and live for milliseconds, and every step
// wants the same sizes again: taken from the system each time, a third of a step would go into clearing
// pages. So large blocks are kept from run to run, and given back when the device has had nothing to do
// for a while.
#pragma once

namespace torchbrush {

class RunMemory {
 public:
  // Makes libtorch's CPU allocator ask here first; once for the process.
  static void Install();

  // Gives back all blocks that nobody uses.
  static void Release();

  // While one lives, large allocations of its thread come from the kept blocks. When the last one ends,
  // blocks that were not used since it began go.
  class Scope {
   public:
    Scope();
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

  // While one lives, allocations of its thread are the usual ones: for what outlives the run.
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    bool before_;
  };
};

}  // namespace torchbrush
