// An operator of one's own: x^3, with its gradient, checked against central differences.
#include <cstdio>

#include <weft/weft.hpp>

using namespace weft;

namespace {

void infer_cube(InferCall& call) {
  call.outputs[0].shape = call.inputs[0]->shape;
  call.outputs[0].dtype = call.inputs[0]->dtype;
}

void cube_f64(Context& context, const Attrs&, Inputs in, Outputs out) {
  const double* x = context.data<double>(in[0]);
  double* y = context.data<double>(out[0]);
  for (int64_t i = 0; i < in[0]->numel; ++i) y[i] = x[i] * x[i] * x[i];
}

void cube_vjp(VjpContext& context) {
  const Tensor x = context.input(0);
  context.set(0, context.grad() * x * x * 3.0);
}

}  // namespace

int main() {
  const OpId op =
      register_op({.name = "cube", .saves = save_in(0), .infer = infer_cube, .vjp = cube_vjp},
                  {.cpu = cube_f64});
  const auto cube = [op](const Tensor& x) {
    const Tensor packed = x.contiguous();
    const TensorRef inputs[] = {packed.impl()};
    return dispatch(op, Attrs(), inputs);
  };
  const Tensor x = randn({2, 3}, {.dtype = DType::f64, .requires_grad = true});
  const std::string problem = gradcheck([&](const std::vector<Tensor>& in) { return cube(in[0]); },
                                        {x}, {.second_order = true});
  std::printf("gradcheck: %s\n", problem.empty() ? "ok" : problem.c_str());
  const Tensor shape_only = cube(empty({4, 5}, {.dtype = DType::f64, .device = Device::meta()}));
  std::printf("on meta: %lld elements\n", static_cast<long long>(shape_only.numel()));
  return problem.empty() ? 0 : 1;
}
