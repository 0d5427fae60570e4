"""Ctrl-C waits for a safe moment, and what an exception left half changed is put back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Interrupts:
    """SIGINT's handler while something must not be broken off in the middle.

    A first Ctrl-C between :meth:`hold` and :meth:`release` is raised by the latter. A second one is
    raised at once, for code that hangs. Handlers of the program's own stay in place.
    """

    def __init__(self) -> None:
        self._users: set[object] = set()  # runs may take turns
        self._holds = self._came = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Within it SIGINT is handled here, where Python's own handler stood before. It begins
        held, and what came and was not released is raised at its end."""
        user = object()
        try:  # an exception may come from another handler, anywhere in the next line
            self._begin(user)
            yield
        except GeneratorExit:  # it may come of the garbage collector, amid another run
            self._leave(user)
            raise
        finally:
            if user in self._users:
                self._holds = False  # also where an exception broke that off
                self._leave(user)
                self.release()

    def _begin(self, user: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread alone
        if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, self._handle):
            return
        self._users.add(user)
        self.hold()
        signal.signal(signal.SIGINT, self._handle)

    def _leave(self, user: object) -> None:
        self._users.discard(user)
        if not self._users and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def hold(self) -> None:
        self._holds = True

    def release(self) -> None:
        """Raises KeyboardInterrupt where one came since :meth:`hold`."""
        self._holds = False
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: Any) -> None:
        if self._holds and not self._came:
            self._came = True
            return
        self._holds = self._came = False
        signal.default_int_handler(number, frame)


INTERRUPTS = Interrupts()

Modes = list[tuple[nn.Module, bool]]


class _InEvaluation(threading.local):
    """The modes that this thread has to put back, the outermost first."""

    def __init__(self) -> None:
        self.modes: list[Modes] = []


_in_evaluation = _InEvaluation()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module of ``model`` is in evaluation mode; on exit each is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    _in_evaluation.modes.append(modes)
    try:
        model.eval()
        yield
    finally:
        _put_back(modes)


def _put_back(modes: Modes) -> None:
    for module, training in modes:
        module.training = training
    _in_evaluation.modes = [others for others in _in_evaluation.modes if others is not modes]


@contextmanager
def undone_after_failure() -> Iterator[None]:
    """An exception, wherever it comes, leaves modules in their modes, and gradients and autocast
    switched as they were: a context manager can be broken off within its own exit."""
    grad, depth = torch.is_grad_enabled(), len(_in_evaluation.modes)
    autocast = {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")}
    try:
        yield
    except GeneratorExit:
        raise  # nothing was under way; and it may come while another run evaluates
    except BaseException:
        while len(_in_evaluation.modes) > depth:
            _put_back(_in_evaluation.modes[-1])
        torch.set_grad_enabled(grad)
        for kind, enabled in autocast.items():
            torch.set_autocast_enabled(kind, enabled)
        raise
