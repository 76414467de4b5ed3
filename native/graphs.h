// Runs of a network that are recorded and replayed: one graph for each set of input shapes. On the GPU a
// replay is one call where a run is hundreds.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/companion.h"
#include "reuse.h"

namespace torchbrush {

// What JavaScript is told. Counts are of the network's whole life, except `held`.
struct GraphStatus {
  int64_t held = 0;  // Graphs that are there now.
  int64_t recorded = 0;
  int64_t replayed = 0;
  int64_t eager = 0;  // Runs without a graph.
  std::string fault;  // Why the last recording failed; empty where none did.
};

class Graphs {
 public:
  using Inputs = std::vector<at::Tensor>;
  using Outputs = std::vector<at::Tensor>;
  using Run = std::function<Outputs(Inputs)>;

  // At most `limit` graphs; those least recently used go first. They share the pool's memory.
  Graphs(const Companion& companion, c10::Device device, std::shared_ptr<void> pool,
         std::shared_ptr<const Reuse> reuse, size_t limit);

  // The first run with some shapes is eager; the second one is recorded, so shapes that come once cost
  // nothing. Where recording fails, all runs with those shapes are eager. Only on the device's thread.
  Outputs Answer(Inputs inputs, const std::vector<int32_t>& outputs, const Run& eager);

  // Forgets all graphs: to be called when weights have changed place. Only on the device's thread.
  void Clear();

  // On any thread.
  GraphStatus status() const;

 private:
  struct Key {
    std::vector<int32_t> outputs;
    std::vector<std::vector<int64_t>> inputs;  // dtype, then sizes; empty where absent.
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    bool failed = false;
    Inputs inputs;    // Memory that replays read from.
    Outputs outputs;  // Memory that replays write to.
    // What the graph does not compute: it was derived from inputs beforehand, and is renewed with them.
    std::vector<Reuse::Derived> derived;
    std::vector<Identity> last;  // Which tensors the inputs' memory was filled from.
    std::unique_ptr<Recording> recording;
  };

  static Key KeyOf(const Inputs& inputs, const std::vector<int32_t>& outputs);
  Entry* Find(const Key& key);
  bool Record(Entry& entry, const Inputs& inputs, const Run& eager);
  Outputs Replay(Entry& entry, const Inputs& inputs);
  Outputs Eager(Inputs inputs, const Run& eager);
  void MakeRoom(bool another);
  template <class Change>
  void Note(const Change& change);

  const Companion& companion_;
  c10::Device device_;
  std::shared_ptr<void> pool_;
  std::shared_ptr<const Reuse> reuse_;
  size_t limit_;
  std::list<Entry> entries_;  // The most recently used first.
  mutable std::mutex mutex_;
  GraphStatus status_;
};

}  // namespace torchbrush
