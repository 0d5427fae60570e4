"""A KeyboardInterrupt at a random moment: at a line of code, or after so many seconds."""

import contextlib
import os
import random
import signal
import sys
import threading

import isample

OURS = os.path.dirname(isample.__file__)
TRACED = (OURS, contextlib.__file__)  # a context manager is broken off in contextlib, too


class Strike:
    """One Ctrl-C (``by_signal``), or a KeyboardInterrupt that is raised wherever the program is, as
    the handler of another signal may do.

    ``came`` says whether it was sent; ``lost`` whether Python swallowed it, as it does with
    all that is raised within a finalizer.
    """

    def __init__(self, by_signal):
        self.by_signal = by_signal
        self.came = self.lost = False

    def run(self, call, arm, disarm):
        """Whether a KeyboardInterrupt reached the caller of ``call()``."""
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            arm()
            call()
            disarm()  # what came at the very end reaches this frame
        except KeyboardInterrupt:
            return True
        finally:
            disarm()
            sys.unraisablehook = hook
        return False

    def at_line(self, call, number):
        """It strikes at the ``number``-th line of ``call()`` that is isample's."""
        left = number

        def trace(frame, event, argument):
            nonlocal left
            if not frame.f_code.co_filename.startswith(TRACED):
                return None
            left -= event == "line"
            if left < 0 and not self.came:
                sys.settrace(None)
                self._strike()
            return trace

        return self.run(call, lambda: sys.settrace(trace), lambda: sys.settrace(None))

    def after(self, call, seconds):
        """It strikes so many seconds after the beginning of ``call()``."""
        if not self.by_signal:
            before = signal.signal(signal.SIGALRM, lambda number, frame: self._strike())
            arm = lambda: signal.setitimer(signal.ITIMER_REAL, seconds)  # noqa: E731
            disarm = lambda: signal.setitimer(signal.ITIMER_REAL, 0.0)  # noqa: E731
            try:
                return self.run(call, arm, disarm)
            finally:
                signal.signal(signal.SIGALRM, before)
        timer = threading.Timer(seconds, self._strike)

        def stop():
            timer.cancel()
            if timer.ident is not None:
                timer.join()

        return self.run(call, timer.start, stop)

    def _strike(self):
        self.came = True
        if self.by_signal:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            raise KeyboardInterrupt

    def _unraisable(self, args):
        self.lost = self.lost or args.exc_type is KeyboardInterrupt


def lines_of(call):
    """How many of isample's lines ``call()`` runs through."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def moments(dice: random.Random, most):
    """Earlier and earlier ones below ``most``, for a run that ended before the first."""
    moment = dice.random() * most
    while True:
        yield moment
        moment *= dice.random()
