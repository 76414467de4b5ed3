#include "kernels.h"

namespace torchbrush::kernels {

const Kernels* Best() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!wide) return &Avx2();
  return __builtin_cpu_supports("avx512bf16") ? &Avx512Bf16() : &Avx512();
}

}  // namespace torchbrush::kernels
