// Verification of weights: source tensors, recipe steps, and the tensors they make.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/verify_view.hpp"

namespace npu {
namespace {

// What a recipe step takes; see npu_compiler/program/recipes.py.
enum class Value { kNone, kEpsilon, kFinite, kAny };

struct StepRule {
  bool starts;            // makes a value; the others change the one before
  std::uint32_t sources;  // bit k: may have source k
  std::uint32_t needs;    // bit k: must have source k
  bool args;              // takes a shape or axes
  bool dtype;             // takes a dtype
  Value value;
};

StepRule step_rule(schema::RecipeOp op) {
  switch (op) {
    case schema::RecipeOp::kLoad:
      return {true, 0b0001, 0b0001, false, false, Value::kNone};
    case schema::RecipeOp::kZeros:
      return {true, 0, 0, true, false, Value::kNone};
    case schema::RecipeOp::kFull:
      return {true, 0, 0, true, false, Value::kAny};
    case schema::RecipeOp::kFoldBnWeight:
      return {false, 0b1111, 0b1000, false, false, Value::kEpsilon};
    case schema::RecipeOp::kFoldBnBias:
      return {false, 0b1111, 0b1100, false, false, Value::kEpsilon};
    case schema::RecipeOp::kPermute:
    case schema::RecipeOp::kReshape:
    case schema::RecipeOp::kPad:
    case schema::RecipeOp::kSlice:
    case schema::RecipeOp::kFlip:
      return {false, 0, 0, true, false, Value::kNone};
    case schema::RecipeOp::kWeightNorm:
      return {false, 0b0001, 0b0001, true, false, Value::kNone};
    case schema::RecipeOp::kAppend:
      return {false, 0b0001, 0b0001, false, false, Value::kNone};
    case schema::RecipeOp::kAdd:
      return {false, 0, 0, false, false, Value::kFinite};
    case schema::RecipeOp::kQuantize:
    case schema::RecipeOp::kQuantizeScale:
      return {false, 0, 0, false, false, Value::kNone};
    case schema::RecipeOp::kCast:
      return {false, 0, 0, false, true, Value::kNone};
  }
  return {};
}

bool value_fits(Value rule, double value) {
  switch (rule) {
    case Value::kNone:
      return value == 0;
    case Value::kEpsilon:
      return std::isfinite(value) && value >= 0;
    case Value::kFinite:
      return std::isfinite(value);
    case Value::kAny:
      return true;
  }
  return false;
}

bool are_distinct_axes(std::span<const std::uint32_t> axes) {
  std::array<bool, schema::kMaxRank> seen{};
  for (const std::uint32_t axis : axes) {
    if (axis >= seen.size() || seen[axis]) return false;
    seen[axis] = true;
  }
  return true;
}

bool is_permutation(std::span<const std::uint32_t> axes) {
  const auto inside = [&](std::uint32_t axis) { return axis < axes.size(); };
  return are_distinct_axes(axes) && std::all_of(axes.begin(), axes.end(), inside);
}

}  // namespace

void Verifier::check_source_tensors() {
  const auto records = program_.source_tensors();
  for (std::size_t i = 0; i < records.size(); ++i) {
    const schema::SourceTensor& s = records[i];
    check_string(Kind::kSourceTensors, i, s.name, "name");
    if (schema::find_dtype(s.dtype) == nullptr) {
      fail(Kind::kSourceTensors, i, "dtype ", +s.dtype, " is unknown");
    }
    if (s.rank > schema::kMaxRank) {
      fail(Kind::kSourceTensors, i, "rank is ", +s.rank, ", at most ", schema::kMaxRank,
           " are allowed");
    }
    for (std::uint32_t axis = 0; axis < schema::kMaxRank; ++axis) {
      if (s.shape[axis] > (axis < s.rank ? schema::kMaxDim : 0)) {
        fail(Kind::kSourceTensors, i, "axis ", axis, " has ", s.shape[axis], " elements at rank ",
             +s.rank);
      }
    }
    if (element_count(s.shape, s.rank) > SatInt(schema::kMaxElements)) {
      fail(Kind::kSourceTensors, i, "more elements than the limit of ", schema::kMaxElements);
    }
    if (std::any_of(std::begin(s.reserved), std::end(s.reserved), [](auto r) { return r != 0; })) {
      fail(Kind::kSourceTensors, i, "reserved is not 0");
    }
  }
}

void Verifier::check_recipes() {
  const auto records = program_.recipes();
  for (std::size_t i = 0; i < records.size(); ++i) {
    const schema::Recipe& r = records[i];
    if (r.op >= schema::kRecipeOpCount) fail(Kind::kRecipes, i, "op ", r.op, " is unknown");
    if (r.reserved != 0) fail(Kind::kRecipes, i, "reserved is not 0");
    const auto op = static_cast<schema::RecipeOp>(r.op);
    const StepRule rule = step_rule(op);
    const std::string_view name = schema::kRecipeOpNames[r.op];
    for (std::size_t k = 0; k < std::size(r.sources); ++k) {
      const std::uint32_t source = r.sources[k];
      const std::uint32_t bit = 1u << k;
      if (source == schema::kNone) {
        if ((rule.needs & bit) != 0) fail(Kind::kRecipes, i, name, " lacks source ", k);
        continue;
      }
      if ((rule.sources & bit) == 0) fail(Kind::kRecipes, i, name, " takes no source ", k);
      if (source >= program_.source_tensors().size()) {
        fail(Kind::kRecipes, i, "source ", k, " is ", source, ", there are ",
             program_.source_tensors().size());
      }
    }
    if (rule.dtype ? schema::find_dtype(r.dtype) == nullptr : r.dtype != 0) {
      fail(Kind::kRecipes, i, "dtype ", r.dtype, " does not fit ", name);
    }
    if (!value_fits(rule.value, r.value)) {
      fail(Kind::kRecipes, i, "value ", r.value, " does not fit ", name);
    }
    if (r.arg_count > (rule.args ? schema::kMaxRank : 0)) {
      fail(Kind::kRecipes, i, r.arg_count, " arguments do not fit ", name);
    }
    for (std::uint32_t k = 0; k < schema::kMaxRank; ++k) {
      if (r.args[k] > (k < r.arg_count ? schema::kMaxDim : 0)) {
        fail(Kind::kRecipes, i, "argument ", k, " is ", r.args[k], " at ", r.arg_count,
             " arguments");
      }
    }
    if (op == schema::RecipeOp::kSlice) {
      if (r.arg_count != 4 || r.args[2] == 0) {
        fail(Kind::kRecipes, i, "slice takes an axis, a start, a step and a count");
      }
    } else if (op == schema::RecipeOp::kFlip || op == schema::RecipeOp::kWeightNorm) {
      if (op == schema::RecipeOp::kWeightNorm && r.arg_count > 1) {
        fail(Kind::kRecipes, i, "weight_norm takes at most one axis");
      }
      if (!are_distinct_axes({r.args, r.arg_count})) {
        fail(Kind::kRecipes, i, "its arguments are no axes, or name one twice");
      }
    } else if (op == schema::RecipeOp::kPermute) {
      if (!is_permutation({r.args, r.arg_count})) {
        fail(Kind::kRecipes, i, "its arguments are no permutation of its axes");
      }
    } else if (element_count(r.args, r.arg_count) > SatInt(schema::kMaxElements)) {
      fail(Kind::kRecipes, i, "more elements than the limit of ", schema::kMaxElements);
    }
  }
}

void Verifier::check_weights() {
  const auto weights = program_.weights();
  std::uint64_t next_recipe = 0;
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    const schema::Weight& w = weights[i];
    if (w.tensor >= program_.tensors().size()) {
      fail(Kind::kWeights, i, "tensor is ", w.tensor, ", there are ", program_.tensors().size());
    }
    const schema::Tensor& tensor = program_.tensors()[w.tensor];
    const std::string_view name = program_.string(tensor.name);
    if (program_.buffers()[tensor.buffer].kind !=
            static_cast<std::uint32_t>(schema::BufferKind::kWeight) ||
        tensor.offset != 0) {
      fail(Kind::kWeights, i, "tensor ", quoted(name), " does not start a buffer of kind weight");
    }
    if (uses_[tensor.buffer].weight != schema::kNone) {
      fail(Kind::kWeights, i, "weight ", uses_[tensor.buffer].weight, " has the same buffer");
    }
    uses_[tensor.buffer].weight = i;
    if (w.reserved != 0) fail(Kind::kWeights, i, "reserved is not 0");
    check_range(Kind::kWeights, i, w.recipe_first, w.recipe_count, program_.recipes().size(),
                "recipes");
    // Every step belongs to exactly one weight, in order.
    if (w.recipe_first != next_recipe || w.recipe_count == 0) {
      fail(Kind::kWeights, i, "recipe_first is ", w.recipe_first, " and must be ", next_recipe,
           ", recipe_count is ", w.recipe_count, " and must not be 0");
    }
    next_recipe += w.recipe_count;
    for (std::uint32_t k = 0; k < w.recipe_count; ++k) {
      const std::uint32_t step = w.recipe_first + k;
      const auto op = static_cast<schema::RecipeOp>(program_.recipes()[step].op);
      if (step_rule(op).starts != (k == 0)) {
        fail(Kind::kRecipes, step,
             "a recipe starts with load, zeros or full, and only starts with it");
      }
    }
  }
  if (next_recipe != program_.recipes().size()) {
    throw Error(ErrorCode::kInvalidProgram,
                text("RECIPES: weights use ", next_recipe, " of ", program_.recipes().size(),
                     " steps; the file is damaged, compile the model again"));
  }
}

}  // namespace npu
