// MPSNDArrayDescriptor, MPSNDArray, MPSNDArrayMatrixMultiplication as macOS 15 has them: packed
// bfloat16 matrices in the caller's buffers, summed in float32.
#include <Metal/Metal.hpp>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "metal_standin/foundation.hpp"
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"
#include "reference/storage_types.hpp"

namespace npu::standin {
namespace {

using BFloat = reference::npu_bf16;

constexpr std::uint32_t kBFloat16 = 0x80000000u | 0x10000000u | 16u;

// Sizes in memory, the dimension of neighbours first; `transposed` says how they are then taken.
struct Layout {
  NS::UInteger columns = 0;
  NS::UInteger rows = 0;
  bool packed = false;
  bool transposed = false;
};

struct ArrayDescriptor : Object {
  Layout layout;
};

struct NDArray : Object {
  ~NDArray() {
    if (buffer != nullptr) release(buffer);
  }
  Buffer* buffer = nullptr;
  NS::UInteger offset = 0;
  Layout layout;
};

// The elements of an array while commands run.
struct View {
  std::byte* data;
  Layout layout;

  NS::UInteger rows() const { return layout.transposed ? layout.columns : layout.rows; }
  NS::UInteger columns() const { return layout.transposed ? layout.rows : layout.columns; }
  BFloat& at(NS::UInteger row, NS::UInteger column) const {
    if (layout.transposed) std::swap(row, column);
    return reinterpret_cast<BFloat*>(data)[row * layout.columns + column];
  }
};

View view_of(const NDArray& array) { return {array.buffer->data + array.offset, array.layout}; }

void multiply(const View& left, const View& right, const View& result) {
  for (NS::UInteger i = 0; i < result.rows(); ++i) {
    for (NS::UInteger j = 0; j < result.columns(); ++j) {
      float sum = 0.0f;
      for (NS::UInteger k = 0; k < left.columns(); ++k) {
        sum += reference::npu_widen(left.at(i, k)) * reference::npu_widen(right.at(k, j));
      }
      result.at(i, j) = reference::npu_narrow<BFloat>(sum);
    }
  }
}

// Whoever encodes a product of arrays: these kernels keep state of the process meanwhile.
class Encoding {
 public:
  Encoding() {
    if (threads_++ != 0) report("MPS: two threads encode products of arrays at once");
    std::this_thread::sleep_for(std::chrono::microseconds(settings().encode_us));
  }
  ~Encoding() { --threads_; }
  Encoding(const Encoding&) = delete;
  Encoding& operator=(const Encoding&) = delete;

 private:
  static inline std::atomic<int> threads_{0};
};

void encode(Object*, SEL, CommandBuffer* commands, Object* sources, NDArray* destination) {
  const Encoding alone;
  if (commands->open_encoder != nullptr) fail("MPS is encoded while an encoder is open");
  if (!commands->retains) fail("MPS is encoded to a command buffer that retains nothing");
  if (objects_of(sources).size() != 2) fail("MPS: a product of two arrays gets another number");
  const auto* const a = static_cast<NDArray*>(objects_of(sources)[0]);
  const auto* const b = static_cast<NDArray*>(objects_of(sources)[1]);
  const View left = view_of(*a);
  const View right = view_of(*b);
  const View result = view_of(*destination);
  if (left.columns() != right.rows() || left.rows() != result.rows() ||
      right.columns() != result.columns()) {
    fail("MPS: the shapes of the arrays do not make a product");
  }
  for (const NDArray* array : {a, b, static_cast<const NDArray*>(destination)}) {
    commands->use(array->buffer);
  }
  commands->passes.push_back({});
  commands->passes.back().commands.push_back(
      {[left, right, result] { multiply(left, right, result); }, "MPSNDArrayMatrixMultiplication"});
}

NDArray* new_array(NDArray* self, SEL, Buffer* buffer, NS::UInteger offset,
                   ArrayDescriptor* descriptor) {
  if (settings().macos < 15) fail("MPS: arrays in the caller's buffers need macOS 15");
  if (buffer == nullptr || descriptor == nullptr) fail("MPS: an array of nothing");
  const Layout& layout = descriptor->layout;
  if (!layout.packed) fail("MPS: an array without packed rows may be laid out in another way");
  if (offset + layout.rows * layout.columns * sizeof(BFloat) > buffer->length) {
    fail("MPS: an array leaves its buffer");
  }
  if (offset % sizeof(BFloat) != 0) fail("MPS: an array begins inside an element");
  retain(buffer);
  self->buffer = buffer;
  self->offset = offset;
  self->layout = layout;
  return self;
}

// Before the device looks classes up.
__attribute__((constructor(101))) void define_classes() {
  const Class descriptor =
      define_class("MPSNDArrayDescriptor", object_class(), &destroy<ArrayDescriptor>);
  class_method(
      descriptor, "descriptorWithDataType:dimensionCount:dimensionSizes:",
      +[](Class owner, SEL, std::uint32_t type, NS::UInteger count, const NS::UInteger* sizes) {
        if (type != kBFloat16) fail("MPS: the stand-in's arrays are of bfloat16");
        if (count != 2 || sizes[0] == 0 || sizes[1] == 0) fail("MPS: an array that is no matrix");
        auto* const made = make<ArrayDescriptor>(owner);
        made->layout.columns = sizes[0];
        made->layout.rows = sizes[1];
        return autorelease(made);
      });
  method(
      descriptor, "setPreferPackedRows:", +[](ArrayDescriptor* self, SEL, bool packed) {
        self->layout.packed = packed;
      });
  method(
      descriptor, "transposeDimension:withDimension:",
      +[](ArrayDescriptor* self, SEL, NS::UInteger one, NS::UInteger other) {
        if (one + other != 1) fail("MPS: a matrix has dimensions 0 and 1");
        self->layout.transposed = !self->layout.transposed;
      });

  const Class array = define_class("MPSNDArray", object_class(), &destroy<NDArray>);
  class_method(array, "alloc", +[](Class owner, SEL) { return make<NDArray>(owner); });
  method(array, "initWithBuffer:offset:descriptor:", &new_array);

  const Class multiplication =
      define_class("MPSNDArrayMatrixMultiplication", object_class(), &destroy<Object>);
  class_method(multiplication, "alloc", +[](Class owner, SEL) { return make<Object>(owner); });
  method(
      multiplication,
      "initWithDevice:sourceCount:", +[](Object* self, SEL, Object*, NS::UInteger n) {
        if (n != 2) fail("MPS: the stand-in multiplies two arrays");
        return self;
      });
  method(multiplication, "encodeToCommandBuffer:sourceArrays:destinationArray:", &encode);
}

}  // namespace
}  // namespace npu::standin
