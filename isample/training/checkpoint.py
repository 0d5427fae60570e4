"""A whole run as one state, and as one file: model, optimizer, schedule, scaler and engine."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isample.engine import Engine
from isample.sources.loader import Loader
from isample.support.describe import described
from isample.support.errors import StateError
from isample.support.processes import unwrapped
from isample.support.random_state import check_random_state, random_state, restore_random_state
from isample.support.states import (
    VERSION,
    check_keys,
    check_like,
    check_version,
    differing,
    refuse,
)
from isample.training.loop import Loop
from isample.training.upgrade import upgraded

KEYS = ("mode", "engine", "loop", "random")
OTHERS = ("version", "config", "model", "optimizer", "scheduler", "scaler")


class Checkpoint:
    """The state of a :class:`isample.Trainer`; arguments are its parts.

    ``scheduler`` is that of the last ``fit``.
    """

    def __init__(self, model: nn.Module, engine: Engine, loop: Loop):
        self.model: nn.Module = unwrapped(model)
        self.engine: Engine = engine
        self.loop: Loop = loop
        self.scheduler: Any = None
        self._schedule: dict[str, Any] | None = None  # of a file, until fit brings a scheduler
        self._rates: list[Any] = []

    @property
    def _update(self) -> Any:
        return self.loop.step.update

    @property
    def config(self) -> dict[str, Any]:
        update, autocast = self._update, self.loop.step.autocast
        return {
            "accumulate": update.accumulate,
            "clip_grad_norm": update.clip_grad_norm,
            "autocast": described(autocast),
        }

    def state_dict(self, mode: str) -> dict[str, Any]:
        self._update.check_nothing_pends()
        return {
            "version": VERSION,
            "config": self.config,
            "mode": mode,
            "engine": self.engine.state_dict(),
            "loop": copy.deepcopy(self.loop.state_dict()),
            "random": random_state(self.engine.parts.device),
        }

    def whole(self, mode: str, scheduler: Any) -> dict[str, Any]:
        """:meth:`state_dict` with those of all else that a run consists of."""
        scheduler, scaler = scheduler or self.scheduler, self._update.scaler
        schedule = None if scheduler is None else scheduler.state_dict()
        return {
            **self.state_dict(mode),
            "model": self.model.state_dict(),
            "optimizer": self._update.optimizer.state_dict(),
            "scheduler": self._schedule if schedule is None else schedule,
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def check(self, state: Any, mode: str, strict: bool) -> None:
        """Raises StateError, or TypeError, for a state that cannot be loaded."""
        check_keys(state, KEYS, "Trainer", optional=OTHERS)
        try:
            self._check(state, mode, strict)
        except StateError:
            raise
        except Exception as error:
            raise StateError(f"state must be whole; got a damaged one ({error!r})") from error

    def _check(self, state: Mapping[str, Any], mode: str, strict: bool) -> None:
        check_version({"version": 1, **state})
        self.engine.check_state(state["engine"])
        differs = differing(state.get("config", {}), self.config)
        if strict and mode not in ("auto", state["mode"]):
            differs["mode"] = state["mode"]
        if not strict:
            differs = {name: differs[name] for name in differs if name == "autocast"}
        refuse(differs, {**self.config, "mode": mode}, "give the saved run's, or strict=False")
        self._check_others(state)
        check_random_state(state["random"])
        unknown = {} if "config" in state else {"ends": False}  # to states of version 1
        like = {"loader": None, "elapsed": 0.0, "ends": False}
        check_like({**unknown, **state["loop"]}, like, "loop")
        if state["loop"]["loader"] is not None:
            Loader.check_form(state["loop"]["loader"])

    def _check_others(self, state: Mapping[str, Any]) -> None:
        if "model" in state:
            own = {name: value.shape for name, value in self.model.state_dict().items()}
            saved = {name: value.shape for name, value in state["model"].items()}
            wrong = sorted(k for k in {*own, *saved} if own.get(k) != saved.get(k))
            if wrong:
                raise StateError(
                    "model must have the saved one's parameters and buffers; "
                    f"{len(wrong)} differ, {wrong[0]!r} first"
                )
        if "optimizer" in state:
            groups = state["optimizer"]["param_groups"], self._update.optimizer.param_groups
            saved, own = ([len(group["params"]) for group in each] for each in groups)
            if saved != own:
                raise StateError(
                    "optimizer must have the saved one's groups of parameters, "
                    f"{saved} in each; got {own}"
                )
        if (state.get("scaler") is None) != (self._update.scaler is None) and "scaler" in state:
            raise StateError("scaler must be given to Trainer where the saved run had one")

    def load(self, state: Mapping[str, Any], strict: bool) -> None:
        """What :meth:`check` has passed; the engine refuses on its own, before anything else."""
        self.engine.load_state_dict(state["engine"], strict)
        config = {**self.config, **state.get("config", {})}  # version 1 has none
        self._update.configure(config["clip_grad_norm"], config["accumulate"])
        self.loop.load_state_dict(state["loop"])
        if "model" in state:
            self.model.load_state_dict(state["model"])
        if "optimizer" in state:
            self._update.optimizer.load_state_dict(state["optimizer"])
            self._rates = [group["lr"] for group in state["optimizer"]["param_groups"]]
        if state.get("scaler") is not None:
            self._update.scaler.load_state_dict(state["scaler"])
        self._schedule = state.get("scheduler")
        if self._schedule is not None:
            self.scheduler = None  # that of another run
        restore_random_state(state["random"], self.engine.parts.device)

    def follow(self, scheduler: Any) -> None:
        """``scheduler`` goes on where the saved one stood.

        Raises StateError where there was one, and now is none.
        """
        if self._schedule is not None:
            if scheduler is None:
                raise StateError(
                    "scheduler must be given to fit, or to isample.load, where the saved run had "
                    "one; got None"
                )
            scheduler.load_state_dict(self._schedule)
            # A scheduler that was made behind the loading has set rates of its own.
            for group, rate in zip(self._update.optimizer.param_groups, self._rates):
                group["lr"] = rate
            self._schedule = None
        self.scheduler = scheduler


class Saving:
    """A trainer's state, in memory and in a file."""

    mode: Any
    batch_size: int

    def __init__(self, checkpoint: Checkpoint):
        self._checkpoint: Checkpoint = checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The engine's state, the place in the epoch, torch's random state, and the arguments that
        make the run what it is. With those of model and optimizer a run resumes bit for bit, but
        for what a controller decides by the clock. :meth:`save` has them all in one.

        Raises RuntimeError between two accumulated steps, whose gradients no state holds.
        """
        return self._checkpoint.state_dict(self.mode)

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Restores what :meth:`state_dict` gave, torch's global random state included.

        A run with other arguments than this trainer's is refused. With ``strict=False`` they are
        taken over, where they are names and numbers.

        Raises StateError that names what differs, or TypeError, before anything has changed.
        """
        state = upgraded(state)
        self._checkpoint.check(state, self.mode, strict)
        self._checkpoint.load(state, strict)
        self.mode = state["mode"]
        self.batch_size = self._checkpoint.engine.batch_size or self.batch_size

    def save(
        self,
        path: str | os.PathLike[str],
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    ) -> None:
        """Saves the whole run in one file: :meth:`state_dict`, model, optimizer, scaler and the
        scheduler, by default that of the last ``fit``.

        A crash at any moment leaves the file that was there before, or the new one.
        """
        write(path, self._checkpoint.whole(self.mode, scheduler))

    def follow(self, scheduler: torch.optim.lr_scheduler.LRScheduler | None) -> None:
        """``scheduler`` is that of the run, for :meth:`save`; it goes on where a loaded one was.

        ``fit`` calls it. Raises StateError for None where the loaded run had one.
        """
        self._checkpoint.follow(scheduler)


def load(
    path: str | os.PathLike[str],
    trainer: Saving | None = None,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    strict: bool = True,
) -> dict[str, Any]:
    """What :meth:`Trainer.save` saved, on the CPU; loaded into ``trainer`` where that is given, as
    :meth:`Trainer.load_state_dict` does it, model, optimizer and scaler included.

    A scheduler goes on in the next ``fit`` that is given one, or here. Raises StateError for a file
    of another kind, or one that is damaged.
    """
    state = read(path)
    if trainer is not None:
        trainer.load_state_dict(state, strict)
        if scheduler is not None:
            trainer.follow(scheduler)
    return state


def write(path: str | os.PathLike[str], state: Any) -> None:
    """Saves ``state``; ``path`` holds all of it or, if anything goes wrong, what it held before."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk, too."""
    if os.name != "posix":
        return  # Windows opens no folders
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`write` saved, on the CPU; raises StateError for another or a damaged file."""
    data = Path(path).read_bytes()
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise StateError(
            f"path must be a whole file of Trainer.save; got {os.fspath(path)!r} ({error})"
        ) from error
    check_keys(state, (*KEYS, *OTHERS), "Trainer")
    return dict(state)
