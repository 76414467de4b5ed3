// Values that follow from an input alone are kept while that input stays the same tensor: the keys and
// values of all cross-attentions follow from the prompt, which no step changes.
//
// Only where JavaScript cannot write to tensors, which is on GPUs: there, the same tensor is the same
// values.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <vector>

#include "program.h"

namespace torchbrush {

// Which tensor it was, without keeping its memory. Its address is not given to another meanwhile.
class Identity {
 public:
  Identity() = default;
  explicit Identity(const at::Tensor& tensor) : tensor_(std::in_place, tensor.getIntrusivePtr()) {}
  bool Is(const at::Tensor& tensor) const {
    return tensor_ && tensor.defined() && tensor_->lock().get() == tensor.unsafeGetTensorImpl();
  }
  // Undefined where it is gone.
  at::Tensor Get() const { return tensor_ ? at::Tensor(tensor_->lock()) : at::Tensor(); }

 private:
  using Weak = c10::weak_intrusive_ptr<at::TensorImpl, c10::UndefinedTensorImpl>;
  std::optional<Weak> tensor_;
};

class Reuse {
 public:
  // A linear layer's result that graphs read from, and what to make it of anew.
  struct Derived {
    size_t input;
    at::Tensor weight;
    at::Tensor bias;  // May be undefined.
    at::Tensor result;
  };

  // Makes linear layers remember the result for an input of the program.
  void Wrap(const Program& program, std::vector<Instruction>& instructions);

  // What is remembered of these inputs.
  std::vector<Derived> DerivedFrom(const std::vector<at::Tensor>& inputs) const;

  static void Renew(const Derived& derived, const at::Tensor& input);

 private:
  struct Memory {
    Identity input;
    Identity weight;
    Identity bias;
    at::Tensor result;
  };
  std::vector<std::shared_ptr<Memory>> memories_;
};

}  // namespace torchbrush
