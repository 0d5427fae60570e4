"""Mutants that no test can notice, and why: equivalents.txt, four lines each.

The file below csrc and the number among its mutants that read the same; the line before; the line
after; why.
"""

from pathlib import Path


def read(text):
    """{(file, before, after, number): why}, as mutants.Mutant.key has it."""
    found = {}
    for paragraph in text.strip().split("\n\n"):
        place, before, after, why = paragraph.split("\n")
        file, number = place.rsplit(" ", 1)
        if before[:2] != "- " or after[:2] != "+ ":
            raise ValueError(f"not a line before and a line after:\n{paragraph}")
        found[file, before[2:], after[2:], int(number)] = why
    return found


EQUIVALENT = read((Path(__file__).parent / "equivalents.txt").read_text())
