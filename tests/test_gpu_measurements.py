"""What the GPU runner measures with, at sizes that a CPU does in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.gpu import every_op, ops, overhead, stages, task, training
from bench.gpu.rows import Rows
from bench.gpu.timing import Alternative, Timing

SMALL = ["--device", "cpu", "--depth", "10", "--width", "1", "--rows", "300"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def cifar(tmp_path):
    """A folder with a load.py, as a user has it."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    arrays = {
        "a": random.integers(0, 256, (400, 32, 32, 3), dtype=np.uint8),
        "b": random.integers(0, 10, 400, dtype=np.uint8),
    }
    np.savez(folder / "cifar10-small.npz", **arrays)
    (folder / "load.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "def cifar10():\n"
        "    with np.load(Path(__file__).parent / 'cifar10-small.npz') as kept:\n"
        "        a, b = kept['a'], kept['b']\n"
        "    return (a[:300], b[:300]), (a[300:], b[300:])\n"
    )
    return folder


def test_the_race_looks_at_every_method(cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "CACHE", tmp_path / "cache.npz")
    monkeypatch.setattr(training, "EVERY", 2)
    monkeypatch.setattr(training, "LOOKS", 2)
    out = tmp_path / "training.jsonl"
    words = ["training", *SMALL, "--out", str(out), "--data", str(cifar), "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", words)
    training.main()
    rows = lines(out)
    assert [row["how"] for row in rows] == ["uniform", "paper", "default"]
    for row in rows:
        assert row["updates"] >= 2 and row["seconds"] > 0 and 0 <= row["active"] <= 1
        assert 0 <= row["test_error"] <= 1 and 0 < row["train_loss"] < 20


def test_the_images_are_those_of_the_folder(cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "CACHE", tmp_path / "cache.npz")
    with np.load(cifar / "cifar10-small.npz") as kept:
        pixels, labels = kept["a"], kept["b"]
    for _ in range(2):  # decoded, and from the cache
        train, test = task.cifar10(cifar, 200)
        assert train.pixels.shape == (200, 3, 32, 32) and train.pixels.dtype == torch.uint8
        assert torch.equal(test.pixels, torch.from_numpy(pixels[300:]).permute(0, 3, 1, 2))
        assert test.labels.tolist() == labels[300:].tolist()
        sums = {(int(p.astype(np.int64).sum()), int(y)) for p, y in zip(pixels[:300], labels)}
        assert {(int(p.long().sum()), int(y)) for p, y in zip(train.pixels, train.labels)} <= sums


def test_missing_images_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "PACK", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"make gpu-pack DATA=FOLDER"):
        task.cifar10(None, 10)


def test_augmentation_moves_and_mirrors_and_stops_for_scores():
    ramp = torch.arange(32.0).expand(64, 3, 32, 32)  # a pixel's value is its column
    moved = task.shifted(ramp + 100)
    inside = moved[:, :, 8:24, 8:24] - 100
    by = inside - torch.arange(8.0, 24.0)
    assert set(by.unique().tolist()) == set(map(float, range(-4, 5)))
    assert all(len(each.unique()) == 1 for each in by)  # one shift an image
    mirrored = task.mirrored(ramp)
    kept = (mirrored == ramp).flatten(1).all(1)
    assert kept.any() and not kept.all() and torch.equal(mirrored[~kept], ramp.flip(3)[~kept])
    seen = []
    model = task.Augmented(torch.nn.Identity())
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        seen = [model(pixels) for _ in range(2)]
    assert torch.equal(*seen)
    assert not torch.equal(model(pixels), model(pixels))


def test_every_loop_takes_its_turns(tmp_path, monkeypatch):
    out = tmp_path / "overhead.jsonl"
    words = ["overhead", *SMALL, "--out", str(out), "--steps", "1", "--warm-up", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--seconds", "0"])
    monkeypatch.setattr(overhead, "LEAST_ROUNDS", 2)
    overhead.main()
    rows = lines(out)
    turns = [(row["round"], row["data"], row["how"]) for row in rows]
    loops = [(data, how) for data in ("device", "host") for how in overhead.LOOPS]
    assert turns == [(place, *loop) for place in range(2) for loop in loops]
    active = {row["how"]: row["active"] for row in rows if row["round"] == 1}
    assert active["plain"] == active["never"] == 0 and active["always"] == 1


# ---- The ops ------------------------------------------------------------------------------------


def test_every_op_is_called_and_a_difference_is_seen(capsys):
    assert every_op.main(["--device", "cpu"]) == 0
    same = every_op.Comparison("cpu")
    same.compare("halves", [torch.ones(2)], [torch.tensor([1.0, 0.5])])
    assert len(same.faults) == 1 and "halves" in same.faults[0]
    calls = []

    def changing(x):
        calls.append(x)
        return x.add_(len(calls))

    same(changing, torch.zeros(3))
    assert len(same.faults) == 3  # what it returned, and the argument it wrote to


def test_an_op_that_is_left_out_is_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(every_op, "sampling", lambda same: None)
    assert every_op.main(["--device", "cpu"]) == 1
    assert "not called: ['_check_prefix_sums'" in capsys.readouterr().out


class Clock:
    """Stands for the time module; only what a test does takes time."""

    now = 0.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic


@pytest.mark.parametrize("cost", [0.5, 7.0, 40.0, 200.0])
def test_the_last_look_of_every_method_is_within_the_limit(cost, cifar, tmp_path, monkeypatch):
    """Looks that cost next to nothing, and up to most of the time."""
    clock, ends = Clock(), []

    def steps(model, optimizer, data, seed):
        while True:
            clock.now += 0.01
            yield None

    def look(model, train, test):
        clock.now += cost
        ends.append(clock.now)
        return {"train_loss": 0.0, "train_error": 0.0, "test_loss": 0.0, "test_error": 0.0}

    monkeypatch.setattr(task, "CACHE", tmp_path / "cache.npz")
    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training, "look", look)
    monkeypatch.setattr(training, "METHODS", dict.fromkeys(("uniform", "paper", "default"), steps))
    out = tmp_path / "training.jsonl"
    limit = 220.0 if cost < 40 else 6 * cost
    words = ["training", *SMALL, "--out", str(out), "--data", str(cifar), "--limit", str(limit)]
    monkeypatch.setattr("sys.argv", words)
    training.main()
    last = {row["how"]: row for row in lines(out)}
    assert list(last) == ["uniform", "paper", "default"]
    assert ends[-1] <= limit
    times = [row["seconds"] for row in last.values()]
    assert max(times) - min(times) < 0.2  # as many seconds each
    assert times[0] == pytest.approx(60, abs=0.2) if cost < 1 else times[0] < 60


@pytest.fixture
def on_the_host(monkeypatch):
    """Timing without a device: every call is made once."""
    monkeypatch.setattr(ops, "repeated", lambda each, given: each.call(*given[0]))
    monkeypatch.setattr(ops, "eager", lambda call, given, seconds: 1.0)
    monkeypatch.setattr(
        ops, "in_turns", lambda ready, seconds: {how: Timing(2.0, 1.0, 3.0) for how in ready}
    )


KNOWN = {"shape": "(2, 3) float32", "cache": "warm", "megabytes": 1.0}


def test_a_baseline_s_failure_loses_one_row(on_the_host, tmp_path):
    def broken(z):
        raise TypeError("forward() missing 1 required positional argument: 'weight'")

    alternatives = [
        Alternative("isample", torch.sum),
        Alternative("Liger", broken),
        Alternative("torch", torch.sum),
    ]
    rows = Rows(tmp_path / "ops.jsonl")
    ops.measure(rows, "softmax_score", alternatives, lambda: [(torch.ones(2),)], KNOWN, 60.0)
    got = {row["how"]: row for row in lines(tmp_path / "ops.jsonl")}
    assert got["isample"]["us"] == got["torch"]["us"] == 2.0
    assert "missing 1 required" in got["Liger"]["error"] and "us" not in got["Liger"]


def test_an_alternative_that_takes_too_long_loses_its_row(on_the_host, tmp_path):
    def endless(z):
        while True:
            pass

    alternatives = [Alternative("isample", torch.sum), Alternative("torch.compile", endless)]
    rows = Rows(tmp_path / "ops.jsonl")
    ops.measure(rows, "softmax_score", alternatives, lambda: [(torch.ones(2),)], KNOWN, 0.5)
    late, measured = lines(tmp_path / "ops.jsonl")
    assert "s of this shape were up" in late["error"] and measured["how"] == "isample"


def test_inputs_that_do_not_fit_are_a_row(on_the_host, tmp_path):
    def inputs():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    rows = Rows(tmp_path / "ops.jsonl")
    ops.measure(rows, "softmax_score", [Alternative("isample", torch.sum)], inputs, KNOWN, 60.0)
    (row,) = lines(tmp_path / "ops.jsonl")
    assert "Tried to allocate" in row["error"] and row["how"].startswith("isample")
    assert rows.errors == [row]


class Lost:
    """Stands for torch after an illegal access: every call fails."""

    def __getattr__(self, name):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_device_that_is_lost_loses_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "torch", Lost())
    monkeypatch.setattr(ops, "foreign", lambda: [Alternative("Liger", None)])
    ops.measure_all(Rows(tmp_path / "ops.jsonl"), 1.0)
    rows = lines(tmp_path / "ops.jsonl")
    assert all("illegal memory access" in row["error"] for row in rows)
    told = [(row["op"], row["shape"]) for row in rows if row["op"] != "empty_cache"]
    shapes = [*ops.WITH_TARGET, *ops.OTHERS]
    assert len(told) == 2 + len(shapes) + len(ops.LOSSES) + 1 + len(shapes)
    assert told[0][0] == "read ceiling" and ("memory", "()") in told


def test_other_packages_come_after_all_of_isample_s_and_torch_s(tmp_path, monkeypatch):
    """An illegal access of theirs would fail whatever came after."""
    measured = []
    monkeypatch.setattr(ops, "measure", lambda rows, op, given, *_: measured.append(given))
    monkeypatch.setattr(ops, "logits_of", lambda shape, learn: (None, {"megabytes": 1.0}))
    monkeypatch.setattr(ops, "foreign", lambda: [Alternative("Liger", None)])
    ops.measure_all(Rows(tmp_path / "ops.jsonl"), 1.0)
    names = [[each.how for each in given] for given in measured]
    first = names.index(["Liger"])
    count = len(ops.WITH_TARGET + ops.OTHERS)
    assert names[first:] == [["Liger"]] * count
    assert first >= 2 * count + len(ops.LOSSES)
    assert all(each[0].startswith("isample") and "Liger" not in each for each in names[:first])


def test_who_writes_to_its_inputs_has_its_own(on_the_host, tmp_path):
    seen = {}
    alternatives = [
        Alternative("isample", lambda z: seen.update(isample=z)),
        Alternative("Liger", lambda z: seen.update(liger=z), own_inputs=True),
    ]
    rows = Rows(tmp_path / "ops.jsonl")
    ops.measure(rows, "softmax_score", alternatives, lambda: [(torch.ones(2),)], KNOWN, 60.0)
    assert seen["isample"].data_ptr() != seen["liger"].data_ptr()


def test_the_packed_liger_is_found(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setattr(stages, "WORK", tmp_path / "work")
    monkeypatch.setattr(stages.packed, "PACK", tmp_path)
    assert stages.liger() == {}
    with zipfile.ZipFile(tmp_path / "liger_kernel-0.8.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("liger_kernel/__init__.py", "")
    path = stages.liger()["PYTHONPATH"].split(":")[0]
    assert (Path(path) / "liger_kernel/__init__.py").is_file()
