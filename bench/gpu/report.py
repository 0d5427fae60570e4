"""bench/results/<gpu>.md out of <gpu>.json."""

from __future__ import annotations

from pathlib import Path


def write_markdown(report: dict, path: Path) -> None:
    """One page: the machine, what came of each stage, and the table of times."""
    machine, stages = report["machine"], report["stages"]
    lines = [
        f"# {machine['gpu']}",
        "",
        f"{machine['multiprocessors']} multiprocessors, {machine['l2_megabytes']:.0f} MB of L2; "
        f"torch {machine['torch']}, CUDA {machine['cuda']}, nvcc {machine['nvcc']}, "
        f"Python {machine['python']}; {machine['date']}. "
        "Made by `make cuda` (`python -m bench.gpu`).",
        "",
        "| stage | result | seconds |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {_verdict(result)} | {result['seconds']} |" for name, result in stages.items()
    ]
    if "rows" in stages.get("ops", {}):
        lines += ["", *_times(stages["ops"])]
    if stages.get("kernels", {}).get("tail"):
        lines += [
            "",
            "## Kernels without Python",
            "",
            "```",
            stages["kernels"]["tail"].strip(),
            "```",
        ]
    path.write_text("\n".join(lines) + "\n")


def _verdict(result: dict) -> str:
    if "skipped" in result:
        return f"skipped: {result['skipped']}"
    if "tools" in result:
        return ", ".join(
            f"{tool} {'ok' if done['code'] == 0 else 'FAILED'}"
            for tool, done in result["tools"].items()
        )
    said = result.get("summary") or result.get("error", "").splitlines()[0:1]
    said = said if isinstance(said, str) else " ".join(said)
    return ("ok" if result["code"] == 0 else f"FAILED ({result['code']})") + (
        f": {said}" if said else ""
    )


def _times(ops: dict) -> list[str]:
    lines = [
        f"Times from replayed graphs: median (p20 to p80) in microseconds; GB/s of the logits' or "
        f"scores' own bytes, and its share of a read-only ceiling of {ops['ceiling']:.0f} GB/s "
        "(a sum over 4 GB) measured in the same run; eager is the wall-clock time of a call from "
        "Python.",
        "",
        "| shape | op | how | cache | µs | GB/s | of ceiling | eager µs | target µs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ops["rows"]:
        timing, speed = row["timing"], row["megabytes"] / row["timing"]["median"] * 1e3
        target = (
            ""
            if row["target"] is None
            else f"{row['target']:.0f}{'' if timing['median'] <= row['target'] else ' (missed)'}"
        )
        lines.append(
            f"| {row['shape']} | {row['op']} | {row['how']} | {row['cache']} "
            f"| {timing['median']:.1f} ({timing['p20']:.1f} to {timing['p80']:.1f}) "
            f"| {speed:.0f} | {speed / ops['ceiling']:.0%} | {row['eager']:.1f} | {target} |"
        )
    return lines
