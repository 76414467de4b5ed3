#include "graphs.h"

#include <algorithm>
#include <utility>

#include "errors.h"

namespace torchbrush {
namespace {

// Shapes that were seen but have no graph: only their sizes are kept.
constexpr size_t kMostSeen = 64;

}  // namespace

Graphs::Graphs(const Companion& companion, c10::Device device, std::shared_ptr<void> pool,
               std::shared_ptr<const Reuse> reuse, size_t limit)
    : companion_(companion),
      device_(device),
      pool_(std::move(pool)),
      reuse_(std::move(reuse)),
      limit_(limit) {}

Graphs::Key Graphs::KeyOf(const Inputs& inputs, const std::vector<int32_t>& outputs) {
  Key key{outputs, {}};
  for (const auto& input : inputs) {
    auto& described = key.inputs.emplace_back();
    if (!input.defined()) continue;
    described.push_back(static_cast<int64_t>(input.scalar_type()));
    described.insert(described.end(), input.sizes().begin(), input.sizes().end());
  }
  return key;
}

Graphs::Entry* Graphs::Find(const Key& key) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&key](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return &entries_.front();
}

template <class Change>
void Graphs::Note(const Change& change) {
  std::lock_guard<std::mutex> lock(mutex_);
  change(status_);
  status_.held = std::count_if(entries_.begin(), entries_.end(),
                               [](const Entry& entry) { return entry.recording != nullptr; });
}

GraphStatus Graphs::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void Graphs::Clear() {
  entries_.clear();
  Note([](GraphStatus&) {});
}

Graphs::Outputs Graphs::Answer(Inputs inputs, const std::vector<int32_t>& outputs, const Run& eager) {
  const Key key = KeyOf(inputs, outputs);
  Entry* entry = Find(key);
  if (entry == nullptr) {
    entries_.push_front({key, false, {}, {}, {}, {}, nullptr});
    MakeRoom(false);
    return Eager(std::move(inputs), eager);
  }
  if (entry->failed) return Eager(std::move(inputs), eager);
  if (entry->recording == nullptr && !Record(*entry, inputs, eager)) return Eager(std::move(inputs), eager);
  return Replay(*entry, inputs);
}

Graphs::Outputs Graphs::Eager(Inputs inputs, const Run& eager) {
  Note([](GraphStatus& status) { status.eager += 1; });
  try {
    return eager(inputs);
  } catch (...) {
    // Graphs hold memory that the run may be short of.
    const bool exhausted = DescribeCurrentException().code == "ERR_OUT_OF_MEMORY";
    if (!exhausted || status().held == 0) throw;
  }
  Clear();
  return eager(std::move(inputs));
}

bool Graphs::Record(Entry& entry, const Inputs& inputs, const Run& eager) {
  MakeRoom(true);
  try {
    for (const auto& input : inputs) {
      entry.last.push_back(input.defined() ? Identity(input) : Identity());
      if (!input.defined()) {
        entry.inputs.emplace_back();
        continue;
      }
      const bool picture = input.dim() == 4 && input.is_floating_point();
      const auto format = picture ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
      // Never an inference tensor of somebody else's: replays write to it.
      at::Tensor memory = at::empty(input.sizes(), input.options().device(device_), format);
      memory.copy_(input);
      entry.inputs.push_back(std::move(memory));
    }
    entry.recording =
        companion_.record(device_, pool_, [&entry, eager] { entry.outputs = eager(entry.inputs); });
    entry.derived = reuse_->DerivedFrom(entry.inputs);
  } catch (...) {
    const Fault fault = DescribeCurrentException();
    entry.recording.reset();
    entry.inputs.clear();
    entry.last.clear();
    entry.outputs.clear();
    if (fault.code == "ERR_DISPOSED") throw;  // The process is leaving.
    entry.failed = true;
    Note([&fault](GraphStatus& status) { status.fault = fault.message; });
    return false;
  }
  Note([](GraphStatus& status) { status.recorded += 1; });
  return true;
}

Graphs::Outputs Graphs::Replay(Entry& entry, const Inputs& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || entry.last[i].Is(inputs[i])) continue;
    entry.inputs[i].copy_(inputs[i]);
    entry.last[i] = Identity(inputs[i]);
    for (const auto& derived : entry.derived) {
      if (derived.input == i) Reuse::Renew(derived, entry.inputs[i]);
    }
  }
  entry.recording->Replay();
  // Copied at once: the next replay of any graph writes over them.
  Outputs results;
  for (const auto& output : entry.outputs) results.push_back(output.clone());
  Note([](GraphStatus& status) { status.replayed += 1; });
  return results;
}

// The entry in front stays whatever it is. `another` says that it is about to get a graph.
void Graphs::MakeRoom(bool another) {
  const size_t most = another ? limit_ - 1 : limit_;
  size_t graphs = 0;
  size_t seen = 0;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const bool front = it == entries_.begin();
    const bool goes = !front && (it->recording != nullptr ? ++graphs > most : ++seen > kMostSeen);
    it = goes ? entries_.erase(it) : std::next(it);
  }
}

}  // namespace torchbrush
