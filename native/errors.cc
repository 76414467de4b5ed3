#include "errors.h"

#include <c10/util/Exception.h>

#include <new>

namespace torchbrush {

Fault DescribeCurrentException() {
  try {
    throw;
  } catch (const CoreError& error) {
    return {error.code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return {"ERR_OUT_OF_MEMORY", error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    std::string message = error.what_without_backtrace();
    // Not all report exhaustion as such: the CPU's allocator, CUDA's own calls, its libraries.
    bool exhausted = false;
    for (const char* sign : {"DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"}) {
      exhausted = exhausted || message.find(sign) != std::string::npos;
    }
    return {exhausted ? "ERR_OUT_OF_MEMORY" : "ERR_TORCH", message};
  } catch (const std::bad_alloc&) {
    return {"ERR_OUT_OF_MEMORY", "Not enough memory."};
  } catch (const std::exception& error) {
    return {"ERR_TORCH", error.what()};
  } catch (...) {
    return {"ERR_TORCH", "Unknown native error."};
  }
}

Napi::Error ToJavaScript(Napi::Env env, const Fault& fault) {
  Napi::Error error = Napi::Error::New(env, fault.message);
  error.Set("code", Napi::String::New(env, fault.code));
  return error;
}

}  // namespace torchbrush
