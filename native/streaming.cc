#include "streaming.h"

#include <algorithm>

namespace torchbrush {

Arrival::Arrival(Residence& residence, const Schedule& schedule) : residence_(residence) {
  try {
    for (const auto& group : schedule) {
      std::vector<ValueRef> missing;
      for (const ValueRef place : group.places) {
        if (!residence.IsHere(place)) missing.push_back(place);
      }
      if (missing.empty()) continue;
      auto buffer = residence.Allocate(residence.BytesOf(missing));
      auto [weights, copies] = residence.LayOut(missing, buffer.bytes);
      residence.Hold(std::move(buffer));
      // The buffer's memory may have been another tensor's that is still computed with.
      auto end = residence.copies().Begin(std::move(copies), residence.copies().Computed());
      pending_.emplace_back(group.first_step, std::move(end));
      for (auto& [place, weight] : weights) residence.Put(place, std::move(weight));
    }
  } catch (...) {
    AwaitAll();
    residence.Leave();
    throw;
  }
}

Arrival::~Arrival() { AwaitAll(); }

void Arrival::Before(size_t step) {
  while (!pending_.empty() && pending_.front().first <= step) {
    residence_.copies().Await(pending_.front().second);
    pending_.pop_front();
  }
}

// Nothing may be let go, nor be computed with, while it is being written.
void Arrival::AwaitAll() noexcept {
  try {
    for (const auto& [step, end] : pending_) residence_.copies().Await(end);
  } catch (...) {
    // The device is lost; whatever comes next says so.
  }
  pending_.clear();
}

Stream::Stream(Residence& residence, const Schedule& schedule) : residence_(residence), schedule_(schedule) {
  int64_t most = 0;
  for (const auto& group : schedule) most = std::max(most, residence.BytesOf(group.places));
  const size_t count = std::min(kBuffers, schedule.size());
  for (size_t i = 0; i < count; ++i) buffers_.push_back(residence.Allocate(most));
  try {
    const auto fresh = residence.copies().Computed();
    while (queued_ < count) Queue(queued_, fresh);
  } catch (...) {
    AwaitAll();
    throw;
  }
}

Stream::~Stream() {
  Clear();
  AwaitAll();
}

void Stream::AwaitAll() noexcept {
  try {
    for (const auto& filling : fillings_) residence_.copies().Await(filling.end);
  } catch (...) {
    // As in Arrival::AwaitAll.
  }
  fillings_.clear();
}

void Stream::Before(size_t step) {
  while (next_ < schedule_.size() && schedule_[next_].first_step <= step) Advance();
}

void Stream::Advance() {
  if (next_ > 0) {
    Clear();
    if (queued_ < schedule_.size()) Queue(queued_, residence_.copies().Computed());
  }
  Filling filling = std::move(fillings_.front());
  fillings_.pop_front();
  residence_.copies().Await(filling.end);
  for (auto& [place, weight] : filling.laid.weights) {
    present_.push_back(place);
    residence_.Put(place, std::move(weight));
  }
  next_ += 1;
}

void Stream::Queue(size_t group, const Copies::MarkRef& after) {
  auto laid = residence_.LayOut(schedule_[group].places, buffers_[group % buffers_.size()].bytes);
  auto end = residence_.copies().Begin(std::move(laid.copies), after);
  fillings_.push_back({std::move(laid), std::move(end)});
  queued_ += 1;
}

void Stream::Clear() {
  for (const ValueRef place : present_) residence_.Forget(place);
  present_.clear();
}

}  // namespace torchbrush
