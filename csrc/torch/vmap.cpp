// Under torch.vmap a random op would have to know what `randomness` asks for. Draws do not: they
// are refused there, whatever their arguments.
#include <torch/library.h>

namespace isample {
namespace {

void refuse(const c10::OperatorHandle& op, torch::jit::Stack*) {
  TORCH_CHECK(false, op.schema().name(),
              " cannot draw under torch.vmap: draw outside of it, in a loop over the scores");
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, FuncTorchVmapMode, m) {
  for (const char* op : {"draw", "draw.table", "draw.prefix_sum", "importance_sample"})
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&refuse>());
}

}  // namespace isample
