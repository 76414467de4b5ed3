// How many bytes of weights are where: for memoryStats(), and with a limit for tests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace torchbrush {

// Used by the JavaScript thread and by all device threads.
class Ledger {
 public:
  struct Account {
    int64_t now = 0;
    int64_t most = 0;
    std::optional<int64_t> limit;
  };

  // Throws ERR_OUT_OF_MEMORY where the place's limit would be passed.
  void Add(const std::string& place, int64_t bytes);
  void Remove(const std::string& place, int64_t bytes) noexcept;

  // Also begins to look for the place's highest level anew.
  void SetLimit(const std::string& place, std::optional<int64_t> bytes);
  std::map<std::string, Account> Accounts() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Account> accounts_;
};

// Bytes that stand in a ledger as long as this lives.
class Booking {
 public:
  Booking() = default;
  Booking(std::shared_ptr<Ledger> ledger, const std::string& place, int64_t bytes);
  ~Booking();
  Booking(Booking&& other) noexcept;
  Booking& operator=(Booking&& other) noexcept;
  Booking(const Booking&) = delete;
  Booking& operator=(const Booking&) = delete;

 private:
  std::shared_ptr<Ledger> ledger_;
  std::string place_;
  int64_t bytes_ = 0;
};

}  // namespace torchbrush
