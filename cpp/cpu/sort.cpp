// The sort kernel: keys of 32 bits with their indices are sorted by radix; for a few of many values
// only the candidates are kept.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"
#include "cpu/sort_keys.hpp"

namespace npu::cpu {
namespace {

// Values turned into keys at a time.
constexpr std::int64_t kChunk = 2048;
// Up to so many values are kept in order while the row is read.
constexpr std::int64_t kInserted = 64;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class SortKernel final : public HostKernel {
 public:
  SortKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), rows_(context.rows), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<SortParams>();
    const schema::Operand& x = dispatch.operands[0];
    if (dispatch.operands[1].dtype != x.dtype) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) +
                      "', kernel 'sort': y must have x's dtype; compile the model again");
    }
    n_ = p.x_n;
    count_ = p.y_k;
    descending_ = p.descending != 0;
    x_stride_ = p.x_sn;
    y_stride_ = p.y_sk;
    index_stride_ = p.index_sk;
    size_ = static_cast<std::int64_t>(schema::dtype_size(x.dtype));
    load64_ = rows_.load64[x.dtype];
    if (load64_ == nullptr) load_ = rows_.load_float[x.dtype];
    // Candidates gather until there are this many, then the best are kept.
    room_ = std::max<std::int64_t>(4 * count_, 2 * kChunk);
    inserts_ = count_ <= kInserted && 2 * count_ < n_;
    selects_ = !inserts_ && room_ + kChunk < n_;
    space_.plan(pool_.threads(), 16 * n_);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(worker_bytes() * pool_.threads());
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands,
               [&](const RowSpace::Pointers& at, std::int64_t /*rows*/, int worker) {
                 run_row(at, scratch + worker * worker_bytes());
               });
  }

 private:
  std::int64_t capacity() const {
    return round_up(inserts_ ? kInserted : selects_ ? room_ + kChunk : n_, 8);
  }
  // Two arrays of keyed indices, a chunk of values and one of keys; for integers also a whole row
  // of values and of indices.
  std::int64_t worker_bytes() const {
    return 2 * capacity() * 8 + kChunk * 8 + (load64_ != nullptr ? round_up(n_, 16) * 12 : 0);
  }

  void run_row(const RowSpace::Pointers& at, std::byte* scratch) const {
    auto* keyed_values = reinterpret_cast<KeyedIndex*>(scratch);
    KeyedIndex* spare = keyed_values + capacity();
    auto* chunk = reinterpret_cast<float*>(spare + capacity());
    if (load64_ == nullptr) {
      run_keys(at, keyed_values, spare, [&](std::int64_t first, std::int64_t n) {
        auto* keys = reinterpret_cast<std::uint32_t*>(chunk + kChunk);
        load_(bits(chunk), at[0] + first * x_stride_ * size_, x_stride_, n);
        rows_.order_keys(keys, chunk, descending_, n);
        return static_cast<const std::uint32_t*>(keys);
      });
      return;
    }
    auto* values =
        reinterpret_cast<std::int64_t*>(reinterpret_cast<std::byte*>(chunk) + kChunk * 8);
    load64_(values, at[0], x_stride_, n_);
    const auto [low, high] = std::minmax_element(values, values + n_);
    const std::int64_t least = *low, greatest = *high;
    const auto wide = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
    if (wide(greatest) - wide(least) > std::numeric_limits<std::uint32_t>::max()) {
      run_wide(at, values, reinterpret_cast<std::uint32_t*>(values + round_up(n_, 16)));
      return;
    }
    run_keys(at, keyed_values, spare, [&](std::int64_t first, std::int64_t n) {
      auto* keys = reinterpret_cast<std::uint32_t*>(chunk);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t v = values[first + i];
        keys[i] = static_cast<std::uint32_t>(descending_ ? wide(greatest) - wide(v)
                                                         : wide(v) - wide(least));
      }
      return static_cast<const std::uint32_t*>(keys);
    });
  }

  // `keys_of(first, n)` gives the keys of n values.
  template <class KeysOf>
  void run_keys(const RowSpace::Pointers& at, KeyedIndex* found, KeyedIndex* spare,
                const KeysOf& keys_of) const {
    if (inserts_) return run_insertion(at, found, keys_of);
    std::int64_t held = 0;
    KeyedIndex limit = std::numeric_limits<KeyedIndex>::max();
    for (std::int64_t first = 0; first < n_; first += kChunk) {
      const std::int64_t n = std::min(kChunk, n_ - first);
      const std::uint32_t* keys = keys_of(first, n);
      if (!selects_) {
        for (std::int64_t i = 0; i < n; ++i) found[first + i] = keyed(keys[i], first + i);
        held = first + n;
        continue;
      }
      for (std::int64_t i = 0; i < n; ++i) {
        found[held] = keyed(keys[i], first + i);
        held += found[held] < limit ? 1 : 0;
      }
      if (held > room_) {
        select_keyed(found, count_, held);
        held = count_;
        limit = *std::max_element(found, found + held);
      }
    }
    if (count_ < held) select_keyed(found, count_, held);
    if (count_ < held) {
      // The selected stand in any order, and radix sorting relies on ascending indices.
      std::sort(found, found + count_);
    } else if (selects_) {
      std::sort(found, found + held);
    } else {
      sort_keyed(found, spare, held);
    }
    for (std::int64_t i = 0; i < count_; ++i) store(at, i, index_of(found[i]));
  }

  // Most values are none of the first few, which one comparison tells.
  template <class KeysOf>
  void run_insertion(const RowSpace::Pointers& at, KeyedIndex* found, const KeysOf& keys_of) const {
    if (count_ == 0) return;
    std::int64_t held = 0;
    KeyedIndex limit = std::numeric_limits<KeyedIndex>::max();
    for (std::int64_t first = 0; first < n_; first += kChunk) {
      const std::int64_t n = std::min(kChunk, n_ - first);
      const std::uint32_t* keys = keys_of(first, n);
      for (std::int64_t i = 0; i < n; ++i) {
        const KeyedIndex value = keyed(keys[i], first + i);
        if (value >= limit) continue;
        std::int64_t place = held < count_ ? held++ : held - 1;
        for (; place > 0 && found[place - 1] > value; --place) found[place] = found[place - 1];
        found[place] = value;
        if (held == count_) limit = found[held - 1];
      }
    }
    for (std::int64_t i = 0; i < count_; ++i) store(at, i, index_of(found[i]));
  }

  // Keys of more than 32 bits: the indices are sorted by what they point at.
  void run_wide(const RowSpace::Pointers& at, const std::int64_t* values,
                std::uint32_t* order) const {
    for (std::int64_t i = 0; i < n_; ++i) order[i] = static_cast<std::uint32_t>(i);
    std::sort(order, order + n_, [&](std::uint32_t a, std::uint32_t b) {
      if (values[a] != values[b]) return (values[a] < values[b]) != descending_;
      return a < b;
    });
    for (std::int64_t i = 0; i < count_; ++i) store(at, i, order[i]);
  }

  void store(const RowSpace::Pointers& at, std::int64_t place, std::int64_t from) const {
    std::memcpy(at[1] + place * y_stride_ * size_, at[0] + from * x_stride_ * size_,
                static_cast<std::size_t>(size_));
    reinterpret_cast<std::int64_t*>(at[2])[place * index_stride_] = from;
  }

  ThreadPool& pool_;
  const RowKernels& rows_;
  RowSpace space_;
  bool descending_ = false;
  bool selects_ = false;  // keeps candidates, of which the first are sorted in the end
  bool inserts_ = false;  // keeps the first few sorted
  std::int64_t n_ = 0, count_ = 0, room_ = 0;
  std::int64_t x_stride_ = 0, y_stride_ = 0, index_stride_ = 0, size_ = 0;
  RunLoad load_ = nullptr;
  RunLoad64 load64_ = nullptr;  // null for floating dtypes
};

}  // namespace

std::unique_ptr<HostKernel> make_sort(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<SortKernel>(dispatch, context);
}

}  // namespace npu::cpu
