// Small tensor operations for JavaScript, run at once on the calling thread: any registered
// operator by name, and the one that nearly every scheduler step is, a linear combination.
#pragma once

#include <napi.h>

namespace torchbrush {

void DefineOps(Napi::Env env, Napi::Object exports);

}  // namespace torchbrush
