#include "rewrite.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "fused.h"
#include "instruction_graph.h"

namespace torchbrush {
namespace {

using Run = std::function<void(torch::jit::Stack&)>;

at::Tensor TensorOrNone(const c10::IValue& value) {
  return value.isTensor() ? value.toTensor() : at::Tensor();
}

std::optional<double> NumberOrNone(const c10::IValue& value) {
  return value.isNone() ? std::nullopt : std::make_optional(value.toDouble());
}

void Answer(torch::jit::Stack& stack, at::Tensor value) {
  stack.clear();
  stack.emplace_back(std::move(value));
}

// scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale, shared heads)
void UseAttention(InstructionGraph& graph, Instruction& instruction) {
  if (instruction.name != "aten::scaled_dot_product_attention" || instruction.inputs.size() != 8) return;
  const auto constant = [&](int i) { return graph.Constant(instruction.inputs[i]); };
  for (int i = 4; i < 8; ++i) {
    if (constant(i) == nullptr) return;
  }
  const bool shared = constant(7)->isBool() && constant(7)->toBool();
  if (constant(4)->toDouble() != 0 || constant(5)->toBool() || shared) return;
  instruction.run = [plain = instruction.run, scale = NumberOrNone(*constant(6))](torch::jit::Stack& stack) {
    at::Tensor out = FusedAttention(stack[0].toTensor(), stack[1].toTensor(), stack[2].toTensor(),
                                    TensorOrNone(stack[3]), scale);
    if (!out.defined()) return plain(stack);
    Answer(stack, std::move(out));
  };
  instruction.name = "torchbrush::attention";
}

// x + unflatten(time embedding) with a place for each picture and channel.
bool IsChannelAddend(const InstructionGraph& graph, ValueRef value) {
  const Instruction* maker = graph.Maker(value);
  if (maker == nullptr || maker->name != "aten::unflatten" || maker->inputs.size() != 3) return false;
  const c10::IValue* sizes = graph.Constant(maker->inputs[2]);
  return sizes != nullptr && sizes->isIntList() && sizes->toIntVector() == std::vector<int64_t>{-1, 1, 1};
}

// group_norm(x, groups, weight, bias, ε, cudnn), with an addition to the channels before it and SiLU
// after it where nobody else wants what lies between.
void UseGroupNorm(InstructionGraph& graph, Instruction& norm) {
  if (norm.name != "aten::group_norm" || norm.inputs.size() != 6) return;
  const c10::IValue* groups = graph.Constant(norm.inputs[1]);
  const c10::IValue* epsilon = graph.Constant(norm.inputs[4]);
  if (groups == nullptr || epsilon == nullptr) return;
  Instruction* sum = graph.MakerFor(norm, norm.inputs[0], "aten::add");
  const bool adds = sum != nullptr && graph.IsSum(*sum) && IsChannelAddend(graph, sum->inputs[1]);
  Instruction* taker = graph.OnlyTaker(norm.outputs[0]);
  Instruction* silu = taker != nullptr && taker->name == "aten::silu" ? taker : nullptr;

  Run plain = [norm = norm.run, adds, add = adds ? sum->run : nullptr,
               act = silu != nullptr ? silu->run : nullptr](torch::jit::Stack& stack) {
    c10::IValue addend = std::move(stack.back());
    stack.pop_back();
    if (adds) {
      torch::jit::Stack inner{stack[0], std::move(addend), 1};
      add(inner);
      stack[0] = std::move(inner[0]);
    }
    norm(stack);
    if (act != nullptr) act(stack);
  };
  const int64_t count = groups->toInt();
  const double small = epsilon->toDouble();
  Instruction& last = silu != nullptr ? *silu : norm;
  std::vector<ValueRef> inputs = norm.inputs;
  inputs.push_back(adds ? sum->inputs[1] : norm.inputs[0]);
  if (adds) inputs[0] = sum->inputs[0];
  Run run = [plain, count, small, adds, silu = silu != nullptr](torch::jit::Stack& stack) {
    const at::Tensor addend = adds ? stack[6].toTensor() : at::Tensor();
    at::Tensor out = FusedGroupNorm(stack[0].toTensor(), addend, count, TensorOrNone(stack[2]),
                                    TensorOrNone(stack[3]), small, silu);
    if (!out.defined()) return plain(stack);
    Answer(stack, std::move(out));
  };
  if (adds) graph.Remove(*sum);
  if (silu != nullptr) graph.Remove(norm);
  last.name = std::string("torchbrush::group_norm") + (adds ? "+add" : "") + (silu != nullptr ? "+silu" : "");
  last.inputs = std::move(inputs);
  last.run = std::move(run);
}

// layer_norm(x, shape, weight, bias, ε, cudnn), together with the sum that it is the first to take.
void UseLayerNorm(InstructionGraph& graph, Instruction& norm) {
  if (norm.name != "aten::layer_norm" || norm.inputs.size() != 6) return;
  const c10::IValue* shape = graph.Constant(norm.inputs[1]);
  const c10::IValue* epsilon = graph.Constant(norm.inputs[4]);
  if (shape == nullptr || epsilon == nullptr || shape->toIntVector().size() != 1) return;
  Instruction* sum = graph.Maker(norm.inputs[0]);
  const bool adds = sum != nullptr && graph.IsSum(*sum) && graph.Takers(norm.inputs[0]).front() == &norm;
  const double small = epsilon->toDouble();
  Run plain = [norm = norm.run, add = adds ? sum->run : nullptr](torch::jit::Stack& stack) {
    c10::IValue addend = std::move(stack.back());
    stack.pop_back();
    if (add == nullptr) return norm(stack);
    torch::jit::Stack inner{stack[0], std::move(addend), 1};
    add(inner);
    stack[0] = inner[0];
    norm(stack);
    stack.insert(stack.begin(), std::move(inner[0]));
  };
  std::vector<ValueRef> inputs = norm.inputs;
  inputs.push_back(adds ? sum->inputs[1] : norm.inputs[0]);
  if (adds) inputs[0] = sum->inputs[0];
  Run run = [plain, small, adds](torch::jit::Stack& stack) {
    auto [summed, out] = FusedLayerNorm(stack[0].toTensor(), adds ? stack[6].toTensor() : at::Tensor(),
                                        TensorOrNone(stack[2]), TensorOrNone(stack[3]), small);
    if (!out.defined()) return plain(stack);
    stack.clear();
    if (adds) stack.emplace_back(std::move(summed));
    stack.emplace_back(std::move(out));
  };
  if (adds) norm.outputs.insert(norm.outputs.begin(), sum->outputs[0]);
  if (adds) graph.Remove(*sum);
  norm.name = adds ? "torchbrush::add+layer_norm" : "torchbrush::layer_norm";
  norm.inputs = std::move(inputs);
  norm.run = std::move(run);
}

// chunk(x, 2, -1) → a, b; a·gelu(b)
void UseGatedGelu(InstructionGraph& graph, Instruction& product) {
  if (product.name != "aten::mul" || product.inputs.size() != 2) return;
  Instruction* gelu = graph.MakerFor(product, product.inputs[1], "aten::gelu");
  if (gelu == nullptr || gelu->inputs.size() != 2) return;
  const c10::IValue* approximation = graph.Constant(gelu->inputs[1]);
  if (approximation == nullptr || approximation->toStringRef() != "none") return;
  Instruction* unpack = graph.Maker(gelu->inputs[0]);
  const bool halves =
      unpack != nullptr && unpack->name == "prim::ListUnpack" && unpack->outputs.size() == 2 &&
      unpack->outputs[0] == product.inputs[0] && unpack->outputs[1] == gelu->inputs[0] &&
      graph.OnlyTaker(unpack->outputs[0]) == &product && graph.OnlyTaker(unpack->outputs[1]) == gelu;
  if (!halves) return;
  Instruction* chunk = graph.MakerFor(*unpack, unpack->inputs[0], "aten::chunk");
  if (chunk == nullptr || chunk->inputs.size() != 3) return;
  const c10::IValue* count = graph.Constant(chunk->inputs[1]);
  const c10::IValue* dimension = graph.Constant(chunk->inputs[2]);
  if (count == nullptr || dimension == nullptr || count->toInt() != 2 || dimension->toInt() != -1) return;
  product.run = [](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    at::Tensor out = FusedGatedGelu(x);
    if (!out.defined()) {
      const auto parts = x.chunk(2, -1);
      out = parts[0] * at::gelu(parts[1]);
    }
    Answer(stack, std::move(out));
  };
  product.name = "torchbrush::gated_gelu";
  product.inputs = {chunk->inputs[0]};
  for (Instruction* part : {gelu, unpack, chunk}) graph.Remove(*part);
}

// x·sigmoid(x·factor)
void UseScaledSilu(InstructionGraph& graph, Instruction& product) {
  if (product.name != "aten::mul" || product.inputs.size() != 2) return;
  Instruction* sigmoid = graph.MakerFor(product, product.inputs[1], "aten::sigmoid");
  if (sigmoid == nullptr) return;
  Instruction* scaled = graph.MakerFor(*sigmoid, sigmoid->inputs[0], "aten::mul");
  if (scaled == nullptr || scaled->inputs[0] != product.inputs[0]) return;
  const c10::IValue* factor = graph.Constant(scaled->inputs[1]);
  if (factor == nullptr) return;
  const bool is_number = factor->isDouble() || (factor->isTensor() && factor->toTensor().numel() == 1);
  if (!is_number) return;
  const double number = factor->isDouble() ? factor->toDouble() : factor->toTensor().item<double>();
  product.run = [number](torch::jit::Stack& stack) {
    const at::Tensor x = stack[0].toTensor();
    at::Tensor out = FusedScaledSilu(x, number);
    if (!out.defined()) out = x * at::sigmoid(x * number);
    Answer(stack, std::move(out));
  };
  product.name = "torchbrush::scaled_silu";
  product.inputs = {product.inputs[0]};
  for (Instruction* part : {sigmoid, scaled}) graph.Remove(*part);
}

// Copies into the default memory format whose takers would rather have channels last.
void DropContiguous(InstructionGraph& graph, Instruction& copy) {
  static const std::set<std::string> indifferent{"aten::conv2d", "aten::group_norm", "aten::silu",
                                                 "aten::upsample_nearest2d"};
  if (copy.name != "aten::contiguous") return;
  const auto& takers = graph.Takers(copy.outputs[0]);
  const bool dropped = !takers.empty() && std::all_of(takers.begin(), takers.end(), [](const auto* taker) {
    return indifferent.count(taker->name) != 0;
  });
  if (!dropped) return;
  // It stays as an instruction that hands its input on, which costs nothing.
  copy.run = [](torch::jit::Stack& stack) { stack.resize(1); };
  copy.name = "torchbrush::same";
}

}  // namespace

void UseFusedOperators(const Program& program, std::vector<Instruction>& instructions,
                       const std::vector<c10::IValue>& fixed, at::ScalarType type) {
  const kernels::Family* family = KernelsFor(type);
  if (family == nullptr) return;
  InstructionGraph graph(program, instructions, fixed);
  const auto apply = [&](void (*rule)(InstructionGraph&, Instruction&)) {
    for (auto& instruction : instructions) {
      if (!InstructionGraph::IsRemoved(instruction)) rule(graph, instruction);
    }
  };
  apply(DropContiguous);
  if (family->attention != nullptr) apply(UseAttention);
  apply(UseGroupNorm);
  apply(UseLayerNorm);
  apply(UseGatedGelu);
  apply(UseScaledSilu);
  EraseRemoved(instructions);
}

}  // namespace torchbrush
