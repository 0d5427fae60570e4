"""Breaks the kernels, one place at a time, and demands that the tests on the stand-in notice.

    python tests/cpp/mutate.py [--only WORD] [--jobs 2]

Tried are: every __syncthreads and every __threadfence of csrc/cuda without it, and the merges and
bounds checks below. Prints one line a mutant; ends with 1 if one survived. A mutant takes half a
minute, a survivor a few times that.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "standin"))

import build

CUDA = build.ROOT / "csrc/cuda"

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
        "for (int i = 1; i < slices; ++i) triple = merge",
        "for (int i = 2; i < slices; ++i) triple = merge",
    ),
    ("score.cuh", "for (int i = 1; i < shape.parts; ++i)", "for (int i = 2; i < shape.parts; ++i)"),
    (
        "score.cuh",
        "for (int i = 1; i < shape.parts; ++i)",
        "for (int i = 1; i + 1 < shape.parts; ++i)",
    ),
    ("score.cuh", "if (row < task.rows) {", "{"),
    (
        "score.cuh",
        "thread < shape.rows_per_block() && own_row < task.rows",
        "thread < shape.rows_per_block()",
    ),
    ("score.cuh", "thread < shape.rows_per_block() && own_row < task.rows", "own_row < task.rows"),
    ("score.cuh", "if (label < 0 || label >= task.classes) {", "if (label < 0) {"),
    ("score.cuh", "if (label < 0 || label >= task.classes) {", "if (label >= task.classes) {"),
    ("score.cuh", "if (label != task.ignore_index) {", "{"),
    (
        "score.cuh",
        "task.classes - begin < shape.part_size ? task.classes - begin : shape.part_size",
        "shape.part_size",
    ),
    ("score.cuh", "row < task.rows; row += blockDim.x", "row < blockDim.x; row += blockDim.x"),
    ("importance_sample.cu", "finish_split_rows<T>(score, shape);", ""),
    ("importance_sample.cu", "if (!is_last_block(slot)) return;", ""),
    # Dense targets
    ("dense.cuh", "for (int apart = slice / 2;", "for (int apart = slice / 4;"),
    ("dense.cuh", "for (int i = 1; i < slices; ++i)", "for (int i = 2; i < slices; ++i)"),
    (
        "dense.cuh",
        "column < classes ? widen(logits[column]) : minus_infinity<V>()",
        "widen(logits[column])",
    ),
    ("dense.cuh", "column < classes ? targets.mass(column) : V{0}", "targets.mass(column)"),
    ("dense.cuh", "if (lane != 0 || !exists) return;", "if (lane != 0) return;"),
    ("dense.cuh", "!ignored && (label < 0 || label >= task.classes)", "!ignored && label < 0"),
    (
        "dense.cuh",
        "column < classes; column += lanes)",
        "column + lanes < classes; column += lanes)",
    ),
    # Rows of a gradient
    (
        "rows.cu",
        "begin + part_size < task.size ? begin + part_size : task.size",
        "begin + part_size",
    ),
    ("rows.cu", "if (!is_last_block(slot)) return;", ""),
    ("rows.cu", "part < parts; ++part) whole", "part < 1; ++part) whole"),
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
    ("memory.cu", "if (!(factor < 1.f)) return;", ""),
    ("memory.cu", "if (shape.grid.x == 0) shape.grid.x = 1;", ""),
    ("memory.cu", "if (thread <= kOctaves) state", "if (thread < kOctaves) state"),
    # Masses
    ("distribution.cuh", "if (!is_score(g)) return {kInvalidKey};", ""),
    ("distribution.cuh", "g > 0.f ? __float_as_uint(g) : 0u", "__float_as_uint(g)"),
    ("distribution.cuh", "if (max.bits != kInvalidKey) {", "{"),
    ("distribution.cuh", "if (task.tau_ema != nullptr && valid)", "if (task.tau_ema != nullptr)"),
    ("distribution.cu", "if (max.bits != kInvalidKey) sum", "sum"),
    ("distribution.cu", "if (task.floor == 0.0) store_tau", "store_tau"),
    ("distribution.cu", "if (total != 0) sum", "sum"),
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
    ("stages.cuh", "if (!is_last_block(slot)) return false;", ""),
    ("stages.cuh", "if (!is_last_block(slot)) return;", ""),
    ("stages.cuh", "scan_span(PrefixTerm<Value>{partials}, 0, gridDim.x, {});", ""),
    ("stages.cuh", "static_cast<typename Term::Value*>(w.partials)[blockIdx.x]", "{}"),
    # Lines and draws
    ("terms.cuh", "if (i == 0) line[heavies] = 0;", ""),
    ("terms.cuh", "if (own.value > 0) items", "items"),
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
    ("prefix_sum.cu", "if (w.state->totals.sums.total != 0) return;", "return;"),
    ("prefix_sum.cu", "if (total == 0) return draw_nothing(task, first, stride);", ""),
    ("prefix_sum.cu", "(item > 0 ? sums[item - 1] : 0)", "0"),
    ("alias.cu", "if (first == 0) *table.total", "if (false) *table.total"),
    ("alias.cu", "items.total == 0 ? 0 : items.mass[i]", "items.mass[i]"),
]

# Not tried: row.cuh `if (!counted) return result`. Only time depends on it: a row that does not
# count is not read to its end.


def mutants():
    for path in sorted(CUDA.glob("*.cu*")):
        text = path.read_text()
        for call in ("__syncthreads();", "__threadfence();"):
            for number, place in enumerate(re.finditer(re.escape(call), text), 1):
                line = text.count("\n", 0, place.start()) + 1
                yield (
                    f"{path.name}:{line} without {call} ({number})",
                    path.name,
                    text[: place.start()] + text[place.end() :],
                )
    for name, old, new in EDITS:
        text = (CUDA / name).read_text()
        if old not in text:
            raise SystemExit(f"{name} no longer holds: {old}")
        for place in re.finditer(re.escape(old), text):
            line = text.count("\n", 0, place.start()) + 1
            yield (
                f"{name}:{line} {old!r} -> {new!r}",
                name,
                text[: place.start()] + new + text[place.end() :],
            )


def run_tests(tests, seconds=None):
    return subprocess.run(
        [tests, "1", "2", "all"], capture_output=True, text=True, check=False, timeout=seconds
    )


def verdict(mutant, test_objects, seconds):
    title, name, text = mutant
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("csrc", "tests/cpp/standin"):
            shutil.copytree(build.ROOT / part, root / part)
        (root / "csrc/cuda" / name).write_text(text)
        try:
            tests = build.link(
                build.compile_kernels(root, root) + test_objects, root / "cuda_tests"
            )
        except RuntimeError as error:
            return title, f"DOES NOT COMPILE\n{error}"
        try:
            done = run_tests(tests, seconds)
        except subprocess.TimeoutExpired:
            return title, f"caught: does not end within {seconds:.0f} s"
        if done.returncode == 0:
            return title, "SURVIVED"
        return (
            title,
            f"caught: {(done.stderr.strip().splitlines() or [f'ends with {done.returncode}'])[0][:110]}",
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only mutants whose title holds this word")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    build.FLAGS[build.FLAGS.index("-O2")] = "-O1"
    build.FLAGS[build.FLAGS.index("-Werror")] = "-w"
    chosen = [mutant for mutant in mutants() if arguments.only in mutant[0]]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        test_objects = build.compile_tests(Path(folder))
        start = time.monotonic()
        if (
            run_tests(
                build.link(
                    build.compile_kernels(Path(folder)) + test_objects, Path(folder) / "cuda_tests"
                )
            ).returncode
            != 0
        ):
            raise SystemExit("the tests fail before anything is broken")
        seconds = 10 * (time.monotonic() - start)  # what takes so long has lost its end
        survivors = 0
        for task in as_completed(
            [pool.submit(verdict, mutant, test_objects, seconds) for mutant in chosen]
        ):
            title, result = task.result()
            survivors += not result.startswith("caught")
            print(f"{result:<14} | {title}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} not caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
