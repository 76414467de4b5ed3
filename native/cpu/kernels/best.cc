#include <cstdlib>
#include <string>

#include "kernels.h"

namespace torchbrush::kernels {

const Kernels* Best() {
  const char* const limit = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string most = limit == nullptr ? "" : limit;
  if (most == "default") return nullptr;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!wide || most == "avx2") return &Avx2();
  return __builtin_cpu_supports("avx512bf16") ? &Avx512Bf16() : &Avx512();
}

}  // namespace torchbrush::kernels
