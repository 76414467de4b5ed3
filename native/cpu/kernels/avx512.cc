#include "attention.inl"
#include "group_norm.inl"
#include "kernels.h"
#include "linear.inl"
#include "rows.inl"
#include "winograd.inl"

namespace torchbrush::kernels {

const Kernels& Avx512() {
  static constexpr Kernels kernels{
      {&AttentionOf<FloatProduct>::kTable, &WinogradOf<FloatProduct>::kTable, &LinearOf<FloatProduct>::kTable,
       GroupNormOf<float>::kTable, RowsOf<float>::kTable},
      {nullptr, nullptr, nullptr, GroupNormOf<Bf16>::kTable, RowsOf<Bf16>::kTable}};
  return kernels;
}

}  // namespace torchbrush::kernels
