// Rewrites of elementwise programs that save passes over the register file.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "cpu/elementwise_values.hpp"

namespace npu::cpu {
namespace {

class Merger {
 public:
  Merger(std::vector<Draft>& drafts, const ProgramSource& source, const TileKernels& tiles,
         const IterationSpace& space)
      : drafts_(drafts), source_(source), tiles_(tiles), space_(space) {}

  void run() {
    count_uses();
    // Outputs may share memory with inputs: what is read later than the first store stays where it
    // is.
    const auto first_store = static_cast<std::size_t>(
        std::find_if(drafts_.begin(), drafts_.end(),
                     [](const Draft& d) { return d.step.kind == TileStep::Kind::kStore; }) -
        drafts_.begin());
    for (std::size_t i = 0; i < drafts_.size(); ++i) {
      if (drafts_[i].step.kind == TileStep::Kind::kStore) merge_store(drafts_[i], i == first_store);
    }
    drop_unused();
    write_through();
    use_views();
  }

 private:
  void count_uses() {
    uses_.assign(drafts_.size(), 0);
    definition_.assign(drafts_.size(), nullptr);
    for (const Draft& d : drafts_) {
      if (d.dst != kNoValue) definition_[static_cast<std::size_t>(d.dst)] = &d;
      for (const int v : arguments(d)) ++uses_[static_cast<std::size_t>(v)];
    }
  }

  // Each distinct argument once.
  static std::vector<int> arguments(const Draft& d) {
    std::vector<int> values;
    for (const int v : {d.a, d.b, d.c}) {
      if (v != kNoValue && std::find(values.begin(), values.end(), v) == values.end()) {
        values.push_back(v);
      }
    }
    return values;
  }

  // The instruction that defines `value`, if it is `op` and only one instruction reads it.
  const Draft* only_use(int value, std::uint32_t op) const {
    const Draft* d = definition_[static_cast<std::size_t>(value)];
    return d->op == op && uses_[static_cast<std::size_t>(value)] == 1 && !d->invariant ? d
                                                                                       : nullptr;
  }

  std::optional<float> constant(int value) const {
    const Draft* d = definition_[static_cast<std::size_t>(value)];
    const float f = std::bit_cast<float>(static_cast<std::uint32_t>(d->step.bits));
    if (d->step.kind != TileStep::Kind::kConstant || d->step.wide || std::isnan(f)) {
      return std::nullopt;
    }
    return f;
  }

  // Takes a bound off `value` if it is max or min with a constant; the value within is left.
  // Returns how many were taken.
  int take_bound(int& value, std::uint32_t op, float& bound) const {
    const Draft* d = only_use(value, op);
    if (d == nullptr) return 0;
    const std::optional<float> left = constant(d->a);
    const std::optional<float> right = constant(d->b);
    if (!left && !right) return 0;
    bound = right ? *right : *left;
    value = right ? d->a : d->b;
    return 1;
  }

  // Takes an addend off `value` if it is a sum with an input of the output's dtype.
  std::uint8_t take_addend(int& value, const schema::Operand& output) const {
    const Draft* sum = only_use(value, NPU_OP_ADD_F);
    if (sum == nullptr || sum->a == sum->b) return kNoOperand;
    for (const bool second : {true, false}) {
      const Draft* load = only_use(second ? sum->b : sum->a, NPU_OP_LOAD);
      if (load == nullptr) continue;
      const std::uint8_t k = load->step.operand;
      if (source_.operands[k].dtype != output.dtype || space_.columns().stride[k] != 1) continue;
      value = second ? sum->a : sum->b;
      return k;
    }
    return kNoOperand;
  }

  void merge_store(Draft& store, bool is_first) const {
    const schema::Operand& output = source_.operands[store.step.operand];
    const RunFinish finish = tiles_.finish[output.dtype];
    if (finish == nullptr || space_.columns().stride[store.step.operand] != 1) return;
    int value = store.a;
    float lo = -std::numeric_limits<float>::infinity();
    float hi = std::numeric_limits<float>::infinity();
    const int merged = take_bound(value, NPU_OP_MIN_F, hi) + take_bound(value, NPU_OP_MAX_F, lo);
    if (!(lo <= hi)) return;
    const std::uint8_t addend = is_first ? take_addend(value, output) : kNoOperand;
    // The merged store costs about as much as one operation and a plain one.
    if (merged + (addend == kNoOperand ? 0 : 1) < 2) return;
    store.step.kind = TileStep::Kind::kFinish;
    store.step.finish = finish;
    store.step.addend = addend;
    store.step.lo = lo;
    store.step.hi = hi;
    store.a = value;
  }

  void drop_unused() {
    count_uses();
    for (std::size_t i = drafts_.size(); i-- > 0;) {
      const Draft& d = drafts_[i];
      if (d.dst == kNoValue || uses_[static_cast<std::size_t>(d.dst)] > 0) continue;
      for (const int v : arguments(d)) --uses_[static_cast<std::size_t>(v)];
      drafts_.erase(drafts_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  // The last result before the first store may go to the output's memory at once, if nothing else
  // reads it and a register of its type is what the output holds.
  void write_through() {
    for (std::size_t i = 1; i < drafts_.size(); ++i) {
      const Draft& store = drafts_[i];
      if (store.dst != kNoValue) continue;
      Draft& last = drafts_[i - 1];
      const bool own = store.step.kind == TileStep::Kind::kStore && last.dst == store.a &&
                       last.step.kind == TileStep::Kind::kOp && !last.invariant &&
                       uses_[static_cast<std::size_t>(store.a)] == 1;
      if (own && holds_registers(store.step.operand) &&
          space_.columns().stride[store.step.operand] == 1) {
        last.step.target = store.step.operand;
      }
      return;
    }
  }

  // Elements of the operand are of the type of the registers they are loaded into.
  bool holds_registers(std::uint8_t operand) const {
    const std::uint8_t dtype = source_.operands[operand].dtype;
    return dtype == NPU_DTYPE_F32 || dtype == NPU_DTYPE_I32 || dtype == NPU_DTYPE_I64;
  }

  // A register of the operand's own type may be its memory itself, unless a store comes before its
  // last use, since the output may be the same view. Plain stores copy between distinct memory.
  void use_views() {
    for (std::size_t i = 0; i < drafts_.size(); ++i) {
      Draft& d = drafts_[i];
      if (d.step.kind != TileStep::Kind::kLoad || d.invariant) continue;
      if (!holds_registers(d.step.operand)) continue;
      if (is_read_before_stores(i)) d.step.kind = TileStep::Kind::kView;
    }
  }

  bool is_read_before_stores(std::size_t load) const {
    const int v = drafts_[load].dst;
    bool stored = false;
    for (const Draft& d : drafts_) {
      const bool reads = d.a == v || d.b == v || d.c == v;
      if (reads && (stored || d.step.kind == TileStep::Kind::kStore)) return false;
      stored = stored || d.dst == kNoValue;
    }
    return true;
  }

  std::vector<Draft>& drafts_;
  const ProgramSource& source_;
  const TileKernels& tiles_;
  const IterationSpace& space_;
  std::vector<int> uses_;                 // by value
  std::vector<const Draft*> definition_;  // by value; valid until an instruction is dropped
};

}  // namespace

void merge_elementwise(std::vector<Draft>& drafts, const ProgramSource& source,
                       const TileKernels& tiles, const IterationSpace& space) {
  Merger(drafts, source, tiles, space).run();
}

}  // namespace npu::cpu
