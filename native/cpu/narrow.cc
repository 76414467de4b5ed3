#include "narrow.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace torchbrush {

bool ComputesInFloat32(at::ScalarType type) {
  static const kernels::Kernels* const best = kernels::Best();
  return type == at::kBFloat16 && (best == nullptr || best->bfloat16.winograd == nullptr);
}

NarrowWeight NarrowWeights::Keep(const Packed& packed, at::IntArrayRef sizes) {
  if (!packed.weight.is_mkldnn()) return {packed.weight.to(at::kBFloat16), {}};
  const auto* layout = dynamic_cast<const PackedLayout*>(packed.rows.get());
  if (layout == nullptr) return {};
  auto carrier = std::find_if(carriers_.begin(), carriers_.end(), [&](const Carrier& other) {
    return sizes == other.sizes && layout->IsLike(*other.layout);
  });
  if (carrier == carriers_.end()) {
    carriers_.push_back({sizes.vec(), std::make_unique<PackedLayout>(*layout), packed.weight});
    carrier = std::prev(carriers_.end());
  }
  return {PackedLayout::MemoryOf(packed.weight).to(at::kBFloat16), carrier->tensor};
}

at::Tensor NarrowWeights::Widen(const NarrowWeight& weight) const {
  if (!weight.carrier.defined()) {
    return scratch_->Lend(weight.values.sizes(), at::kFloat).copy_(weight.values);
  }
  PackedLayout::MemoryOf(weight.carrier).copy_(weight.values);
  return weight.carrier;
}

}  // namespace torchbrush
