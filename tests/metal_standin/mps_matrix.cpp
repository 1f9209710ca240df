// MPSMatrixDescriptor, MPSMatrix, MPSMatrixMultiplication: float16 matrices, summed in float32.
#include <Metal/Metal.hpp>
#include <string>
#include <utility>

#include "metal_standin/foundation.hpp"
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/validation.hpp"
#include "reference/storage_types.hpp"

namespace npu::standin {
namespace {

using Half = reference::npu_f16;

constexpr std::uint32_t kFloat16 = 0x10000000u | 16u;

// Where a matrix lies.
struct Layout {
  NS::UInteger rows = 0;
  NS::UInteger columns = 0;
  NS::UInteger row_bytes = 0;
};

struct Descriptor : Object {
  Layout layout;
};

struct Matrix : Object {
  ~Matrix() {
    if (buffer != nullptr) release(buffer);
  }
  Buffer* buffer = nullptr;
  NS::UInteger offset = 0;
  Layout layout;
};

struct Product {
  bool transpose_left = false;
  bool transpose_right = false;
  NS::UInteger rows = 0;
  NS::UInteger columns = 0;
  NS::UInteger interior = 0;
};

struct Multiplication : Object {
  Product product;
};

// The elements of a matrix while commands run.
struct View {
  std::byte* data;
  Layout layout;
  Half& at(NS::UInteger row, NS::UInteger column, bool transposed) const {
    if (transposed) std::swap(row, column);
    return reinterpret_cast<Half*>(data + row * layout.row_bytes)[column];
  }
};

View view_of(const Matrix& matrix) { return {matrix.buffer->data + matrix.offset, matrix.layout}; }

void check(const Matrix& matrix, bool transposed, NS::UInteger rows, NS::UInteger columns,
           const char* name) {
  const Layout& found = matrix.layout;
  if ((transposed ? found.columns : found.rows) != rows ||
      (transposed ? found.rows : found.columns) != columns) {
    fail(std::string("MPS: the ") + name + " matrix has another shape than the product");
  }
}

void multiply(const Product& p, const View& left, const View& right, const View& result) {
  for (NS::UInteger i = 0; i < p.rows; ++i) {
    for (NS::UInteger j = 0; j < p.columns; ++j) {
      float sum = 0.0f;
      for (NS::UInteger k = 0; k < p.interior; ++k) {
        sum += reference::npu_widen(left.at(i, k, p.transpose_left)) *
               reference::npu_widen(right.at(k, j, p.transpose_right));
      }
      result.at(i, j, false) = reference::npu_narrow<Half>(sum);
    }
  }
}

void encode(Multiplication* self, SEL, CommandBuffer* commands, Matrix* left, Matrix* right,
            Matrix* result) {
  if (commands->open_encoder != nullptr) fail("MPS is encoded while an encoder is open");
  if (!commands->retains) fail("MPS is encoded to a command buffer that retains nothing");
  const Product& p = self->product;
  check(*left, p.transpose_left, p.rows, p.interior, "left");
  check(*right, p.transpose_right, p.interior, p.columns, "right");
  check(*result, false, p.rows, p.columns, "result");
  for (const Matrix* matrix : {left, right, result}) commands->use(matrix->buffer);
  commands->passes.push_back({});
  commands->passes.back().commands.push_back(
      {[p, a = view_of(*left), b = view_of(*right), c = view_of(*result)] { multiply(p, a, b, c); },
       "MPSMatrixMultiplication"});
}

Matrix* new_matrix(Matrix* self, SEL, Buffer* buffer, NS::UInteger offset, Descriptor* descriptor) {
  if (buffer == nullptr || descriptor == nullptr) fail("MPS: a matrix of nothing");
  const Layout& layout = descriptor->layout;
  const NS::UInteger end =
      offset + (layout.rows - 1) * layout.row_bytes + layout.columns * sizeof(Half);
  if (end > buffer->length) fail("MPS: a matrix leaves its buffer");
  if (offset % sizeof(Half) != 0) fail("MPS: a matrix begins inside an element");
  retain(buffer);
  self->buffer = buffer;
  self->offset = offset;
  self->layout = layout;
  return self;
}

// Before the device looks classes up.
__attribute__((constructor(101))) void define_classes() {
  const Class descriptor =
      define_class("MPSMatrixDescriptor", object_class(), &destroy<Descriptor>);
  class_method(
      descriptor, "matrixDescriptorWithRows:columns:rowBytes:dataType:",
      +[](Class owner, SEL, NS::UInteger rows, NS::UInteger columns, NS::UInteger row_bytes,
          std::uint32_t type) {
        if (type != kFloat16) fail("MPS: the stand-in multiplies float16 only");
        if (rows == 0 || columns == 0 || row_bytes < columns * sizeof(Half) ||
            row_bytes % sizeof(Half) != 0) {
          fail("MPS: rows do not fit their pitch");
        }
        auto* const made = make<Descriptor>(owner);
        made->layout = {rows, columns, row_bytes};
        return autorelease(made);
      });

  const Class matrix = define_class("MPSMatrix", object_class(), &destroy<Matrix>);
  class_method(matrix, "alloc", +[](Class owner, SEL) { return make<Matrix>(owner); });
  method(matrix, "initWithBuffer:offset:descriptor:", &new_matrix);

  const Class multiplication =
      define_class("MPSMatrixMultiplication", object_class(), &destroy<Multiplication>);
  class_method(
      multiplication, "alloc", +[](Class owner, SEL) { return make<Multiplication>(owner); });
  method(
      multiplication,
      "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:"
      "alpha:beta:",
      +[](Multiplication* self, SEL, Object*, bool left, bool right, NS::UInteger rows,
          NS::UInteger columns, NS::UInteger interior, double alpha, double beta) {
        if (alpha != 1.0 || beta != 0.0) fail("MPS: the stand-in does not scale");
        self->product = {left, right, rows, columns, interior};
        return self;
      });
  method(multiplication, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", &encode);
}

}  // namespace
}  // namespace npu::standin
