"""The GPU runner's commands: they end in time with all that they started, and keep their output."""

import sys
import time
from pathlib import Path

import pytest

from bench.gpu import processes


def dies(process):
    """Waits for a process that was killed; one that was not would sleep on. It may stay a zombie,
    until whoever adopts it reaps it."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("deaf", [False, True])
def test_a_time_out_keeps_the_output_and_kills_grandchildren(tmp_path, deaf):
    ignore = "trap '' INT; " if deaf else ""
    script = f"{ignore}echo kept; sh -c '{ignore}sleep 600' & echo $!; wait"
    ended = processes.run(["sh", "-c", script], tmp_path / "out", 4.0)
    kept, grandchild = (tmp_path / "out").read_text().split()[:2]
    assert ended.code is None and not ended.ok and "4 s were up" in str(ended)
    assert kept == "kept" and dies(grandchild)


def test_what_a_command_leaves_behind_is_killed_too(tmp_path):
    ended = processes.run(["sh", "-c", "sleep 600 & echo $!"], tmp_path / "out", 60)
    assert ended.ok and dies((tmp_path / "out").read_text().strip())


def test_an_interrupted_command_may_say_what_it_has_found(tmp_path):
    script = "import time\ntry: time.sleep(600)\nexcept KeyboardInterrupt: print('3 failed')"
    ended = processes.run([sys.executable, "-c", script], tmp_path / "out", 8.0)
    assert ended.code is None and (tmp_path / "out").read_text() == "3 failed\n"


def test_errors_and_status_are_kept_apart(tmp_path):
    command = ["sh", "-c", "echo one; echo two >&2; exit 3"]
    ended = processes.run(command, tmp_path / "out", 60, errors=tmp_path / "err")
    assert (ended.code, str(ended)) == (3, "exit status 3")
    assert (tmp_path / "out").read_text() == "one\n" and processes.last_line(
        tmp_path / "err"
    ) == "two"


def test_a_long_output_keeps_its_ends(tmp_path):
    (tmp_path / "out").write_text("first" + "." * 10_000 + "last")
    processes.shorten(tmp_path / "out", 1000)
    text = (tmp_path / "out").read_text()
    assert len(text) <= 1000 and text.startswith("first") and text.endswith("last")
