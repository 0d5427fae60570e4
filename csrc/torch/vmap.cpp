// What torch.vmap cannot do right is refused there. The other ops are run slice by slice.
#include <torch/library.h>

namespace isample {
namespace {

// A random op would have to know what `randomness` asks for.
void refuse_draws(const c10::OperatorHandle& op, torch::jit::Stack*) {
  TORCH_CHECK(false, op.schema().name(),
              " cannot draw under torch.vmap: draw outside of it, in a loop over the scores");
}

void refuse_batches(const c10::OperatorHandle& op, torch::jit::Stack*) {
  TORCH_CHECK(false, op.schema().name(),
              " cannot take a batched tensor under torch.vmap: call it outside, in a loop");
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, FuncTorchVmapMode, m) {
  for (const char* op : {"draw", "draw.table", "draw.prefix_sum", "importance_sample"})
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&refuse_draws>());
}

// Ops that may change an argument in place, or that return nothing.
TORCH_LIBRARY_IMPL(isample, FuncTorchBatched, m) {
  for (const char* op : {"rows", "_add_row_squares", "_scale_rows", "distribution", "remember",
                         "meet", "recall", "_check_table", "_check_prefix_sums", "_prefix_sum_into",
                         "_expected_scores_into", "permuted", "_pack"})
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&refuse_batches>());
}

}  // namespace isample
