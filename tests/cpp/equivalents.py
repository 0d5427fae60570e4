"""Mutants that no test can notice, and why."""

# {(file below csrc, line before, line after, number among those that read the same): why}
EQUIVALENT = {
    (
        "cuda/pack.cu",
        "return static_cast<double>(NAN);",
        "return static_cast<double>(0.f);",
        1,
    ): "No number type is left for this line; the compiler asks for it.",
    (
        "cuda/memory.cu",
        "if (!(factor < 1.f)) return;",
        "if (false) return;",
        1,
    ): "Without it scores are multiplied by 1.",
    (
        "cuda/memory.cu",
        "if (!(factor < 1.f)) return;",
        "if (!(factor <= 1.f)) return;",
        1,
    ): "Without it scores are multiplied by 1.",
    (
        "cuda/memory.cu",
        "if (shape.grid.x == 0) shape.grid.x = 1; // which says that nothing was bounded",
        "if (true) shape.grid.x = 1; // which says that nothing was bounded",
        1,
    ): "A launch's shape: all by one block gives the same.",
    (
        "cuda/memory.cuh",
        "for (int k = warp_index(); k < fractions.count; k += warps_in_block()) {",
        "for (int k = warp_index(); k < fractions.count; k += 1) {",
        1,
    ): "Every warp then does all fractions after its first: the same numbers, more often.",
    (
        "cuda/memory.cuh",
        "for (int64_t first = 0; first < task.count; first += blockDim.x) {",
        "for (int64_t first = 0; first <= task.count; first += blockDim.x) {",
        1,
    ): "A round more, in which no thread has an item.",
    (
        "cuda/cross_entropy.cu",
        (
            "if (label < 0 || label >= rows.classes) return {V{0}, static_cast<V>(NAN), "
            "static_cast<V>(NAN)};"
        ),
        (
            "if (label < 0 || label >= rows.classes) return {V{0}, static_cast<V>(NAN), "
            "static_cast<V>(0.f)};"
        ),
        1,
    ): "No column is the label where the label is out of range, so `of_target` is not read.",
    (
        "core/score.h",
        "const V small = Math::exp(delta > zero ? -delta : delta); // in (0, 1]",
        "const V small = Math::exp(delta >= zero ? -delta : delta); // in (0, 1]",
        1,
    ): "At 0 both sides are e^0.",
    (
        "core/score.h",
        "const V whole_loss = others.sum == zero ? zero : softplus + poison;",
        "const V whole_loss = others.sum == zero ? zero : softplus - poison;",
        1,
    ): "`poison` is 0 or NaN, whichever its sign.",
    (
        "core/score.h",
        "const bool is_above = x > 0.f;",
        "const bool is_above = x >= 0.f;",
        1,
    ): "At 0 both sides say the same, but for a rounding.",
    (
        "cuda/dense.cuh",
        "const int slice = lanes < kWarp ? lanes : kWarp;",
        "const int slice = lanes <= kWarp ? lanes : kWarp;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "cuda/row.cuh",
        "if (!counted) return result;",
        "if (false) return result;",
        1,
    ): "Only time: a row that does not count is read to its end for nothing.",
    (
        "cuda/row.cuh",
        "if (step < vectors) add_vectors<2>(result, step + lane, lanes);",
        "if (true) add_vectors<2>(result, step + lane, lanes);",
        1,
    ): "Vectors past the end count as minus infinity, and add nothing.",
    (
        "cuda/row.cuh",
        "if (step < vectors) add_vectors<2>(result, step + lane, lanes);",
        "if (step <= vectors) add_vectors<2>(result, step + lane, lanes);",
        1,
    ): "Vectors past the end count as minus infinity, and add nothing.",
    (
        "cuda/row.cuh",
        "if (head > 0 || head + int64_t{vectors} * kWidth<T> < size) add_ends(result, lane);",
        "if (true) add_ends(result, lane);",
        1,
    ): "Where there are no ends, two times minus infinity is added: nothing.",
    (
        "cuda/score.cuh",
        "for (int apart = (lanes < kWarp ? lanes : kWarp) / 2; apart > 0; apart /= 2)",
        "for (int apart = (lanes <= kWarp ? lanes : kWarp) / 2; apart > 0; apart /= 2)",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "cuda/score.cuh",
        "task.classes - begin < shape.part_size ? task.classes - begin : shape.part_size;",
        "task.classes - begin <= shape.part_size ? task.classes - begin : shape.part_size;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "cuda/score.cuh",
        "const bool counted = label != task.ignore_index && label >= 0 && label < task.classes;",
        "const bool counted = label != task.ignore_index || label >= 0 && label < task.classes;",
        1,
    ): "Only time: a row that does not count is read to its end for nothing.",
    (
        "cuda/score.cuh",
        "const bool counted = label != task.ignore_index && label >= 0 && label < task.classes;",
        "const bool counted = label != task.ignore_index && label >= 0 || label < task.classes;",
        1,
    ): "Only time: a row that does not count is read to its end for nothing.",
    (
        "cuda/score.cuh",
        "if (thread % slice == 0) triples[thread / slice] = triple;",
        "if (true) triples[thread / slice] = triple;",
        1,
    ): "After the merge all lanes of a slice have the same triple.",
    (
        "cuda/score.cuh",
        "if (thread < shape.rows_per_block()) {",
        "if (true) {",
        1,
    ): "No such thread ends a row. That it reads past shared memory shows on a device alone.",
    (
        "cuda/score.cuh",
        "if (thread < shape.rows_per_block()) {",
        "if (thread <= shape.rows_per_block()) {",
        1,
    ): "No such thread ends a row. That it reads past shared memory shows on a device alone.",
    (
        "cuda/score.cuh",
        "return static_cast<int>(threadIdx.x) < shape.rows_per_block() && row < task.rows ? row",
        "return static_cast<int>(threadIdx.x) < shape.rows_per_block() && row <= task.rows ? row",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "core/alias.h",
        "const int64_t reach = light_deficit[first_above(light_deficit, lights + 1, excess - 1)];",
        "const int64_t reach = light_deficit[first_above(light_deficit, lights, excess - 1)];",
        1,
    ): "The last deficit is as large as any excess: it is found where no other is.",
    (
        "core/distribution.h",
        "return room < kSumBits ? room : kSumBits;",
        "return room <= kSumBits ? room : kSumBits;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "core/distribution.h",
        "return k < 1.0 ? 1 : static_cast<int32_t>(k);",
        "return k <= 1.0 ? 1 : static_cast<int32_t>(k);",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "core/draws.h",
        (
            "return method == DrawMethod::systematic || n > kMaxTableItems ? kSumBits : "
            "product_bits(n);"
        ),
        (
            "return method == DrawMethod::systematic || n >= kMaxTableItems ? kSumBits : "
            "product_bits(n);"
        ),
        1,
    ): "It shows with 2^24 items, which the suite `large` alone has: minutes on the stand-in.",
    (
        "core/draws.h",
        "if (plan.remaining == 0) return 0;",
        "if (false) return 0;",
        1,
    ): "Where nothing remains there is no room, and a mass times 0 is as long.",
    (
        "core/memory.h",
        "largest = w > largest ? w : largest;",
        "largest = w >= largest ? w : largest;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "core/memory.h",
        "positive += x > 0;",
        "positive += x >= 0;",
        1,
    ): "A shortcut: the rounds find that all positive norms are certain, and the same sum.",
    (
        "core/memory.h",
        "if (static_cast<double>(all.positive) <= keep) return all.squares;",
        "if (false) return all.squares;",
        1,
    ): "A shortcut: the rounds find that all positive norms are certain, and the same sum.",
    (
        "core/memory.h",
        "for (int round = 0; round < kMostRounds && sums.certain != known; ++round) {",
        "for (int round = 0; round <= kMostRounds && sums.certain != known; ++round) {",
        1,
    ): "Rounds end long before there are so many.",
    (
        "core/memory.h",
        "for (int round = 0; round < kMostRounds && sums.certain != known; ++round) {",
        "for (int round = 0; round < kMostRounds || sums.certain != known; ++round) {",
        1,
    ): "Once the number of certain norms stays, more rounds find the same bound.",
    (
        "core/memory.h",
        (
            "const int place = octave(score), line = place + (static_cast<double>(score) >= "
            "points[place]);"
        ),
        (
            "const int place = octave(score), line = place + (static_cast<double>(score) > "
            "points[place]);"
        ),
        1,
    ): "The two lines meet in the point, but for a rounding.",
    (
        "cuda/rows.cu",
        "const int64_t end = begin + part_size < task.size ? begin + part_size : task.size;",
        "const int64_t end = begin + part_size <= task.size ? begin + part_size : task.size;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "core/memory.h",
        "if (count == 0) return 1.f;",
        "if (false) return 1.f;",
        1,
    ): "Nothing over nothing is NaN, which is no factor below 1 either.",
    (
        "core/memory.h",
        "return factor < 1.0 ? static_cast<float>(factor) : 1.f;",
        "return factor <= 1.0 ? static_cast<float>(factor) : 1.f;",
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "cuda/alias.cu",
        "if (first == 0) *table.total = items.total;",
        "if (true) *table.total = items.total;",
        1,
    ): "All threads write the same total.",
    (
        "cuda/block.cuh",
        "const T warps_before = shuffle_from(warps, warp_index() > 0 ? warp_index() - 1 : 0);",
        "const T warps_before = shuffle_from(warps, warp_index() >= 0 ? warp_index() - 1 : 0);",
        1,
    ): "The first warp does not use it.",
    (
        "cuda/distribution.cu",
        "for (int64_t i = threadIdx.x; i < task.n; i += blockDim.x)",
        "for (int64_t i = threadIdx.x; i < task.n; i += gridDim.x)",
        1,
    ): "The one block then does its items more often, and writes the same.",
    (
        "cuda/distribution.cu",
        (
            "if (grid_reduce(key, Larger(), w.partials, slot, max) && threadIdx.x == 0) "
            "w.state->max = max;"
        ),
        (
            "if (grid_reduce(key, Larger(), w.partials, slot, max) && threadIdx.x != 0) "
            "w.state->max = max;"
        ),
        1,
    ): "All threads of the last block have the same maximum.",
    (
        "cuda/distribution.cuh",
        (
            "__device__ ScoreKey operator()(ScoreKey a, ScoreKey b) const { return a.bits > "
            "b.bits ? a : b; }"
        ),
        (
            "__device__ ScoreKey operator()(ScoreKey a, ScoreKey b) const { return a.bits >= "
            "b.bits ? a : b; }"
        ),
        1,
    ): "Where both are equal it does not matter which is taken.",
    (
        "cuda/draws.cu",
        "if (bits != kSumBits && (task.tau != nullptr || task.tau_ema != nullptr)) {",
        "if (true) {",
        1,
    ): "Masses of all bits are then made twice, and tau once.",
    (
        "cuda/draws.cu",
        "if (bits != kSumBits && (task.tau != nullptr || task.tau_ema != nullptr)) {",
        "if (bits != kSumBits || (task.tau != nullptr || task.tau_ema != nullptr)) {",
        1,
    ): "Masses of all bits are then made twice, and tau once.",
    (
        "cuda/draws.cuh",
        "const int64_t thread = threadIdx.x, threads = blockDim.x;",
        "const int64_t thread = threadIdx.x, threads = gridDim.x;",
        1,
    ): "The one block then does its draws more often, and writes the same.",
    (
        "cuda/draws.cuh",
        "if (plan.rounds > 0) scan_span(PositiveTerm{items.mass, memory.items}, 0, n, {});",
        "if (true) scan_span(PositiveTerm{items.mass, memory.items}, 0, n, {});",
        1,
    ): "The list of items with mass is then made, and not read.",
    (
        "cuda/draws.cuh",
        "if (plan.rounds > 0) scan_span(PositiveTerm{items.mass, memory.items}, 0, n, {});",
        "if (plan.rounds >= 0) scan_span(PositiveTerm{items.mass, memory.items}, 0, n, {});",
        1,
    ): "The list of items with mass is then made, and not read.",
    (
        "cuda/launch.cuh",
        "constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }",
        "constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b) / b; }",
        1,
    ): "A launch's shape: a block more, which has nothing to do.",
    (
        "cuda/prefix_sum.cu",
        "for (int64_t i = threadIdx.x; i < task.n; i += blockDim.x) sums[i] = 0;",
        "for (int64_t i = threadIdx.x; i < task.n; i += gridDim.x) sums[i] = 0;",
        1,
    ): "The one block then does its items more often, and writes the same.",
    (
        "cuda/stages.cuh",
        "const int64_t tiles = (n + kStageTile - 1) / kStageTile;",
        "const int64_t tiles = (n + kStageTile) / kStageTile;",
        1,
    ): "A launch's shape: other spans of the blocks.",
    (
        "cuda/stages.cuh",
        "const int64_t size = (tiles + gridDim.x - 1) / gridDim.x * kStageTile;",
        "const int64_t size = (tiles + blockDim.x - 1) / gridDim.x * kStageTile;",
        1,
    ): "A launch's shape: other spans of the blocks.",
    (
        "cuda/stages.cuh",
        "const int64_t size = (tiles + gridDim.x - 1) / gridDim.x * kStageTile;",
        "const int64_t size = (tiles + gridDim.x) / gridDim.x * kStageTile;",
        1,
    ): "A launch's shape: other spans of the blocks.",
    (
        "cuda/terms.cuh",
        "if (i == 0) line[heavies] = 0;",
        "if (true) line[heavies] = 0;",
        1,
    ): "All threads write the same 0, where no other value goes.",
    (
        "cuda/stages.cuh",
        "if (w.state->totals.sums.total == 0) return;",
        "if (false) return;",
        1,
    ): "Where the total is 0, nobody reads the sums that are then made.",
}
