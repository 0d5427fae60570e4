"""Every constant of the controllers has a page that shows what it is worth."""

from dataclasses import fields
from pathlib import Path

import pytest

from isample.control import Settings
from isample.control.rates import RateSettings

PAGES = Path(__file__).parent.parent / "bench/sweeps/results"


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_a_constant_has_a_page_that_varies_it(name):
    """The page names the constant and holds the value that is taken, beside others."""
    text = (PAGES / f"{name}.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert text.startswith(f"# {name}\n") and sum("(taken)" in row for row in rows) == 1
    assert len(rows) >= 4  # the head and three values


@pytest.mark.parametrize("name", [field.name for field in fields(RateSettings)])
def test_a_constant_of_raised_rates_is_varied(name):
    rows = [line for line in (PAGES / "rates.md").read_text().splitlines() if f"| {name} |" in line]
    assert len(rows) >= 3 and sum("(taken)" in row for row in rows) == 1
