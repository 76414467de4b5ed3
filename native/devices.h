// What devices there are, and how many threads the CPU uses.
#pragma once

#include <napi.h>

namespace torchbrush {

void DefineDevices(Napi::Env env, Napi::Object exports);

}  // namespace torchbrush
