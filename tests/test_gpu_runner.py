"""The runner of what wants a GPU, on a machine without one: nothing is lost, nothing lives on."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bench.gpu import __main__ as runner
from bench.gpu import machine, summary
from bench.gpu.programs import NotBuilt
from bench.gpu.stages import CALLS, LOAD, STAGES, Outcome, Stage
from bench.gpu.targets import compared, targets
from tests.test_gpu_processes import dies

ROOT = Path(__file__).parent.parent
LOAN, START = 900, 90  # seconds that a machine may be had for, and that each call waits for it


# ---- A call -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_without_a_device_every_stage_leaves_a_file_that_says_why(call, tmp_path):
    out, nothing = tmp_path / "out", tmp_path / "nothing"  # neither git nor a compiler
    environment = {**os.environ, "OUT": str(out), "CUDA_VISIBLE_DEVICES": "", "PATH": str(nothing)}
    command = [sys.executable, "-m", "bench.gpu", call]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    names = {STAGES[stage].file for stage in CALLS[call]} | {"summary.md"}
    assert {path.name for path in out.iterdir()} == names
    known = json.loads((out / "machine.json").read_text())
    table = [line.split("|")[1:5] for line in done.stdout.splitlines() if line.startswith("| ")]
    said = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
    for stage in CALLS[call]:
        assert said[stage][0] == "FAIL" and said[stage][2] == known["problem"]
        assert known["problem"] in (out / STAGES[stage].file).read_text()
    _, *ends = (out / "summary.md").read_text().split("## The end of ")
    assert len(ends) == 1 and ends[0].count(known["problem"]) == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_call_with_a_pack_ends_within_six_minutes_and_writes_few_files(call):
    longest: dict[str, float] = {}
    for name in CALLS[call]:
        stage = STAGES[name]
        limit = LOAD if name == "extension" else stage.limit
        longest[stage.group or name] = max(limit, longest.get(stage.group or name, 0))
    assert sum(longest.values()) <= runner.SECONDS
    assert len(CALLS) * (runner.SECONDS + START) <= LOAN
    files = [STAGES[name].file for name in CALLS[call]]
    assert len(set(files)) == len(files) < runner.MOST_FILES
    assert all(name.replace("_", "").replace(".", "").isalnum() for name in files)


def stages_of(monkeypatch, **stages):
    monkeypatch.setattr(runner, "STAGES", stages)


def test_a_stage_s_failure_keeps_no_other_from_running(monkeypatch, tmp_path):
    def broken(call, file, until):
        file.write_text("as far as it came\n")
        raise RuntimeError("out of luck")

    def unbuilt(call, file, until):
        raise NotBuilt("nvcc is missing")

    stages_of(
        monkeypatch,
        broken=Stage("broken.txt", 5, broken),
        unbuilt=Stage("unbuilt.jsonl", 5, unbuilt),
        fine=Stage("fine.txt", 5, lambda call, file, until: (True, "all well")),
    )
    assert not runner.carry_out("x", ["broken", "unbuilt", "fine"], tmp_path, 60)
    assert (tmp_path / "broken.txt").read_text() == "as far as it came\n"
    assert json.loads((tmp_path / "unbuilt.jsonl").read_text()) == {"error": "nvcc is missing"}
    assert (tmp_path / "fine.txt").read_text() == "all well\n"
    page = (tmp_path / "summary.md").read_text()
    assert "RuntimeError: out of luck" in page and "as far as it came" in page


def test_limits_are_cut_to_what_is_left_of_the_call(monkeypatch, tmp_path):
    given = []

    def note(call, file, until):
        given.append(until.left)
        return True, "noted"

    stages_of(monkeypatch, long=Stage("a.txt", 1000, note), short=Stage("b.txt", 7, note))
    assert runner.carry_out("x", ["long", "short"], tmp_path, 60)
    assert 7 < given[0] <= 60 and given[1] <= 7
    assert not runner.carry_out("x", ["long"], tmp_path, 0)
    assert "time was up" in (tmp_path / "a.txt").read_text()
    assert len(given) == 2


def test_what_needs_the_extension_does_not_run_without_it(monkeypatch, tmp_path):
    ran = []
    stages_of(
        monkeypatch,
        extension=Stage("a.txt", 5, lambda call, file, until: (False, "no")),
        tests=Stage("b.txt", 5, lambda *_: ran.append(1) or (True, ""), needs_extension=True),
    )
    assert not runner.carry_out("x", ["extension", "tests"], tmp_path, 60)
    assert not ran and "no extension" in (tmp_path / "b.txt").read_text()


def test_out_is_absolute_since_the_commands_run_elsewhere(monkeypatch, tmp_path):
    folders = []
    monkeypatch.setattr(runner, "carry_out", lambda *given: folders.append(given[2]) or True)
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUT", "here")
    assert runner.main(["first"]) == 0 and folders == [tmp_path / "here"]


LEFT = """
import signal
import sys
from pathlib import Path
from bench.gpu import __main__ as runner
from bench.gpu.processes import run
from bench.gpu.stages import Stage

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
folder = Path(sys.argv[1])

def stage(call, file, until):
    try:
        script = f"cd {folder}; echo $$ > part; mv part pid; sleep 600"
        run(["sh", "-c", script], file, 600)
    finally:
        run(["touch", folder / "started"], file, 600)

runner.STAGES["kernels"] = Stage("kernels.jsonl", 600, stage)
runner.STAGES["machine"] = Stage("machine.json", 9, lambda *_: (True, ""))
runner.main(["kernels"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_runner_that_is_stopped_leaves_nothing_behind(number, tmp_path):
    """Its commands have sessions of their own, so no signal to its group reaches them."""
    command = [sys.executable, "-c", LEFT, str(tmp_path)]
    environment = {**os.environ, "OUT": str(tmp_path / "out")}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
        try:
            process.send_signal(number)
            assert process.wait(60) != 0
            assert dies(child)
        finally:
            process.kill()
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    assert not (tmp_path / "started").exists()  # nor does a stage go on


def test_what_cannot_be_done_is_refused(monkeypatch):
    with pytest.raises(SystemExit, match=r"stage must be one of first, .*; got 'opps'"):
        runner.main(["opps"])
    with pytest.raises(SystemExit, match="at most 8 files"):
        runner.main([name for name in STAGES if name != "machine"])
    monkeypatch.setenv("OUT", "/nowhere")
    with pytest.raises(SystemExit, match="name first or second"):
        runner.main([])
    assert runner.calls_of(["ops", "kernels"]) == {"kernels-ops": ("machine", "kernels", "ops")}


# ---- What is said -------------------------------------------------------------------------------


def test_why_there_is_no_device_is_one_sentence():
    old = "The NVIDIA driver on your system is too old (found version 11040). Please update."
    assert "driver is too old for torch 9: update the driver" in machine.refused(old, "torch 9")
    none = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."
    said = machine.refused(none, "torch 9")
    assert said.startswith("no CUDA device: torch 9 says 'Found no NVIDIA driver on your system'")
    assert "\n" not in said


@pytest.mark.parametrize(
    "capability, architectures, has",
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),  # native code runs on later ones of its major version
        ((7, 0), ["sm_75", "sm_80"], False),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "sm_100"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 1), ["sm_120"], True),
        ((10, 3), ["sm_100a"], False),
        ((10, 0), ["sm_100a"], True),
    ],
)
def test_which_devices_a_torch_has_code_for(capability, architectures, has):
    assert machine.has_code(capability, architectures) == has


def test_targets_go_by_the_gpu_s_name():
    large, small = "(4096, 32000) bfloat16", "(128, 10) float32"
    for name in ("NVIDIA H200", "NVIDIA H200 NVL"):
        assert targets(name)[large] == 66 and targets(name)[small] == 5
    h100 = targets("NVIDIA H100 80GB HBM3")
    assert h100[large] == pytest.approx(66 * 4.8 / 3.35) and h100[small] == 5
    assert h100["(8192, 128256) bfloat16"] == pytest.approx(510 * 4.8 / 3.35)
    others = ["NVIDIA GH200 480GB", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", ""]
    for name in [*others, "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H200 MIG 1g.18gb"]:
        assert targets(name) == {}
    assert compared(60, 66) == "met" and compared(72.6, 66) == "missed by 10.0%"


def test_speeds_stand_beside_their_targets(tmp_path):
    kernel = {"case": "importance_sample (128, 10) float32, 25 alias", "l2": "cold", "us": 5.5}
    lines = [json.dumps(row) for row in (kernel, {**kernel, "case": "softmax_score (128, 10)"})]
    (tmp_path / "kernels.jsonl").write_text("\n".join(lines) + '\n{"case": "cut of')
    op = {"op": "importance_sample", "how": "isample", "shape": "(128, 10) float32", "us": 4.0}
    loss = {"op": "cross_entropy and its gradient", "shape": "(1, 2) float32", "cache": "warm"}
    rows = [
        {**op, "cache": "warm"},
        {**op, "how": "torch", "cache": "warm"},
        {**loss, "how": "torch", "us": 2.0},
        {**loss, "how": "isample", "us": 3.0},
        {"op": "importance_sample", "how": "isample", "shape": "", "error": "failed"},
    ]
    (tmp_path / "ops.jsonl").write_text("\n".join(map(json.dumps, rows)))
    turns = [{"data": "host", "how": "plain", "ms": 2.0}, {"data": "host", "how": "never", "ms": 2}]
    (tmp_path / "overhead.jsonl").write_text("\n".join(map(json.dumps, turns)))
    found = [row[-1] for row in summary.compared_speeds(tmp_path, "NVIDIA H200")]
    assert found == ["missed by 10.0%", "met", "missed by 50.0%", "met"]
    outcome = {"kernels": Outcome(True, "3 lines", "kernels.jsonl", 1.0)}
    page = summary.summary(outcome, {"gpu": "G", "driver, clocks, memory": "D"}, tmp_path, "T")
    assert "missed by 50.0%" not in summary.summary(outcome, {}, tmp_path / "none", "T")
    assert "| kernels | pass " in page and "missed by 50.0%" in page
