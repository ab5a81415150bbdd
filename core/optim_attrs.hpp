// Attributes of the optimizers' steps. Their formulas are in core/kernel/optim_steps.hpp.
#pragma once

namespace weft::inline v0 {

/// The numbers of one step of one parameter; an optimizer fills in what its formula uses.
struct StepAttrs {
  double lr = 0;
  double weight_decay = 0;
  double momentum = 0;
  double dampening = 0;
  double beta1 = 0;  ///< decay of the first moment
  double beta2 = 0;  ///< decay of the second moment (alpha of RMSprop, rho of Adadelta)
  double eps = 0;
  double correction1 = 1;  ///< 1 - beta1^t
  double correction2 = 1;  ///< 1 - beta2^t
  bool decoupled = false;  ///< weight decay shrinks the parameter, not the gradient's sum
  bool nesterov = false;
  bool first = false;  ///< the momentum buffer starts as the gradient
  bool maximize = false;
};

}  // namespace weft::inline v0
