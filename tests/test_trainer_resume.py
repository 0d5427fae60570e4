"""A run that was saved and goes on, bit for bit."""

import pytest
import torch

from tests.small_training import make_trainer, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def test_resumed_run_is_bit_identical():
    """Saved in the middle of an epoch, in the active phase, with dropout and a shuffling loader."""
    whole, expected, saved = trained(make_trainer, epochs=5, save_at=40)
    assert saved["active"], "the save must fall into the active phase"
    assert 0 < saved["trainer"]["loop"]["loader"]["batches"] < 30, "and into the middle of an epoch"
    resumed, parameters, _ = trained(make_trainer, epochs=5, resume=saved)
    assert resumed.step_count == whole.step_count
    assert [r.tau_ema for r in resumed.history.steps] == [
        r.tau_ema for r in whole.history.steps[40:]
    ]
    for mine, theirs in zip(parameters, expected):
        assert torch.equal(mine, theirs)
