import gc
import signal

import pytest
import torch


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def one_thread():
    """Small networks are not worth sharing out, and bit-equality asks for one order of
    summation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def python_s_handler():
    """Ctrl-C raises KeyboardInterrupt, also where tests run in the background, without it."""
    gc.collect()  # a run that was left in mid-epoch keeps isample's handler in place
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
