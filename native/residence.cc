#include "residence.h"

#include <algorithm>

#include "errors.h"
#include "streaming.h"

namespace torchbrush {
namespace {

// Every kernel is content with it.
constexpr int64_t kAlignment = 256;

int64_t Padded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Some dozens of groups: small enough that few of them take little memory, large enough that a copy is
// worth its start.
constexpr int64_t kGroups = 32;
constexpr int64_t kLargestGroup = 64 << 20;

}  // namespace

Offload ParseOffload(const std::string& name) {
  if (name == "none") return Offload::kNone;
  if (name == "model") return Offload::kModel;
  if (name == "sequential") return Offload::kSequential;
  throw CoreError("ERR_INVALID_ARGUMENT", "Unknown offload '" + name + "'.");
}

Residence::Residence(Whereabouts where, std::vector<c10::IValue>& fixed)
    : where_(std::move(where)), fixed_(fixed), homes_(fixed.size()), copies_(Copies::For(where_.device)) {}

Residence::~Residence() = default;

// Pinned, so that copies run beside the device's work. Where no more memory can be pinned they take
// its time, no more.
at::Tensor Residence::OnHost(const at::Tensor& like) const {
  const auto options = at::TensorOptions().dtype(like.scalar_type());
  const at::Tensor dense = at::empty_like(like, options.device(at::kMeta), at::MemoryFormat::Preserve);
  const auto make = [&](bool pinned) {
    return at::empty_strided(dense.sizes(), dense.strides(), options.device(at::kCPU).pinned_memory(pinned));
  };
  if (where_.device.is_cpu()) return make(false);
  try {
    return make(true);
  } catch (const c10::Error&) {
    return make(false);
  }
}

void Residence::Keep(ValueRef place, const at::Tensor& value) {
  Home& home = homes_[~place];
  home = Home();
  if (!value.defined()) return;
  if (value.numel() == 0) {  // Is nowhere and so always here.
    Put(place, value.to(where_.device));
    return;
  }
  Booking booking(where_.ledger, "cpu", static_cast<int64_t>(value.nbytes()));
  at::Tensor host = OnHost(value);
  host.copy_(value);
  home = {std::move(host), std::move(booking)};
}

void Residence::Forget(ValueRef place) {
  if (homes_[~place].value.defined()) fixed_[~place] = c10::IValue();
}

void Residence::Leave() {
  for (size_t i = 0; i < homes_.size(); ++i) {
    if (homes_[i].value.defined()) fixed_[i] = c10::IValue();
  }
  held_.clear();
}

void Residence::Return() {
  Leave();
  try {
    for (size_t i = 0; i < homes_.size(); ++i) {
      const at::Tensor& host = homes_[i].value;
      if (host.defined()) fixed_[i] = host.to(where_.device, host.scalar_type(), false, true);
    }
  } catch (...) {
    Leave();
    throw;
  }
}

void Residence::SetOffload(Offload offload) {
  Leave();
  where_.offload = offload;
}

int64_t Residence::BytesOf(const std::vector<ValueRef>& places) const {
  int64_t bytes = 0;
  for (const ValueRef place : places) {
    if (homes_[~place].value.defined()) bytes += Padded(static_cast<int64_t>(homes_[~place].value.nbytes()));
  }
  return bytes;
}

Schedule Residence::Groups(const std::vector<std::vector<ValueRef>>& uses) const {
  int64_t total = 0;
  for (const auto& home : homes_) {
    if (home.value.defined()) total += Padded(static_cast<int64_t>(home.value.nbytes()));
  }
  const auto bytes_of = [this](ValueRef place) { return place < 0 ? BytesOf({place}) : 0; };
  return MakeSchedule(uses, bytes_of, std::min(total / kGroups, kLargestGroup));
}

std::unique_ptr<WeightPass> Residence::Begin(const Schedule& schedule) {
  if (where_.offload == Offload::kSequential) return std::make_unique<Stream>(*this, schedule);
  const bool complete = std::all_of(schedule.begin(), schedule.end(), [this](const WeightGroup& group) {
    return std::all_of(group.places.begin(), group.places.end(),
                       [this](ValueRef place) { return IsHere(place); });
  });
  if (complete) return nullptr;
  return std::make_unique<Arrival>(*this, schedule);
}

Residence::Buffer Residence::Allocate(int64_t bytes) const {
  Booking booking(where_.ledger, where_.Name(), bytes);
  return {at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(where_.device)), std::move(booking)};
}

Residence::Laid Residence::LayOut(const std::vector<ValueRef>& places, const at::Tensor& bytes) const {
  Laid laid;
  int64_t offset = 0;
  for (const ValueRef place : places) {
    const at::Tensor& host = homes_[~place].value;
    const auto length = static_cast<int64_t>(host.nbytes());
    const at::Tensor there = bytes.narrow(0, offset, length).view(host.scalar_type());
    const at::Tensor here = host.as_strided({host.numel()}, {1});
    if (length > 0) laid.copies.push_back({there, here});
    laid.weights.emplace_back(place, there.as_strided(host.sizes(), host.strides(), there.storage_offset()));
    offset += Padded(length);
  }
  return laid;
}

}  // namespace torchbrush
