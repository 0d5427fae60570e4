"""Checkpoints of runs that can be resumed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .runfile import RunFileError

FORMAT = 2  # of what a checkpoint holds; another one cannot be resumed


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all, whenever the process is killed."""
    unfinished = path.with_suffix(".unfinished")
    torch.save({"format": FORMAT, "state": state}, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises RunFileError for a file that cannot be resumed."""
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler does
        raise RunFileError(
            f"{path} is not a checkpoint: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFileError(
            f"{path} is of another version: delete it to do that run from its beginning"
        )
    return content["state"]
