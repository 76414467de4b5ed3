#include "ledger.h"

#include <algorithm>
#include <utility>

#include "errors.h"

namespace torchbrush {

void Ledger::Add(const std::string& place, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Account& account = accounts_[place];
  if (account.limit && account.now + bytes > *account.limit) {
    throw CoreError("ERR_OUT_OF_MEMORY", "Weights need " + std::to_string(bytes) + " bytes on " + place +
                                             ", and " + std::to_string(*account.limit - account.now) +
                                             " of the allowed " + std::to_string(*account.limit) +
                                             " are free.");
  }
  account.now += bytes;
  account.most = std::max(account.most, account.now);
}

void Ledger::Remove(const std::string& place, int64_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = accounts_.find(place);
  if (found != accounts_.end()) found->second.now -= bytes;
}

void Ledger::SetLimit(const std::string& place, std::optional<int64_t> bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Account& account = accounts_[place];
  account.limit = bytes;
  account.most = account.now;
}

std::map<std::string, Ledger::Account> Ledger::Accounts() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return accounts_;
}

Booking::Booking(std::shared_ptr<Ledger> ledger, const std::string& place, int64_t bytes) : place_(place) {
  ledger->Add(place, bytes);
  ledger_ = std::move(ledger);
  bytes_ = bytes;
}

Booking::~Booking() {
  if (ledger_) ledger_->Remove(place_, bytes_);
}

Booking::Booking(Booking&& other) noexcept { *this = std::move(other); }

Booking& Booking::operator=(Booking&& other) noexcept {
  std::swap(ledger_, other.ledger_);
  std::swap(place_, other.place_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace torchbrush
