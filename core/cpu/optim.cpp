// The optimizers' steps: one pass over parameter, gradient and states.
#include <weft/core/base/parallel.hpp>
#include <weft/core/cpu/kernel.hpp>
#include <weft/core/cpu/pointwise.hpp>
#include <weft/core/kernel/convert.hpp>
#include <weft/core/kernel/optim_steps.hpp>

namespace weft::inline v0::WEFT_LEVEL {

namespace {

/// P parameter, G gradient, C states and arithmetic. Outputs: the parameter, then the states.
template <class Step, class P, class G, class C>
void update(Context& context, const StepAttrs& attrs, TensorRef grad, Outputs outputs) {
  const Step step(attrs);
  P* const parameter = context.data<P>(outputs[0]);
  const G* const gradient = context.data<G>(grad);
  C* state[3] = {};
  for (int i = 0; i < Step::kStates; ++i)
    if (outputs[static_cast<size_t>(i) + 1] != nullptr)
      state[i] = context.data<C>(outputs[static_cast<size_t>(i) + 1]);
  // A step names every state, also one that it leaves alone: an absent one stands for another.
  C* present = nullptr;
  for (C* one : state) present = present == nullptr ? one : present;
  for (C*& one : state) one = one == nullptr ? present : one;
  parallel_for(outputs[0]->numel, kLight / 4, [=](int64_t begin, int64_t end) {
    P* p = parameter;
    const G* g = gradient;
    C *s0 = state[0], *s1 = state[1], *s2 = state[2];
    WEFT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      C value = kernel::convert<C>(p[i]);
      const C slope = kernel::convert<C>(g[i]);
      if constexpr (Step::kStates == 0)
        step(value, slope);
      else if constexpr (Step::kStates == 1)
        step(value, slope, s0[i]);
      else if constexpr (Step::kStates == 2)
        step(value, slope, s0[i], s1[i]);
      else
        step(value, slope, s0[i], s1[i], s2[i]);
      p[i] = kernel::convert<P>(value);
    }
  });
}

/// By the dtypes of parameter and gradient: equal, or 16-bit parameters with gradients in f32.
template <template <class> class Step>
void run_step(Context& context, const Attrs& attrs, Inputs inputs, Outputs outputs) {
  const auto a = attrs.as<StepAttrs>();
  const TensorRef grad = inputs[0];
  const DType parameter = outputs[0]->dtype;
  if (parameter == DType::f64)
    return update<Step<double>, double, double, double>(context, a, grad, outputs);
  if (parameter == DType::f32)
    return update<Step<float>, float, float, float>(context, a, grad, outputs);
  const bool wide = grad->dtype == DType::f32;
  if (parameter == DType::bf16)
    return wide ? update<Step<float>, bfloat16, float, float>(context, a, grad, outputs)
                : update<Step<float>, bfloat16, bfloat16, float>(context, a, grad, outputs);
  return wide ? update<Step<float>, float16, float, float>(context, a, grad, outputs)
              : update<Step<float>, float16, float16, float>(context, a, grad, outputs);
}

template <class C>
using RmspropPlain = kernel::RmspropStep<C, false, false>;
template <class C>
using RmspropMomentum = kernel::RmspropStep<C, true, false>;
template <class C>
using RmspropCentered = kernel::RmspropStep<C, false, true>;
template <class C>
using RmspropBoth = kernel::RmspropStep<C, true, true>;

}  // namespace

WEFT_KERNEL(sgd_step) {
  if (outputs[1] == nullptr) return run_step<kernel::SgdStep>(context, attrs, inputs, outputs);
  run_step<kernel::SgdMomentumStep>(context, attrs, inputs, outputs);
}

WEFT_KERNEL(adam_step) {
  if (outputs[3] == nullptr) return run_step<kernel::AdamStep>(context, attrs, inputs, outputs);
  run_step<kernel::AmsgradStep>(context, attrs, inputs, outputs);
}

WEFT_KERNEL(nadam_step) { run_step<kernel::NadamStep>(context, attrs, inputs, outputs); }
WEFT_KERNEL(adamax_step) { run_step<kernel::AdamaxStep>(context, attrs, inputs, outputs); }
WEFT_KERNEL(adagrad_step) { run_step<kernel::AdagradStep>(context, attrs, inputs, outputs); }
WEFT_KERNEL(adadelta_step) { run_step<kernel::AdadeltaStep>(context, attrs, inputs, outputs); }

WEFT_KERNEL(rmsprop_step) {
  const bool momentum = outputs[2] != nullptr, centered = outputs[3] != nullptr;
  if (momentum && centered) return run_step<RmspropBoth>(context, attrs, inputs, outputs);
  if (momentum) return run_step<RmspropMomentum>(context, attrs, inputs, outputs);
  if (centered) return run_step<RmspropCentered>(context, attrs, inputs, outputs);
  run_step<RmspropPlain>(context, attrs, inputs, outputs);
}

}  // namespace weft::inline v0::WEFT_LEVEL
