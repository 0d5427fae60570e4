"""That tests/cpp/mutate.py can run: its mutants fit the kernels as they stand, and its lists too.

The run itself takes most of an hour: bench/results/kernel-mutants.md has the last one.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/cpp"), str(ROOT / "tests/cpp/standin")]

import build  # noqa: E402
import equivalents  # noqa: E402
import mutants  # noqa: E402
import mutants_page  # noqa: E402
import mutate  # noqa: E402


@pytest.fixture(scope="module")
def every():
    return mutants.all_mutants()  # raises where a listed edit no longer fits


def test_mutants_have_names_of_their_own(every):
    assert 200 < len(every) < 700
    assert len({mutant.key for mutant in every}) == len(every)


def test_a_mutant_differs_from_its_source(every):
    for mutant in every:
        text = (ROOT / mutant.path).read_text()
        assert mutant.text != text, str(mutant)
        assert mutant.before != mutant.after, str(mutant)


def test_equivalents_are_mutants(every):
    gone = equivalents.EQUIVALENT.keys() - {mutant.key for mutant in every}
    assert not gone, "\n".join(map(str, gone))
    assert all(len(why) > 10 for why in equivalents.EQUIVALENT.values())


def test_all_barriers_are_tried(every):
    calls = re.compile(r"\b(__syncthreads|__threadfence|wait_for_launch_before)\(\);")
    standing = sum(len(calls.findall(path.read_text())) for path in mutants.sources())
    assert sum(mutant.operator == "barrier" for mutant in every) == standing > 15


def test_all_kernels_have_mutants(every):
    tried = {(mutant.path, mutant.line) for mutant in every}
    for path in mutants.sources():
        text = path.read_text()
        for place in re.finditer(r"(?s)__global__.*?\n\}", text):
            if re.search(r"\bif \(|\bfor \(", place.group()) is None:
                continue  # what it does is done by others
            begin, end = (text.count("\n", 0, where) + 1 for where in place.span())
            name = str(path.relative_to(ROOT))
            assert any((name, line) in tried for line in range(begin, end)), place.group()


def test_every_kernel_has_its_suites():
    known = re.findall(r'\{"([\w-]+)", testing::', (ROOT / "tests/cpp/cuda_tests.cpp").read_text())
    assert mutate.SUITES.keys() == set(build.KERNELS)
    assert set(mutate.BY_COST) == set(known) - {"large"}
    assert {suite for suites in mutate.SUITES.values() for suite in suites} == set(mutate.BY_COST)


def test_operators_are_explained():
    assert mutants_page.OPERATORS.keys() == {*mutants.RULES, "guard", "listed"}


@pytest.mark.parametrize(
    "text",
    [
        "// a < b\n",
        "static_assert(a < b);\n",
        "  constexpr int64_t kStep = 4 * kThreads;\n",
        "#if a && b\n",
        "#if defined(__CUDA_ARCH__)\n  a < b;\n#endif\n",
        "int row_shape(int n) {\n  return n < 3 ? 1 : 2;\n}\n",
        "int one_block_threads(int n) { return n < 3 ? 1 : 2; }\n",
        "  if (error != cudaSuccess) \n",
    ],
)
def test_what_cannot_show_is_not_broken(text):
    assert not list(mutants.rule_edits(text))


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("__syncthreads();", {"barrier"}),
        ("x = a < b;", {"boundary"}),
        ("x = a == b && c;", {"equality", "logic"}),
        ("if (a) return;", {"guard"}),
        ("a[i + 1] = b;", {"one"}),
        ("  sum += f(a);", {"sum"}),
        ("own.add(b);", {"sum"}),
        ("a = b / c - d;", {"product", "sign"}),
        ("i = threadIdx.x; j = blockDim.x;", {"index", "stride"}),
    ],
)
def test_an_operator_finds_its_places(text, operators):
    assert {operator for operator, *_ in mutants.rule_edits(text)} == operators


def test_a_mutant_reaches_what_includes_it():
    assert mutate.kernels_with(ROOT / "csrc/cuda/pack.cu") == ["pack"]
    assert mutate.kernels_with(ROOT / "csrc/core/memory.h")[0] == "memory"
    assert set(mutate.kernels_with(ROOT / "csrc/cuda/block.cuh")) == set(build.KERNELS)


def test_the_command_says_what_it_does():
    done = subprocess.run(
        [sys.executable, ROOT / "tests/cpp/mutate.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--page" in done.stdout
