"""What the constants of raised learning rates are worth: `python -m bench.sweeps.rates`.

One at a time, on scikit-learn's digits. The memory draws throughout, and a run is a number of
updates, so nothing depends on the clock. The learning rate falls linearly to 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path

import torch

import isample
from bench.common.sets import DATA
from bench.training.evaluation import mean_loss_and_error
from bench.training.tasks import find_task
from isample.control.rates import LearningRate, RateSettings

RESULTS = Path(__file__).parent / "results"
VALUES = {
    "least_gain": (1.0, 1.5, 3.0),
    "cap": (1.0, 3.0, 10.0, 30.0),
    "headroom": (1.0, 2.0, 4.0),
}


def trained(settings: RateSettings, updates: int, seed: int) -> tuple[float, float]:
    """Training loss and test error after so many updates."""
    task = find_task("digits")
    sets = task.data.sets(Path())
    torch.manual_seed(seed)
    model = task.model().train()
    optimizer = task.optimizer(model)
    trainer = isample.Trainer(
        model,
        optimizer,
        task.loss,
        task.batch_size,
        control="always",
        adapt=LearningRate(optimizer, settings),
        seed=seed,
    )
    loader = torch.utils.data.DataLoader(
        sets.training, task.batch_size, shuffle=True, drop_last=True, collate_fn=lambda batch: batch
    )
    highest = task.learning_rate
    for report in trainer.iterate(loader, epochs=updates):
        optimizer.param_groups[0]["lr"] = highest * (1.0 - report.step / updates)
        if report.step == updates:
            break
    training = mean_loss_and_error(model, task.loss, sets.plain)[0]
    return training, mean_loss_and_error(model, task.loss, sets.test)[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sweeps.rates", description=__doc__)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken, rows = RateSettings(), []
    for name, values in VALUES.items():
        for value in values:
            settings = replace(taken, **{name: value})
            runs = [trained(settings, options.updates, seed) for seed in range(options.seeds)]
            row = {"name": name, "value": value, "settings": asdict(settings), "runs": runs}
            rows.append(row)
            print(line(row, value == getattr(taken, name)), flush=True)
    command = f"python -m bench.sweeps.rates --updates {options.updates} --seeds {options.seeds}"
    record = {"command": command, "torch": torch.__version__, "rows": rows}
    (RESULTS / "rates.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "rates.md").write_text(page(command, options, rows, taken))


def line(row: dict, is_taken: bool) -> str:
    losses, errors = zip(*row["runs"])
    loss = f"{statistics.mean(losses):.3g} ({min(losses):.3g} to {max(losses):.3g})"
    error = f"{statistics.mean(errors):.2%} ({min(errors):.2%} to {max(errors):.2%})"
    return f"| {row['name']} | {row['value']:g}{' (taken)' * is_taken} | {loss} | {error} |"


def page(command: str, options: argparse.Namespace, rows: list[dict], taken: RateSettings) -> str:
    lines = [
        "# Raised learning rates: each constant in turn",
        "",
        f"{DATA['digits'].title}, small CNN, {options.updates:,} updates, all drawn by memory but",
        f"those of the first epoch; mean (least to largest) of {options.seeds} seeds. `{command}`.",
        "",
        "| constant | value | training loss | test error |",
        "|---|---|---|---|",
        *(line(row, row["value"] == getattr(taken, row["name"])) for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
