"""What isample adds to a step on a GPU: `python -m bench.gpu.overhead --out FILE`.

A plain loop, one with `control="never"`, one with the default control and one that always draws by
importance, with the data on the device and on the host. They train copies of one network on images
without meaning. They take turns in one process, a block of steps each, so that a ratio of two turns
of one round means something. Each turn is a line: milliseconds a step, between two waits for the
device. All are warmed up first, those with a memory past its first table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

import isample

from .rows import Rows
from .task import BATCH, Images, network, noise, optimizer_of, parser, plain_steps, wait_for

RATE = 0.01
LOOPS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "never": {"control": "never", "mode": "memory"},
    "default": {},
    "always": {"control": "always", "mode": "memory"},
}
LEAST_ROUNDS = 3


def steps_of(given, options: dict[str, Any] | None, data: Images) -> Iterator[Any]:
    device = torch.device(given.device)
    model = network(given.depth, given.width, device, given.seed)
    optimizer = optimizer_of(model, RATE)
    if options is None:
        return plain_steps(model, optimizer, data, device)
    trainer = isample.Trainer(
        model,
        optimizer,
        batch_size=BATCH,
        autocast=torch.bfloat16,
        seed=given.seed,
        **options,
    )
    return trainer.iterate(data.loader(), epochs=10**6)


def block(steps: Iterator[Any], count: int, device: torch.device) -> tuple[float, float]:
    """Milliseconds a step, and the share of steps drawn by importance."""
    wait_for(device)
    begin, active = time.perf_counter(), 0
    for _ in range(count):
        report = next(steps)
        active += report is not None and report.active
    wait_for(device)
    return 1e3 * (time.perf_counter() - begin) / count, active / count


def main() -> None:
    options = parser("overhead", __doc__)
    options.add_argument("--steps", type=int, default=50, help="of a turn")
    options.add_argument("--seconds", type=float, default=60.0, help="of all turns together")
    options.add_argument("--warm-up", type=int, default=60, help="steps before the first turn")
    given = options.parse_args()
    limit = time.monotonic() + given.limit
    device, rows = torch.device(given.device), Rows(given.out)
    images = noise(given.rows, given.seed)
    loops = {}
    for where in ("device", "host"):
        data = images.to(device) if where == "device" else images
        for how, control in LOOPS.items():
            steps = loops[where, how] = steps_of(given, control, data)
            draws = how in ("default", "always")  # from the second epoch on
            block(steps, given.warm_up + len(data) * draws, device)
    end, done = min(limit, time.monotonic() + given.seconds), 0
    while done < LEAST_ROUNDS or time.monotonic() < end:
        for (where, how), steps in loops.items():
            took, active = block(steps, given.steps, device)
            rows.write(data=where, how=how, ms=took, active=active, round=done)
        done += 1


if __name__ == "__main__":
    main()
