"""What mutate.py breaks besides barriers and fences."""

# (file, what stands there, what the mutant has instead)
EDITS = [
    # Reductions and scans
    (
        "block.cuh",
        "warp_reduce(lane_index() < warps_in_block() ? scratch[lane_index()] : T{}, op)",
        "warp_reduce(scratch[lane_index()], op)",
    ),
    (
        "block.cuh",
        "warp_inclusive_sum(lane_index() < warps_in_block() ? scratch[lane_index()] : T{})",
        "warp_inclusive_sum(T{})",
    ),
    ("block.cuh", "if (lane_index() >= lanes) value.add(below);", "value.add(below);"),
    ("block.cuh", "if (lane_index() == kWarp - 1) scratch", "if (lane_index() == 0) scratch"),
    ("block.cuh", "if (warp_index() > 0) result.before.add(warps_before);", ""),
    (
        "block.cuh",
        "if (warp_index() > 0) result.before.add(warps_before);",
        "result.before.add(warps_before);",
    ),
    (
        "block.cuh",
        "if (lane_index() > 0) result.before.add(lanes_before);",
        "result.before.add(lanes_before);",
    ),
    ("block.cuh", "first + j < end ? term(first + j) : Value{}", "term(first + j)"),
    ("block.cuh", "if (first + j < end) term.emit", "term.emit"),
    ("block.cuh", "before.add(scan.all);", ""),
    ("block.cuh", "running.add(values[j]);", ""),
    ("block.cuh", "running.add(scan.before);", ""),
    ("block.cuh", "blocks - 1) == blocks - 1;", "blocks - 1) == 0;"),
    ("block.cuh", "atomicInc(&arrivals[slot], blocks - 1)", "atomicInc(&arrivals[slot], blocks)"),
    (
        "block.cuh",
        "for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value = op",
        "for (int lanes = 8; lanes > 0; lanes /= 2) value = op",
    ),
    # Reading a row
    ("row.cuh", "vector < vectors ? __ldg(source + vector) : uint4{}", "__ldg(source + vector)"),
    (
        "row.cuh",
        "if (vector >= vectors || vector == target_vector)",
        "if (vector == target_vector)",
    ),
    ("row.cuh", "if (vector >= vectors || vector == target_vector)", "if (vector >= vectors)"),
    ("row.cuh", "if (left_out == j || left_out < 0)", "if (left_out < 0)"),
    ("row.cuh", "if (lane < head && lane != target)", "if (lane <= head && lane != target)"),
    ("row.cuh", "if (lane < head && lane != target)", "if (lane < head)"),
    ("row.cuh", "if (tail < size && tail != target)", "if (tail != target)"),
    ("row.cuh", "if (tail < size && tail != target)", "if (tail < size)"),
    ("row.cuh", "step + 2 * lanes < vectors; step", "step + 4 * lanes < vectors; step"),
    ("row.cuh", "if (step < vectors) add_vectors<2>(result, step + lane, lanes);", ""),
    ("row.cuh", "head = n < wanted ? static_cast<int>(n) : wanted;", "head = wanted;"),
    ("row.cuh", "head = n < wanted ? static_cast<int>(n) : wanted;", "head = 0;"),
    # Merging a row, and which rows there are
    (
        "score.cuh",
        "for (int apart = (lanes < kWarp ? lanes : kWarp) / 2;",
        "for (int apart = (lanes < kWarp ? lanes : kWarp) / 4;",
    ),
    (
        "score.cuh",
        "for (int i = 1; i < slices; ++i)\n",
        "for (int i = 2; i < slices; ++i)\n",
    ),
    ("score.cuh", "for (int i = 1; i < shape.parts; ++i)", "for (int i = 2; i < shape.parts; ++i)"),
    (
        "score.cuh",
        "for (int i = 1; i < shape.parts; ++i)",
        "for (int i = 1; i + 1 < shape.parts; ++i)",
    ),
    (
        "score.cuh",
        "static_cast<int>(threadIdx.x) < shape.rows_per_block() && row < task.rows",
        "static_cast<int>(threadIdx.x) < shape.rows_per_block()",
    ),
    (
        "score.cuh",
        "static_cast<int>(threadIdx.x) < shape.rows_per_block() && row < task.rows",
        "row < task.rows",
    ),
    ("score.cuh", "if (label < 0 || label >= task.classes) {", "if (label < 0) {"),
    ("score.cuh", "if (label < 0 || label >= task.classes) {", "if (label >= task.classes) {"),
    (
        "score.cuh",
        "task.classes - begin < shape.part_size ? task.classes - begin : shape.part_size",
        "shape.part_size",
    ),
    ("score.cuh", "row < task.rows; row += blockDim.x", "row < blockDim.x; row += blockDim.x"),
    ("importance_sample.cu", "finish_split_rows<T>(score, shape);", ""),
    # Dense targets
    ("dense.cuh", "for (int apart = slice / 2;", "for (int apart = slice / 4;"),
    ("dense.cuh", "for (int i = 1; i < slices; ++i)", "for (int i = 2; i < slices; ++i)"),
    (
        "dense.cuh",
        "column < classes ? widen(logits[column]) : minus_infinity<V>()",
        "widen(logits[column])",
    ),
    ("dense.cuh", "column < classes ? targets.mass(column) : V{0}", "targets.mass(column)"),
    ("dense.cuh", "if (lane != 0 || !exists) return result;", "if (lane != 0) return result;"),
    ("dense.cuh", "!ignored && (label < 0 || label >= task.classes)", "!ignored && label < 0"),
    (
        "dense.cuh",
        "first < classes; first += kChunk * lanes) {\n    V of_logit",
        "first + lanes < classes; first += kChunk * lanes) {\n    V of_logit",
    ),
    (
        "cross_entropy.cu",
        "first < classes; first += kLoads * lanes",
        "first + lanes < classes; first += kLoads * lanes",
    ),
    ("cross_entropy.cu", "k == label ? hard.of_target : others", "others"),
    # Rows of a gradient
    (
        "rows.cu",
        "begin + part_size < task.size ? begin + part_size : task.size",
        "begin + part_size",
    ),
    ("rows.cu", "part < parts; ++part)", "part < 1; ++part)"),
    ("rows.cu", "task.squares[row] += static_cast", "task.squares[row] = static_cast"),
    ("rows.cu", "task.squares[i] += static_cast", "task.squares[i] = static_cast"),
    ("row.cuh", "+ 0x7fff + ((bits >> 16) & 1)", "+ 0x8000"),
    # Remembering
    ("memory.cuh", "own.add(batch.norm(i), bound);", "own.add(batch.norm(0), bound);"),
    ("memory.cuh", "k += warps_in_block()) {", "k += 1) {"),
    ("memory.cuh", "known ? batch.score[i] : NAN", "batch.score[i]"),
    ("memory.cuh", "? task.memory[task.places[i]] : NAN", "? task.memory[task.places[i]] : 1.f"),
    ("memory.cuh", "last[task.places[i]] = -1;", ""),
    ("memory.cuh", "last[task.places[i]] == i;", "true;"),
    (
        "memory.cuh",
        "atomicMax(last + task.places[i], static_cast<int32_t>(i))",
        "atomicMax(last, 0)",
    ),
    ("memory.cuh", "octave(remembered) == static_cast<int>(threadIdx.x) && ", ""),
    ("memory.cu", "block_meet({met, remember.before", "block_meet({met, remember.fresh"),
    ("memory.cu", "score >= 0 ? score : mean", "score"),
    ("memory.cu", "!ending.lowers() && !ending.flattens", "!ending.lowers()"),
    ("memory.cu", "!ending.lowers() && !ending.flattens", "!ending.flattens"),
    ("memory.cu", "if (shape.grid.x == 0) shape.grid.x = 1;", ""),
    ("memory.cu", "if (thread <= kOctaves) state", "if (thread < kOctaves) state"),
    # Masses
    ("distribution.cuh", "g > 0.f ? __float_as_uint(g) : 0u", "__float_as_uint(g)"),
    ("distribution.cuh", "if (task.tau_ema != nullptr && valid)", "if (task.tau_ema != nullptr)"),
    # Spans of blocks, sums over them
    ("stages.cuh", "begin + size < n ? begin + size : n", "begin + size"),
    (
        "stages.cuh",
        "threadIdx.x < gridDim.x ? load_fresh(partials + threadIdx.x) : T{}",
        "load_fresh(partials + threadIdx.x)",
    ),
    (
        "stages.cuh",
        "threadIdx.x < gridDim.x ? load_fresh(partials + threadIdx.x) : T{}",
        "load_fresh(partials)",
    ),
    (
        "stages.cuh",
        "threadIdx.x < gridDim.x ? load_fresh(partials + threadIdx.x) : AliasScan{}",
        "load_fresh(partials + threadIdx.x)",
    ),
    ("stages.cuh", "scan_span(PrefixTerm<Value>{partials}, 0, gridDim.x, {});", ""),
    ("stages.cuh", "static_cast<typename Term::Value*>(w.partials)[blockIdx.x]", "{}"),
    # Lines and draws
    ("terms.cuh", "if (i == 0) line[heavies] = 0;", ""),
    ("draws.cuh", "/ 4}", "}"),
    (
        "draws.cuh",
        "if (plan.rounds > 0) scan_span(PositiveTerm",
        "if (plan.rounds > 1) scan_span(PositiveTerm",
    ),
    ("draws.cuh", "j < sure ?", "j <= sure ?"),
    ("draws.cuh", "if (certain.items == known) break;", "break;"),
    ("draws.cuh", "if (items.total == 0) {", "if (false) {"),
    ("draws.cu", "if (items.total == 0) draw_nothing(task, first, stride);\n  else ", ""),
    ("prefix_sum.cu", "if (totals.sums.total != 0) return scan_span", "return scan_span"),
    ("alias.cu", "if (first == 0) *table.total", "if (false) *table.total"),
    ("alias.cu", "items.total == 0 ? 0 : items.mass[i]", "items.mass[i]"),
]

# Not tried: row.cuh `if (!counted) return result`. Only time depends on it: a row that does not
# count is not read to its end.

# Functions of the host that say how a launch is cut into blocks and lanes. What a kernel gives does
# not depend on it, so there is nothing to notice.
SHAPES = [
    "row_shape",
    "row_grid",
    "whole_rows",
    "grid_of",
    "row_parts",
    "stage_shape",
    "draw_shape",
    "one_block",
    "one_block_threads",
    "one_block_draws",
    "one_launch",
    "fits_one_block",
    "launch",
]
