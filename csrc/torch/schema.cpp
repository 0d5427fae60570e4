// Every op's schema in one place, in pipeline order: logits -> score -> distribution, tau -> table
// -> draws -> weights. The CPU and CUDA adaptors register the implementations; isample/ops.py holds
// the documented, typed wrappers.
//
// A score that is NaN, infinite or negative never stops an op, because a CUDA op must not wait for
// the host. It shows instead: tau and all weights are NaN, indices are 0, totals are 0 and tau_ema
// keeps its value.
#include <torch/extension.h>

#include <map>
#include <string>

#include "architectures.h"
#include "build_info.h"
#include "interrupt.h"
#include "no_cuda.h"

TORCH_LIBRARY(isample, m) {
  m.def(
      "softmax_score(Tensor logits, Tensor targets, *, Tensor? weight=None, int ignore_index=-100, "
      "float label_smoothing=0.0) -> (Tensor score, Tensor loss)");

  // The mean of w_i L_i, and the scores. The loss is differentiable in the logits.
  m.def(
      "cross_entropy(Tensor logits, Tensor targets, Tensor? weights=None, *, Tensor? weight=None, "
      "int ignore_index=-100, float label_smoothing=0.0) -> (Tensor loss, Tensor score)");

  // The same and the gradient of the loss with respect to the logits, which is what its node keeps.
  m.def(
      "_cross_entropy_with_gradient(Tensor logits, Tensor targets, Tensor? weights=None, *, "
      "Tensor? weight=None, int ignore_index=-100, float label_smoothing=0.0) "
      "-> (Tensor loss, Tensor score, Tensor gradient)");

  // Of cross-entropy as torch's own mean has it, over what the labels count; and that count. On
  // CUDA the gradient is that of the mean over rows, which becomes the other's by `ratio`; on the
  // CPU it is that already, and `ratio` is empty.
  m.def(
      "_mean_cross_entropy(Tensor logits, Tensor targets, *, Tensor? weight=None, int "
      "ignore_index=-100, float label_smoothing=0.0) -> (Tensor loss, Tensor score, Tensor count)");
  m.def(
      "_mean_cross_entropy_with_gradient(Tensor logits, Tensor targets, *, Tensor? weight=None, "
      "int ignore_index=-100, float label_smoothing=0.0) "
      "-> (Tensor loss, Tensor score, Tensor gradient, Tensor count, Tensor ratio)");

  // The identity on z. Its backward pass adds the squared norms of the rows of `scale` dL/dz to
  // `squares`, and gives the rows times `factors`.
  m.def("rows(Tensor(a) z, Tensor? factors, Tensor? squares, float scale) -> Tensor(a)");
  m.def("_add_row_squares(Tensor(a!) squares, Tensor gradient, float scale) -> ()");
  m.def("_scale_rows(Tensor gradient, Tensor factors, Tensor(a!)? squares, float scale) -> Tensor");

  m.def(
      "distribution(Tensor score, *, float floor=0.0, Tensor(a!)? tau_ema=None, float "
      "momentum=0.9) "
      "-> (Tensor probabilities, Tensor tau)");

  m.def(
      "alias_table(Tensor score, *, float floor=0.0) "
      "-> (Tensor threshold, Tensor alias, Tensor mass, Tensor total)");

  // `seed` and `offset` given: a pure function of them. Otherwise the words come from `generator`,
  // or from the device's default generator, which torch.manual_seed seeds.
  m.def(
      "draw(Tensor score, SymInt count, *, str method=\"alias\", float floor=0.0, int? seed=None, "
      "int "
      "offset=0, "
      "Generator? generator=None) -> (Tensor indices, Tensor weights)",
      {at::Tag::nondeterministic_seeded});

  m.def(
      "draw.table(Tensor threshold, Tensor alias, Tensor mass, Tensor total, SymInt count, *, int? "
      "seed=None, "
      "int offset=0, Generator? generator=None) -> (Tensor indices, Tensor weights)",
      {at::Tag::nondeterministic_seeded});

  // The lean table of memory mode: 8 bytes an item, and draws that are spread evenly over the
  // items.
  m.def("prefix_sum(Tensor score, *, float floor=0.0) -> (Tensor sums, Tensor tau)");

  // The same into `sums`, whose upper half may hold the scores; gives tau.
  m.def("_prefix_sum_into(Tensor(a!) sums, Tensor score, *, float floor=0.0) -> Tensor");

  // The items at `places` of a shuffled order of `size` items.
  m.def("permuted(Tensor places, int size, *, int seed) -> Tensor");

  m.def(
      "draw.prefix_sum(Tensor sums, SymInt count, *, str method=\"stratified\", int? seed=None, "
      "int "
      "offset=0, "
      "Generator? generator=None) -> (Tensor indices, Tensor weights)",
      {at::Tag::nondeterministic_seeded});

  // Whether stored tables are what alias_table and prefix_sum make. O(n), with one readback.
  m.def("_check_table(Tensor threshold, Tensor alias, Tensor mass, Tensor total) -> ()");
  m.def("_check_prefix_sums(Tensor sums) -> ()");

  // The weights that items would have, if draws from the sums gave them.
  m.def("draw_weights(Tensor sums, Tensor indices) -> Tensor");

  // Of a batch and its fresh scores: how noisy its draws were, what it would cost to keep these
  // fractions of it, and the scores that these take the place of.
  m.def("draw_moments(Tensor score, Tensor weights, bool drawn, float[] fractions) -> Tensor");

  m.def("remember(Tensor(a!) memory, Tensor indices, Tensor score, *, float rate=0.5) -> Tensor");

  // By the octave of the remembered score: adds the squares of fresh and of remembered scores and
  // their number to `met`, [256, 3].
  m.def("meet(Tensor(a!) met, Tensor remembered, Tensor fresh) -> ()");

  // These three in one call, which gives the moments. Without weights the batch is a uniform one;
  // with `sums`, weighed as draws from them would be.
  m.def(
      "recall(Tensor(a!) memory, Tensor(b!) met, Tensor score, Tensor indices, Tensor? weights, "
      "Tensor? sums, "
      "float[] fractions, *, float rate=0.5) -> Tensor");

  // What remembered scores foretell by such sums, those above `contradicted` with `share` of the
  // draws at most, and flattened until a draw gains `gain_cap`; and, 1 or 0, whether that share
  // lowered them.
  m.def(
      "expected_scores(Tensor score, Tensor experience, *, float prior, float? contradicted, float "
      "share, float? gain_cap=None, float floor=0.0) -> (Tensor expected, Tensor bounded)");
  m.def(
      "_expected_scores_into(Tensor(a!) expected, Tensor score, Tensor experience, *, float prior, "
      "float? contradicted, float share, float? gain_cap=None, float floor=0.0) -> Tensor");

  // Numbers of any shape and type, float64 [all of them], for one copy to the host.
  m.def("_pack(Tensor[] values) -> Tensor");

  m.def(
      "importance_sample(Tensor logits, Tensor targets, SymInt batch_size, Tensor(a!) tau_ema, *, "
      "float momentum=0.9, str draws=\"alias\", float floor=0.0, Tensor? weight=None, int "
      "ignore_index=-100, "
      "float label_smoothing=0.0, int? seed=None, int offset=0, Generator? generator=None) "
      "-> (Tensor indices, Tensor weights, Tensor score, Tensor loss, Tensor tau)",
      {at::Tag::nondeterministic_seeded});
}

// But for the cross-entropies and rows, whose nodes are in files of their own, no op is
// differentiable: there is nothing for autograd to record, and no time to spend on it.
TORCH_LIBRARY_IMPL(isample, Autograd, m) {
  for (const char* op : {"softmax_score",
                         "_cross_entropy_with_gradient",
                         "_mean_cross_entropy_with_gradient",
                         "_add_row_squares",
                         "_scale_rows",
                         "distribution",
                         "alias_table",
                         "draw",
                         "draw.table",
                         "prefix_sum",
                         "_prefix_sum_into",
                         "permuted",
                         "draw.prefix_sum",
                         "draw_weights",
                         "draw_moments",
                         "remember",
                         "recall",
                         "meet",
                         "expected_scores",
                         "_expected_scores_into",
                         "_pack",
                         "importance_sample"})
    m.impl(op, torch::CppFunction::makeFallthrough());
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Compiled ops of isample; importing it registers torch.ops.isample.";
  isample::find_main_thread();
  isample::refuse_cuda();
  m.def("build_info", &isample::build_info,
        "What was built: compiler, torch version, the CPU instruction set in use, CUDA "
        "architectures or why none.");
  m.def("has_code", &isample::has_code, py::arg("architectures"), py::arg("major"),
        py::arg("minor"), py::arg("least") = 0,
        "Whether code for such architectures, of that major version at least, runs on such a GPU.");
}
