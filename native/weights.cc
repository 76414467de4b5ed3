#include "weights.h"

#include <ATen/Parallel.h>
#include <malloc.h>

#include <algorithm>
#include <set>
#include <utility>

#include "cpu/rewrite.h"
#include "errors.h"

namespace torchbrush {
namespace {

std::shared_ptr<WeightFile> Open(Files& files, const std::string& path) {
  auto& file = files[path];
  if (!file) file = std::make_shared<WeightFile>(path);
  return file;
}

// The C library keeps what was freed for later; between two weights of one size that is welcome.
void ReturnFreeMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace

FreedMemory::~FreedMemory() { ReturnFreeMemory(); }

Weights::Weights(const Program& program, const std::vector<Placement>& placements, const Whereabouts& where,
                 at::ScalarType type, std::vector<Instruction>& instructions, std::vector<c10::IValue>& fixed)
    : device_(where.device), type_(type), computed_in_(type), fixed_(fixed), where_(where) {
  if (where.offload != Offload::kNone) residence_ = std::make_unique<Residence>(where, fixed);
  const bool on_host = device_.is_cpu() && !where.is_simulated;
  std::shared_ptr<NarrowWeights> narrow;
  if (on_host && ComputesInFloat32(type)) {
    computed_in_ = at::kFloat;
    narrow = std::make_shared<NarrowWeights>(scratch_);
  }
  if (on_host) UseFusedOperators(program, instructions, fixed, computed_in_);
  auto packed = on_host && CanPack(computed_in_) ? UsePackedOperators(program, instructions, fixed, narrow)
                                                 : PackedWeights();
  std::set<ValueRef> places;
  for (const auto& parameter : program.parameters) places.insert(parameter.place);
  auto tables = on_host ? UseRowTables(instructions, places) : RowTables();
  std::unordered_map<std::string, const Parameter*> open;
  for (const auto& parameter : program.parameters) open[parameter.name] = &parameter;
  Files files;
  for (const auto& [name, values] : placements) {
    const auto found = open.find(name);
    if (found == open.end()) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + name + " is unknown or filled twice.");
    }
    const Parameter& parameter = *found->second;
    open.erase(found);
    if (values.shape != parameter.shape) {
      throw CoreError("ERR_CHECKPOINT", "Parameter " + name + " has another shape.");
    }
    const auto holder = packed.find(parameter.place);
    const auto table = tables.find(parameter.place);
    Weight weight{parameter.place, Open(files, values.file), values,
                  holder == packed.end() ? nullptr : holder->second,
                  table == tables.end() ? nullptr : table->second};
    Restore(weights_.emplace(name, std::move(weight)).first->second);
  }
  if (!open.empty()) {
    throw CoreError("ERR_CHECKPOINT", "Parameter " + open.begin()->first + " was not filled.");
  }
  scratch_->Release();
  if (!residence_) booking_ = Book();
}

Booking Weights::Book() const {
  int64_t bytes = 0;
  for (const auto& [name, weight] : weights_) {
    bytes += c10::multiply_integers(weight.stored.shape) * static_cast<int64_t>(c10::elementSize(type_));
  }
  return Booking(where_.ledger, where_.Name(), bytes);
}

void Weights::SetOffload(Offload offload) {
  if (device_.is_cpu() && !where_.is_simulated) {
    throw CoreError("ERR_INVALID_ARGUMENT", "Weights on the CPU cannot be offloaded.");
  }
  if (residence_ && offload == Offload::kNone) {
    Booking booking = Book();
    residence_->Return();
    residence_.reset();
    booking_ = std::move(booking);
  } else if (residence_) {
    residence_->SetOffload(offload);
  } else if (offload != Offload::kNone) {
    Whereabouts where = where_;
    where.offload = offload;
    auto residence = std::make_unique<Residence>(where, fixed_);
    for (const auto& [name, weight] : weights_) {
      residence->Keep(weight.place, fixed_[~weight.place].toTensor());
    }
    residence->Leave();
    residence_ = std::move(residence);
    booking_ = Booking();
  }
}

void Weights::Update(const std::vector<WeightUpdate>& updates, const std::atomic<bool>& stop) {
  Files files;
  for (const auto& [parameter, terms] : updates) {
    const Weight& weight = Find(parameter);
    weight.file->RequireUnchanged();
    for (const auto& term : terms) {
      CheckTerm(term, parameter, weight.stored.shape);
      for (const auto& factor : {term.up, term.down}) Open(files, factor.file);
      if (term.middle) Open(files, term.middle->file);
    }
  }
  try {
    ChangeAll(updates, files, stop);
  } catch (...) {
    for (const auto& update : updates) Restore(Find(update.parameter));
    throw;
  }
  scratch_->Release();
  ReturnFreeMemory();
}

// Each thread takes the next weight and sees to it alone: so the reading of factors and the system's
// work on fresh and on freed memory are shared like the sums.
void Weights::ChangeAll(const std::vector<WeightUpdate>& updates, const Files& files,
                        const std::atomic<bool>& stop) {
  std::atomic<size_t> next = 0;
  const int64_t threads = device_.is_cpu() ? at::get_num_threads() : 1;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    c10::InferenceMode inference;  // Belongs to the thread.
    Scratch block;
    for (size_t i = next++; i < updates.size(); i = next++) {
      if (stop) throw CoreError("ERR_DISPOSED", "The process is shutting down.");
      Change(Find(updates[i].parameter), updates[i].terms, files, block);
    }
  });
}

// A packed weight is written over block by block, all in the cache: its memory is there already, and
// the next run packs nothing.
void Weights::Change(Weight& weight, const std::vector<LowRankTerm>& terms, const Files& files,
                     Scratch& block) {
  std::vector<Product> products;
  for (const auto& term : terms) products.push_back(ReadProduct(term, files));
  WeightValues values = ValuesOf(weight, std::move(products));
  const PackedRows* layout = weight.packed ? weight.packed->layout() : nullptr;
  if (layout == nullptr || !values.ByRows()) {
    Set(weight, std::move(values));
    return;
  }
  const int64_t step = layout->block_rows();
  for (int64_t row = 0; row < values.rows(); row += step) {
    const at::Tensor rows = block.Lend({std::min(step, values.rows() - row), values.columns()}, computed_in_);
    values.ReadRows(row, rows);
    layout->Write(row, rows);
  }
}

void Weights::ReplaceRows(const std::string& parameter, int64_t first, const at::Tensor& rows) {
  Weight& weight = Find(parameter);
  const auto& shape = weight.stored.shape;
  RequireFit(
      rows.dim() == 2 && shape.size() == 2 && rows.size(1) == shape[1] && first >= 0 && first <= shape[0],
      parameter);
  if (weight.table) {
    weight.table->Set(ValuesOf(weight));
    weight.table->Replace(first, rows.to(computed_in_, false, true).contiguous());
    return;
  }
  const at::Tensor base = ValuesOf(weight).Read();
  const int64_t length = std::max(base.size(0), first + rows.size(0));
  at::Tensor table = at::empty({length, base.size(1)}, base.options().dtype(computed_in_));
  table.narrow(0, 0, base.size(0)).copy_(base);
  table.narrow(0, first, rows.size(0)).copy_(rows);
  Put(weight, table.to(Target()));
}

Weights::Weight& Weights::Find(const std::string& parameter) {
  const auto found = weights_.find(parameter);
  if (found != weights_.end()) return found->second;
  throw CoreError("ERR_CHECKPOINT", "The network has no parameter " + parameter + ".");
}

WeightValues Weights::ValuesOf(const Weight& weight, std::vector<Product> products) const {
  return WeightValues(weight.file, weight.stored, std::move(products), computed_in_);
}

void Weights::Restore(Weight& weight) { Set(weight, ValuesOf(weight)); }

void Weights::Set(Weight& weight, WeightValues values) {
  if (weight.packed) {
    weight.packed->Set([values = std::move(values), scratch = scratch_] { return values.Read(*scratch); });
  } else if (weight.table) {
    const at::Tensor rows = values.ByRows() ? at::Tensor() : values.Read();
    weight.table->Set(std::move(values));
    weight.table->Replace(0, rows);
  } else if (Target().is_cpu()) {
    Put(weight, values.Read());
  } else {
    Put(weight, values.Read(*scratch_).to(device_));
  }
}

void Weights::Put(Weight& weight, at::Tensor tensor) {
  // cuDNN's fast convolutions take kernels in this layout.
  const bool kernel = device_.is_cuda() && tensor.defined() && tensor.dim() == 4;
  if (kernel) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
  if (residence_) {
    residence_->Keep(weight.place, tensor);
    residence_->Forget(weight.place);
  } else {
    fixed_[~weight.place] = std::move(tensor);
  }
}

}  // namespace torchbrush
