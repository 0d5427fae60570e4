"""The readers of CIFAR-10 and CIFAR-100: files are written here from the formats' descriptions, and
read back."""

import io
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest

from bench.common.cifar import CIFAR10_BATCHES
from bench.common.data import load
from bench.common.images import DataError, Images


def color_batches():
    """Six batches of four images as [N, 32, 32, 3], and their labels."""
    random = np.random.RandomState(2)
    return [
        (random.randint(0, 256, (4, 32, 32, 3)).astype(np.uint8), random.randint(0, 10, 4))
        for _ in CIFAR10_BATCHES
    ]


def planes(pixels):
    """Rows of 3,072 bytes: all red, then all green, then all blue."""
    return np.stack(
        [np.concatenate([image[:, :, c].ravel() for c in range(3)]) for image in pixels]
    )


def binary_batch(pixels, labels):
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, planes(pixels)))


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text as Python 2 wrote its strings, which is what the published files
    hold."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch[bytes] = dispatch[str] = save_string


def python_batch(pixels, labels, pickler=Python2Pickler):
    file = io.BytesIO()
    batch = {
        b"batch_label": b"a batch",
        b"labels": [int(label) for label in labels],
        b"data": planes(pixels),
    }
    pickler(file, protocol=2).dump(batch)
    return file.getvalue()


def assert_cifar(images, batches):
    np.testing.assert_array_equal(
        images.x_train, np.concatenate([pixels for pixels, _ in batches[:5]])
    )
    np.testing.assert_array_equal(
        images.y_train, np.concatenate([labels for _, labels in batches[:5]])
    )
    np.testing.assert_array_equal(images.x_test, batches[5][0])
    np.testing.assert_array_equal(images.y_test, batches[5][1])


WRITERS = {"bin": (binary_batch, ".bin", "binary"), "py": (python_batch, "", "python")}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("inside", [True, False])
def test_cifar_files(tmp_path, kind, inside):
    write, suffix, _ = WRITERS[kind]
    folder = tmp_path / f"cifar-10-batches-{kind}"
    folder.mkdir()
    batches = color_batches()
    for name, batch in zip(CIFAR10_BATCHES, batches):
        (folder / f"{name}{suffix}").write_bytes(write(*batch))
    assert_cifar(load("cifar10", tmp_path if inside else folder), batches)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("direct", [True, False])
def test_cifar_archives(tmp_path, kind, direct):
    write, suffix, name = WRITERS[kind]
    path, batches = tmp_path / f"cifar-10-{name}.tar.gz", color_batches()
    with tarfile.open(path, "w:gz") as archive:
        for batch_name, batch in reversed(
            list(zip(CIFAR10_BATCHES, batches))
        ):  # the order in the archive must not matter
            content = write(*batch)
            member = tarfile.TarInfo(f"cifar-10-batches-{kind}/{batch_name}{suffix}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert_cifar(load("cifar10", path if direct else tmp_path), batches)


def test_cifar_batches_that_python_3_pickled(tmp_path):
    batches = color_batches()
    for name, batch in zip(CIFAR10_BATCHES, batches):
        (tmp_path / name).write_bytes(python_batch(*batch, pickler=pickle.Pickler))
    assert_cifar(load("cifar10", tmp_path), batches)


class Intruder:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle ran code')",)


@pytest.mark.parametrize(
    "content, message",
    [
        (pickle.dumps(Intruder()), "exec, and only arrays are read"),
        (pickle.dumps({b"labels": [1]}), "data must be an array"),
        (
            pickle.dumps({b"labels": [1], b"data": np.zeros((1, 7), np.uint8)}, protocol=2),
            r"\[N, 3072\], got \(1, 7\)",
        ),
        (pickle.dumps([1, 2]), "must hold a dict; got a list"),
        (b"not a pickle", "is not a readable pickle"),
        (b"", "is not a readable pickle"),
    ],
)
def test_cifar_python_batch_damaged(tmp_path, content, message):
    for name, batch in zip(CIFAR10_BATCHES, color_batches()):
        (tmp_path / name).write_bytes(python_batch(*batch))
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load("cifar10", tmp_path)
    assert "data_batch_3" in str(error.value)


@pytest.mark.parametrize(
    "length, message",
    [
        (4 * 3073 - 1, "12291 bytes are not a whole number of 3073-byte records"),
        (0, "is damaged: 0 bytes"),
    ],
)
def test_cifar_binary_batch_truncated(tmp_path, length, message):
    for name, batch in zip(CIFAR10_BATCHES, color_batches()):
        (tmp_path / f"{name}.bin").write_bytes(binary_batch(*batch))
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=message):
        load("cifar10", tmp_path)


def test_cifar_in_parts(tmp_path):
    for name, batch in list(zip(CIFAR10_BATCHES, color_batches()))[:5]:
        (tmp_path / f"{name}.bin").write_bytes(binary_batch(*batch))
    with pytest.raises(DataError, match="missing: test_batch.bin"):
        load("cifar10", tmp_path)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "data_batch_1.bin", "cifar-10-batches-bin/data_batch_1.bin")
    with pytest.raises(
        DataError, match="lacks data_batch_2, data_batch_3, data_batch_4, data_batch_5, test_batch"
    ):
        load("cifar10", tmp_path / "cifar-10-binary.tar.gz")


def images_of_noise():
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(100, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, np.arange(100), pixels[:20], np.arange(20))


def test_cifar100_is_read_from_each_of_its_forms(tmp_path):
    from_npz, from_folder, from_archive = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    expected = images_of_noise()
    from_npz.mkdir(), (from_folder / "cifar-100-python").mkdir(parents=True), from_archive.mkdir()
    np.savez(from_npz / "cifar100.npz", **expected._asdict())
    for name, x, y in (("train", *expected[:2]), ("test", *expected[2:])):
        planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        content = {b"data": planes, b"fine_labels": y.tolist(), b"coarse_labels": [0] * len(y)}
        (from_folder / "cifar-100-python" / name).write_bytes(pickle.dumps(content, protocol=2))
    with tarfile.open(from_archive / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(from_folder / "cifar-100-python", "cifar-100-python")
    for root in (from_npz, from_folder, from_archive):
        made = load("cifar100", root)
        assert all(np.array_equal(a, b) for a, b in zip(made, expected)), root
    with pytest.raises(
        DataError, match=r"no cifar100 in .*: looked for cifar100.npz .* https://www.cs.toronto.edu"
    ):
        load("cifar100", tmp_path)
    np.savez(from_npz / "cifar100.npz", **expected._replace(y_test=np.full(20, 100))._asdict())
    with pytest.raises(DataError, match="labels must be 0 to 99, got 100 to 100"):
        load("cifar100", from_npz)
    (from_folder / "cifar-100-python/train").write_bytes(b"broken")
    with pytest.raises(DataError, match="cifar-100-python/train in .* not a readable pickle"):
        load("cifar100", from_folder)
