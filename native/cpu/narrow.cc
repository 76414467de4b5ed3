#include "narrow.h"

#include <algorithm>

#include "fused.h"

namespace torchbrush {

bool ComputesInFloat32(at::ScalarType type) {
  const kernels::Family* family = KernelsFor(type);
  return type == at::kBFloat16 && (family == nullptr || family->winograd == nullptr);
}

NarrowWeight NarrowWeights::Keep(const Packed& packed, at::IntArrayRef sizes) {
  if (!packed.weight.is_mkldnn()) return {packed.weight.to(at::kBFloat16), {}, {}};
  const auto* layout = dynamic_cast<const PackedLayout*>(packed.rows.get());
  if (layout == nullptr) return {};
  auto carrier = std::find_if(carriers_.begin(), carriers_.end(), [&](const Carrier& other) {
    return sizes == other.sizes && layout->IsLike(*other.layout);
  });
  if (carrier == carriers_.end()) {
    const at::Tensor memory = PackedLayout::MemoryOf(packed.weight);
    carriers_.push_back({sizes.vec(), std::make_unique<PackedLayout>(*layout), packed.weight, memory});
    carrier = std::prev(carriers_.end());
  }
  return {PackedLayout::MemoryOf(packed.weight).to(at::kBFloat16), carrier->tensor, carrier->memory};
}

at::Tensor NarrowWeights::Widen(const NarrowWeight& weight) const {
  if (!weight.carrier.defined()) {
    return scratch_->Lend(weight.values.sizes(), at::kFloat).copy_(weight.values);
  }
  weight.memory.copy_(weight.values);
  return weight.carrier;
}

}  // namespace torchbrush
