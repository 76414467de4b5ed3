// Turns whatever was thrown into {code, message}, the only form in which errors cross to JavaScript.
#pragma once

#include <napi.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace torchbrush {

struct Fault {
  std::string code;
  std::string message;
};

// An error with a code of ours. Everything else gets its code in DescribeCurrentException().
class CoreError : public std::runtime_error {
 public:
  CoreError(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

// To be called inside a catch block.
Fault DescribeCurrentException();

Napi::Error ToJavaScript(Napi::Env env, const Fault& fault);

// Runs `body` on the JavaScript thread; C++ exceptions leave it as JavaScript errors with a code.
template <class Body>
auto Guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw ToJavaScript(env, DescribeCurrentException());
  }
}

}  // namespace torchbrush
