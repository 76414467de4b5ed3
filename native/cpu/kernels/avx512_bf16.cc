#include "attention.inl"
#include "group_norm.inl"
#include "kernels.h"
#include "linear.inl"
#include "rows.inl"
#include "winograd.inl"

namespace torchbrush::kernels {

const Kernels& Avx512Bf16() {
  static constexpr Kernels kernels{
      {&AttentionOf<FloatProduct>::kTable, &WinogradOf<FloatProduct>::kTable, &LinearOf<FloatProduct>::kTable,
       GroupNormOf<float>::kTable, RowsOf<float>::kTable},
      {&AttentionOf<Bf16Product>::kTable, &WinogradOf<Bf16Product>::kTable, &LinearOf<Bf16Product>::kTable,
       GroupNormOf<Bf16>::kTable, RowsOf<Bf16>::kTable}};
  return kernels;
}

}  // namespace torchbrush::kernels
