// The optimizers, with PyTorch's names, defaults and arithmetic. Formulas and papers:
// core/kernel/optim_steps.hpp. Constructors throw ArgumentError for numbers out of their range and
// as Optimizer::add_param_group does.
#pragma once

#include <utility>
#include <vector>

#include <weft/nn/optim/optimizer.hpp>

namespace weft::inline v0::optim {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;  ///< added to the gradient
  bool nesterov = false;    ///< needs momentum and no dampening
  bool maximize = false;
};

struct AdamOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< added to the gradient
  bool amsgrad = false;
  bool maximize = false;
};

struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;  ///< decoupled: shrinks the parameter by lr * weight_decay
  bool amsgrad = false;
  bool maximize = false;
};

struct NAdamOptions {
  double lr = 2e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum_decay = 4e-3;
};

struct AdamaxOptions {
  double lr = 2e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;
};

struct RMSpropOptions {
  double lr = 1e-2;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;
};

struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0;
  double weight_decay = 0;
  double initial_accumulator_value = 0;
  double eps = 1e-10;
};

struct AdadeltaOptions {
  double lr = 1.0;
  double rho = 0.9;
  double eps = 1e-6;
  double weight_decay = 0;
};

// Each takes the parameters of a model, or groups of them.
#define WEFT_OPTIMIZER(Name)                                                          \
  class WEFT_API Name : public Optimizer {                                            \
   public:                                                                            \
    explicit Name(std::vector<Tensor> params, Name##Options options = {});            \
    explicit Name(const std::vector<ParamGroup>& groups, Name##Options options = {}); \
                                                                                      \
   protected:                                                                         \
    void update(const Group& group, Tensor& parameter, const Tensor& grad,            \
                ParamState& state) override;                                          \
  };
WEFT_OPTIMIZER(SGD)
WEFT_OPTIMIZER(Adam)
WEFT_OPTIMIZER(AdamW)
WEFT_OPTIMIZER(NAdam)
WEFT_OPTIMIZER(Adamax)
WEFT_OPTIMIZER(RMSprop)
WEFT_OPTIMIZER(Adagrad)
WEFT_OPTIMIZER(Adadelta)
#undef WEFT_OPTIMIZER

}  // namespace weft::inline v0::optim
