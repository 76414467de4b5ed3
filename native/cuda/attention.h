// Attention by whichever of libtorch's backends is fastest for a shape on this GPU.
#pragma once

#include "companion.h"

namespace torchbrush {

std::unique_ptr<AttentionChoices> MakeAttentionChoices();
at::Tensor Attention(AttentionChoices& choices, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value, std::optional<double> scale);

}  // namespace torchbrush
