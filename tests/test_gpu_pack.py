"""What is built ahead for a GPU is used where it fits, and refused where it is stale."""

import json
from pathlib import Path

import pytest

from bench.gpu import pack, packed, processes, stages
from bench.gpu.programs import NotBuilt, Programs
from bench.gpu.stages import Call, extension

ROOT = Path(__file__).parent.parent
FACTS = {"tag": "cpython-312", "torch": "2.11.0+cu130", "capability": "9.0", "nvcc": None}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A root with sources of its own, and a pack that was built from them."""
    monkeypatch.setattr(packed, "ROOT", tmp_path)
    monkeypatch.setattr(packed, "PACK", tmp_path / ".gpu")
    for name in ("setup.py", "csrc/core/a.h", "csrc/cuda/a.cu", "tests/cpp/cuda_a.cpp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    box = tmp_path / ".gpu"
    box.mkdir()
    known = {**FACTS, "commit": "0" * 40}
    known["parts"] = {part.file: packed.digest(part) for part in packed.PARTS}
    (box / packed.MANIFEST).write_text(json.dumps(known))
    for part in packed.PARTS:
        (box / part.file).write_text("built")
    return tmp_path


def refused(part, **facts):
    return packed.refusal(part, FACTS | facts)


def test_a_pack_of_these_sources_is_used(sources):
    assert [refused(part) for part in packed.PARTS] == [None] * 3
    assert refused(packed.EXTENSION, torch="2.11.0") is None
    assert refused(packed.KERNELS, torch="2.12.0", tag="cpython-313") is None


@pytest.mark.parametrize("change", ["content", "name", "new file"])
def test_a_stale_pack_is_refused(sources, change):
    if change == "content":
        (sources / "csrc/cuda/a.cu").write_text("csrc/cuda/b.cu")
    elif change == "name":
        (sources / "csrc/cuda/a.cu").rename(sources / "csrc/cuda/b.cu")
    else:
        (sources / "csrc/cuda/new.cu").write_text("")
    for part in packed.PARTS:
        assert "stale" in refused(part)


def test_what_the_pack_is_not_for_is_refused(sources):
    assert "capability 9.0, not 8.0" in refused(packed.KERNELS, capability="8.0")
    assert "torch 2.11.0, not cpython-312" in refused(packed.EXTENSION, torch="2.12.0")
    assert "cpython-313" in refused(packed.EXTENSION, tag="cpython-313")
    (sources / ".gpu/bench").unlink()
    assert refused(packed.KERNELS) == "there is no packed bench"
    (sources / ".gpu" / packed.MANIFEST).unlink()
    assert refused(packed.EXTENSION).startswith("there is no packed _C.")


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_packed_programs_are_run_and_watched(sources, tmp_path, monkeypatch):
    """By stand-ins for a device: scripts in place of the programs and of compute-sanitizer."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setattr(stages, "WORK", tools)
    script(tools / "compute-sanitizer", 'echo "under $2"; [ "$2" != racecheck ] || exit 9')
    script(packed.PACK / "cuda_tests", "echo 0 failures")
    script(packed.PACK / "bench", "echo '{}'; echo 'no device' >&2; exit 2")
    call = Call(tmp_path, FACTS, Programs(FACTS, tmp_path))
    limit = processes.Deadline(600)
    assert stages.device_tests(call, tmp_path / "a.txt", limit) == (True, "0 failures")
    ok, said = stages.kernels(call, tmp_path / "b.jsonl", limit)
    assert (ok, said) == (False, "exit status 2 after 1 lines: no device")
    assert (tmp_path / "b.jsonl").read_text() == "{}\n"
    ok, said = stages.sanitizer(call, tmp_path / "c.txt", limit)
    assert not ok and "racecheck of the kernels: exit status 9: under racecheck" in said
    text = (tmp_path / "c.txt").read_text()
    for check in ("memcheck of the kernels: ok", "initcheck of every op: ok", "under synccheck"):
        assert check in text


def test_each_part_is_built_from_sources_that_are_here():
    for part in packed.PARTS:
        assert len(packed.digest(part)) == 64
        for pattern in part.sources:
            assert any(path.is_file() for path in ROOT.glob(pattern)), pattern


def test_without_nvcc_what_must_be_built_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "PACK", tmp_path)
    facts = FACTS | {"capability": "8.6"}
    with pytest.raises(NotBuilt, match="nvcc is not on the PATH: install the CUDA toolkit"):
        Programs(facts, tmp_path).get(packed.KERNELS, processes.Deadline(600))
    call = Call(tmp_path, facts, Programs(facts, tmp_path))
    ok, said = extension(call, tmp_path / "extension.txt", processes.Deadline(600))
    assert not ok and "nvcc is not on the PATH" in said


def test_a_manifest_needs_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    pack.write_manifest(tmp_path, {"bench": "0"})
    known = json.loads((tmp_path / packed.MANIFEST).read_text())
    assert known["commit"] == "unknown" and known["parts"] == {"bench": "0"}


def test_a_pack_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 2000)
    pack.check_size(tmp_path, 2000)
    with pytest.raises(SystemExit, match="must be under"):
        pack.check_size(tmp_path, 1999)
    with pytest.raises(SystemExit, match=r"--data must be a folder with load.py"):
        pack.add_data(tmp_path, tmp_path)
