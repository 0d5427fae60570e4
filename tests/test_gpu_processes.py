"""The GPU runner's commands: they end in time with all that they started, and keep their output."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.gpu import processes, stages

pytestmark = pytest.mark.usefixtures("python_s_handler")  # which the runner sets, too


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


def time_is_up(monkeypatch, ready, ends=True):
    """For the next command: once ``ready``, whatever the clock says. Within its grace it ``ends``,
    or does not."""
    waits = []

    def wait(process, seconds):
        waits.append(seconds)
        if len(waits) == 1:
            while not ready() and process.poll() is None:
                time.sleep(0.01)
            return None
        return process.wait() if ends else None

    monkeypatch.setattr(processes, "_wait", wait)


def holds(output, lines):
    return lambda: output.exists() and output.read_text().count("\n") >= lines


@pytest.mark.parametrize("deaf", [False, True])
def test_a_time_out_keeps_the_output_and_kills_grandchildren(tmp_path, monkeypatch, deaf):
    ignore = "trap '' INT; " if deaf else ""
    script = f"{ignore}echo kept; sh -c '{ignore}sleep 600' & echo $!; wait"
    output = tmp_path / "out"
    time_is_up(monkeypatch, holds(output, 2), ends=not deaf)
    ended = processes.run(["sh", "-c", script], output, 4.0)
    kept, grandchild = output.read_text().split()[:2]
    assert ended.code is None and not ended.ok and "4 s were up" in str(ended)
    assert kept == "kept" and dies(grandchild)


def test_a_command_that_ends_in_time_is_not_interrupted(tmp_path):
    ended = processes.run(["sh", "-c", "echo done"], tmp_path / "out", 600.0)
    assert ended.ok and (tmp_path / "out").read_text() == "done\n"


def test_what_a_command_leaves_behind_is_killed_too(tmp_path):
    ended = processes.run(["sh", "-c", "sleep 600 & echo $!"], tmp_path / "out", 600)
    assert ended.ok and dies((tmp_path / "out").read_text().strip())


def test_an_interrupted_command_may_say_what_it_has_found(tmp_path, monkeypatch):
    script = (
        "import time\ntry: print('begun'); time.sleep(600)\n"
        "except KeyboardInterrupt: print('3 failed')"
    )
    output = tmp_path / "out"
    time_is_up(monkeypatch, holds(output, 1))
    ended = processes.run([sys.executable, "-c", script], output, 8.0)
    assert ended.code is None and output.read_text() == "begun\n3 failed\n"


def test_errors_and_status_are_kept_apart(tmp_path):
    command = ["sh", "-c", "echo one; echo two >&2; exit 3"]
    ended = processes.run(command, tmp_path / "out", 600, errors=tmp_path / "err")
    assert (ended.code, str(ended)) == (3, "exit status 3")
    assert (tmp_path / "out").read_text() == "one\n" and processes.last_line(
        tmp_path / "err"
    ) == "two"


HANGS = """
import ctypes, os, pathlib

def test_hangs():
    here = pathlib.Path(__file__).parent
    (here / "part").write_text(str(os.getpid()))
    (here / "part").rename(here / "pid")
    ctypes.{library}(None).pause()  # PyDLL keeps the interpreter's lock

def test_fails():
    assert 2 * 2 == {five}, "arithmetic"
"""


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_test_that_hangs_in_c_loses_no_other_s_failure(tmp_path, library):
    """It is killed once the failure is told, or two minutes later."""
    (tmp_path / "test_two.py").write_text(HANGS.format(library=library, five=5))
    told, output = "AssertionError: arithmetic", tmp_path / "out"
    command = [*stages.pytest_command([tmp_path / "test_two.py"]), "-n", "2"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(processes.run, command, output, 240)
        for _ in range(1200):
            at_once = output.exists() and told in output.read_text()
            if running.done() or (at_once and (tmp_path / "pid").exists()):
                break
            time.sleep(0.1)
        assert not running.done(), output.read_text()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert running.result().code == 1
    text = output.read_text()
    assert at_once and re.search(r"^FAILED .*test_two.py::test_fails$", text, re.M)
    assert text.index(told) < text.index("crashed while running")


def test_a_test_that_hangs_shows_its_stack(tmp_path):
    (tmp_path / "test_two.py").write_text(HANGS.format(library="PyDLL", five=4))
    command = [*stages.pytest_command([tmp_path / "test_two.py"]), "-n", "2"]
    assert any("faulthandler_timeout=50" in str(word) for word in command)
    with ThreadPoolExecutor(1) as pool:
        short = [*command, "-o", "faulthandler_timeout=0.5"]
        running = pool.submit(processes.run, short, tmp_path / "out", 240)
        while not (tmp_path / "out").exists() or (
            "in test_hangs" not in (tmp_path / "out").read_text() and not running.done()
        ):
            time.sleep(0.1)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        running.result()
    assert "in test_hangs" in (tmp_path / "out").read_text()


def test_a_failed_collection_is_told_at_once(tmp_path):
    (tmp_path / "test_two.py").write_text("import nowhere_to_be_found")
    command = [*stages.pytest_command([tmp_path / "test_two.py"]), "-n", "2"]
    assert not processes.run(command, tmp_path / "out", 240).ok
    text = (tmp_path / "out").read_text()
    said = re.search(r"^FAILED .*test_two.py\n.*?nowhere_to_be_found", text, re.M | re.S)
    assert said is not None and said.end() < text.index("= ERRORS =")


def test_pytest_timeout_ends_a_worker_by_a_thread_where_it_is_there(monkeypatch):
    found = {"pytest_timeout"}
    monkeypatch.setattr(stages.importlib.util, "find_spec", lambda name: name in found)
    words = stages.pytest_command(["a.py"])
    assert words[-1] == "a.py" and words[words.index("--timeout-method") + 1] == "thread"
    found.clear()
    assert not any("--timeout" in word for word in stages.pytest_command(["a.py"]))


def test_compilers_keep_their_caches_where_the_runner_writes(tmp_path, monkeypatch):
    for name in processes.CACHES:
        monkeypatch.delenv(name, raising=False)
    command = ["sh", "-c", "echo $TRITON_CACHE_DIR; echo $TORCHINDUCTOR_CACHE_DIR"]
    processes.run(command, tmp_path / "out", 600)
    folders = (tmp_path / "out").read_text().split()
    assert len(folders) == 2 and all(processes.WORK in Path(each).parents for each in folders)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    processes.run(command, tmp_path / "out", 600)
    assert (tmp_path / "out").read_text().startswith("/elsewhere\n")


def test_a_long_output_keeps_its_ends(tmp_path):
    (tmp_path / "out").write_text("first" + "." * 10_000 + "last")
    processes.shorten(tmp_path / "out", 1000)
    text = (tmp_path / "out").read_text()
    assert len(text) <= 1000 and text.startswith("first") and text.endswith("last")


def test_a_wait_ends_whether_or_not_the_process_does():
    sleeps = subprocess.Popen(["sleep", "600"])
    assert processes._wait(sleeps, 0.0) is None
    sleeps.kill()
    assert processes._wait(sleeps, 600.0) == -signal.SIGKILL
