"""What batches do not allow: some cannot be joined to candidates, or cut to a choice of them.

A controller that goes by speed is to make no difference then: batches are trained on as they come.
One that was asked for candidates raises.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

from isample.support.errors import CannotCutError, CannotJoinError
from isample.values import Plan


class Limits:
    """Found out as batches come; of a run, whatever sources it has.

    Args:
        falls_back: whether batches that cannot be joined or cut are dealt as they come, after one
            warning.
        asked: whether candidates were asked for.

    ``looks`` says whether the first batch is still to show whether it can be cut.
    """

    def __init__(self, falls_back: bool = False, asked: bool = False):
        self.falls_back: bool = falls_back
        self.looks: bool = falls_back or asked
        self.joins: bool = True
        self.cuts: bool = True

    def within(self, plan: Plan) -> Plan:
        """``plan``, without candidates where they could not be cut."""
        if self.cuts or plan.candidates is None:
            return plan
        return replace(plan, candidates=None, keep=None)

    def cannot_join(self, error: CannotJoinError) -> None:
        """Raises ``error`` where batches must be joined."""
        self._fall_back(error)
        self.joins = False

    def cannot_cut(self, error: CannotCutError) -> None:
        """Raises ``error`` where batches must be cut."""
        self._fall_back(error)
        self.cuts = False

    def _fall_back(self, error: CannotCutError | CannotJoinError) -> None:
        if not self.falls_back:
            raise error
        if self.joins and self.cuts:  # or it was said already
            warnings.warn(
                f"batches are trained on as they come, without candidates: {error}", stacklevel=4
            )
