"""The mutants of the kernels: their sources with one place broken, by rule and by list.

A mutant is named by its file and by the line before and after, not by the line's number: so a list
of mutants outlives edits elsewhere in the file.
"""

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mutations import EDITS, SHAPES

ROOT = Path(__file__).resolve().parents[2]
CODE = ("csrc/cuda/*.cu", "csrc/cuda/*.cuh", "csrc/core/*.h")

# Of operators whose mutants are many and coarse one in so many is tried, chosen by its text.
ONE_IN = {"equality": 4, "sign": 8, "product": 8, "index": 8, "boundary": 3, "stride": 2, "sum": 2}

# Operator: (pattern, replacement) pairs. The sources are clang-formatted, so a binary operator has
# blanks around it and a template's bracket has none.
RULES = {
    "barrier": [(r"\b(__syncthreads|__threadfence|wait_for_launch_before)\(\);", "")],
    "boundary": [(" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > ")],
    "equality": [(" == ", " != "), (" != ", " == ")],
    "logic": [(" && ", " || "), (r" \|\| ", " && ")],
    "one": [(r" [+-] 1\b(?![.'])", "")],
    "sign": [(r" \+ (?!1\b)", " - "), (r" - (?!1\b)", " + ")],
    "product": [(r" \* ", " / "), (" / ", " * "), (" % ", " / ")],
    "sum": [
        (r"[\w.]+\.add\([^;{}]*\);", ";"),
        (r"(?<=[ (])[\w.>\[\]*-]+ [+*]= [^;{}()]*(\([^;{}()]*\)[^;{}()]*)*;", ";"),
    ],
    "larger": [
        (r"\bfmaxf\(a, b\)", "fminf(a, b)"),
        (r"::fmax\(a, b\)", "::fmin(a, b)"),
        (r"\bMath::max\((.+), (.+)\);", r"\1;"),
    ],
    "stride": [(r"\bblockDim\.x", "gridDim.x"), (r"\bgridDim\.x", "blockDim.x")],
    "index": [(r"\bthreadIdx\.x", "blockIdx.x"), (r"\bblockIdx\.x", "threadIdx.x")],
    "mark": [(r"\bNAN\b", "0.f")],
}
# What no run on the stand-in can tell apart: a launch that fails, and a value that all threads
# write alike.
UNSEEN = r"if \((error [!=]= cudaSuccess|(threadIdx\.x|thread|lane_index\(\)) [!=]= 0)\)"


@dataclass(frozen=True)
class Mutant:
    path: str  # from the root
    line: int
    operator: str
    before: str  # the lines that change, without blanks around them
    after: str
    number: int  # among those of the file that read the same
    text: str  # the whole file

    @property
    def key(self):
        return (self.path.removeprefix("csrc/"), self.before, self.after, self.number)

    def __str__(self):
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{self.path}:{self.line}{again} {self.operator}: {self.before} -> {self.after}"


def hidden(text):
    """The text with blanks where nothing is to be broken: comments, directives, constants and
    compile-time checks, what only nvcc compiles, sizes of memory, and the shapes of launches."""

    def blank(place):
        return re.sub(r"[^\n]", " ", place.group())

    text = re.sub(r"//[^\n]*", blank, text)
    text = re.sub(r"(?s)#if defined\(__CUDA(CC|_ARCH)__\)\n.*?(?=#else|#elif|#endif)", blank, text)
    text = re.sub(r"(?m)^#(.*\\\n)*.*$", blank, text)
    text = re.sub(r"static_assert\([^;]*;|(?m:^\s*(static )?constexpr\b[^;(]*;)", blank, text)
    text = re.sub(r"static size_t bytes[^\n]*", blank, text)
    text = re.sub(UNSEEN, blank, text)
    names = "|".join(SHAPES)
    return re.sub(rf"(?ms)^\S[^\n;]*\b({names})\([^;]*?\{{(.*?^\}}|[^\n]*\}}$)", blank, text)


def closing(text, begin):
    """Behind the bracket that closes the one before `begin`."""
    depth = 1
    for end in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end
    raise ValueError("a bracket stays open")


def rule_edits(text):
    """(operator, begin, end, replacement) for every place that a rule fits."""
    visible = hidden(text)
    for operator, pairs in RULES.items():
        for pattern, replacement in pairs:
            for place in re.finditer(pattern, visible):
                yield operator, *place.span(), place.expand(replacement)
    for place in re.finditer(r"\bif \(", visible):
        end = closing(visible, place.end())
        leaves = re.match(r"\)\s*(return|break)", visible[end:])
        yield "guard", place.end(), end, "false" if leaves else "true"


def listed_edits(name, text):
    for file, old, new in EDITS:
        if file == name:
            if old not in text:
                raise ValueError(f"{name} no longer holds: {old}")
            for place in re.finditer(re.escape(old), text):
                yield "listed", *place.span(), new


def changed_lines(text, begin, end, replacement):
    first = text.rfind("\n", 0, begin) + 1
    last = text.find("\n", end)
    before = text[first:last]
    after = text[first:begin] + replacement + text[end:last]
    return tuple(" ".join(part.split()) for part in (before, after))


def is_tried(mutant):
    if mutant.operator == "boundary" and mutant.path.endswith(".cu"):
        return True  # the loops of the kernels themselves
    return (
        zlib.crc32(" | ".join(map(str, mutant.key)).encode()) % ONE_IN.get(mutant.operator, 1) == 0
    )


def mutants_of(path):
    text = path.read_text()
    edits = sorted(
        {
            (begin, end, new): (begin, end, new, operator)
            for operator, begin, end, new in [*listed_edits(path.name, text), *rule_edits(text)]
        }.values()
    )
    texts, numbers = {text}, Counter()
    for begin, end, new, operator in edits:
        mutated = text[:begin] + new + text[end:]
        if mutated in texts:
            continue
        texts.add(mutated)
        lines = changed_lines(text, begin, end, new)
        numbers[lines] += 1
        line = text.count("\n", 0, begin) + 1
        mutant = Mutant(
            str(path.relative_to(ROOT)), line, operator, *lines, numbers[lines], mutated
        )
        if is_tried(mutant):
            yield mutant


def sources():
    return sorted(path for pattern in CODE for path in ROOT.glob(pattern))


def all_mutants():
    return [mutant for path in sources() for mutant in mutants_of(path)]
