"""The short form of ``python -m tests.reliability``, at moments that are the same every time."""

import contextlib

import pytest

import isample
from tests.reliability import page, strikes
from tests.reliability.interrupts import interrupt
from tests.reliability.kills import kill
from tests.reliability.resumes import resume
from tests.reliability.runs import Begun, Run, differences, everything

pytestmark = [
    pytest.mark.usefixtures("one_thread", "python_s_handler"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_interrupt(seed):
    assert interrupt(seed, by_line=True) is None


@pytest.mark.parametrize("seed", range(6))
def test_kill(seed):
    assert kill(seed) is None


@pytest.mark.parametrize("seed", range(6))
def test_resume(seed):
    assert resume(seed) is None


def test_a_difference_is_seen():
    one, other = everything(Begun(Run(epochs=1)).fit()), everything(Begun(Run(epochs=1)).fit())
    assert differences(one, other) == []
    other["model"]["0.weight"][0, 0] += 1e-6
    assert differences(one, other) == [".model.0.weight: tensors differ"]


def test_a_swallowed_interrupt_is_seen():
    def swallows():
        with contextlib.suppress(KeyboardInterrupt):
            Begun(Run(epochs=1)).fit()

    strike = strikes.Strike(by_signal=True)
    assert not strike.at_line(swallows, 500)
    assert strike.came


def test_page(tmp_path):
    path = tmp_path / "reliability.md"
    path.write_text("# Another's\n")
    page.put(path, page.table([("kills", 200, 0, "it loads")]))
    page.put(path, page.table([("kills", 1000, 2, "it loads")]))
    assert path.read_text().startswith("# Another's\n")
    assert "| kills | 1,000 | 2 | it loads |" in path.read_text()
    assert "| 200 |" not in path.read_text()
    path.write_text(2 * path.read_text())
    with pytest.raises(ValueError, match="once; got it 2 times"):
        page.put(path, "")


def test_a_run_is_saved_before_it_began(tmp_path):
    """Its memory takes the seed that the saved one would have taken."""
    resumed, whole = (Begun(Run(dropout=0.3), draws_seed=seed) for seed in (1, 2))
    whole.trainer.save(tmp_path / "run.pt")
    expected = everything(whole.fit())
    isample.load(tmp_path / "run.pt", resumed.trainer)
    assert differences(expected, everything(resumed.fit())) == []
