#include "attention.inl"
#include "group_norm.inl"
#include "kernels.h"
#include "rows.inl"

namespace torchbrush::kernels {

const Kernels& Avx512() {
  static constexpr Kernels kernels{
      {AttentionOf<FloatProduct>::kTable, GroupNormOf<float>::kTable, RowsOf<float>::kTable},
      {nullptr, GroupNormOf<Bf16>::kTable, RowsOf<Bf16>::kTable}};
  return kernels;
}

}  // namespace torchbrush::kernels
