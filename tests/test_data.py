"""The demonstration's readers: files are written here byte by byte from the formats' descriptions,
and read back."""

import gzip
import struct

import numpy as np
import pytest

from bench.common.data import load
from bench.common.files import read_idx, read_npz
from bench.common.images import DataError


def gray_images(count, seed):
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (count, 28, 28)).astype(np.uint8), random.randint(
        0, 10, count
    ).astype(np.uint8)


def idx_bytes(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(
        struct.pack(">I", n) for n in array.shape
    )
    return header + array.tobytes()


def write_idx(folder, compress=False, separator="-"):
    folder.mkdir(parents=True, exist_ok=True)
    train, test = gray_images(12, 0), gray_images(5, 1)
    for (pixels, labels), stem in ((train, "train"), (test, "t10k")):
        for array, kind in ((pixels, "images{}idx3-ubyte"), (labels, "labels{}idx1-ubyte")):
            name, content = f"{stem}-{kind.format(separator)}", idx_bytes(array)
            (folder / (name + ".gz" * compress)).write_bytes(
                gzip.compress(content, mtime=0) if compress else content
            )
    return train, test


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("place, separator", [(".", "-"), ("MNIST/raw", "-"), ("mnist", ".")])
def test_idx(tmp_path, compress, place, separator):
    train, test = write_idx(tmp_path / place, compress, separator)
    images = load("mnist", tmp_path)
    assert images.x_train.shape == (12, 28, 28, 1) and images.x_train.dtype == np.uint8
    assert images.y_train.dtype == np.int64
    np.testing.assert_array_equal(images.x_train[..., 0], train[0])
    np.testing.assert_array_equal(images.y_train, train[1])
    np.testing.assert_array_equal(images.x_test[..., 0], test[0])
    np.testing.assert_array_equal(images.y_test, test[1])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x89PNG\r\n", "must begin with 00 00 08, got 89 50 4e"),
        (b"", "must begin with 00 00 08"),
        (
            struct.pack(">HBB", 0, 0x0D, 1),
            "must begin with 00 00 08, got 00 00 0d",
        ),  # floats, not bytes
        (idx_bytes(np.zeros((3, 4), np.uint8))[:-1], "asks for 24 bytes, it has 23"),
        (idx_bytes(np.zeros((3, 4), np.uint8)) + b"x", "asks for 24 bytes, it has 25"),
        (struct.pack(">HBBI", 0, 8, 3, 7), "is damaged"),  # the header itself ends early
        (gzip.compress(idx_bytes(np.zeros((30, 40), np.uint8)), mtime=0)[:-9], "cannot be read"),
    ],
)
def test_idx_damaged(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_part_of_mnist_names_what_is_missing(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="missing: t10k-labels-idx1-ubyte"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    "name, looked_for",
    [
        ("mnist", ["mnist.npz", "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "https://"]),
        ("cifar10", ["cifar10.npz", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "https://"]),
    ],
)
def test_missing_data_names_the_files(tmp_path, name, looked_for):
    for root in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.npz"):
        with pytest.raises(DataError) as error:
            load(name, root)
        for word in [str(root), *(["nowhere.npz"] if root.suffix else looked_for)]:
            assert word in str(error.value)


# --- NumPy archives and what every reader's result must satisfy -----------------------------------


def arrays(**changes):
    (x_train, y_train), (x_test, y_test) = gray_images(12, 0), gray_images(5, 1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changes}


@pytest.mark.parametrize("direct", [True, False])
def test_npz(tmp_path, direct):
    path, expected = tmp_path / "cifar10.npz", arrays(y_train=np.arange(12).reshape(12, 1) % 10)
    np.savez(path, **expected)
    images = load("cifar10", path if direct else tmp_path)
    np.testing.assert_array_equal(images.x_train[..., 0], expected["x_train"])
    np.testing.assert_array_equal(images.y_train, np.arange(12) % 10)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"x_train": np.zeros((12, 28, 28), np.float32)},
            "train: pixels must be uint8, got float32",
        ),
        ({"x_test": np.zeros((5, 784), np.uint8)}, r"test: pixels must be \[N, H, W\]"),
        ({"x_test": np.zeros((5, 28, 28, 2), np.uint8)}, r"got \(5, 28, 28, 2\)"),
        (
            {"x_test": np.zeros((5, 32, 32), np.uint8)},
            r"training images \(28, 28, 1\) but test images \(32, 32, 1\)",
        ),
        ({"y_test": np.zeros(4, np.uint8)}, "test: 5 images but 4 labels"),
        ({"y_test": np.zeros(5)}, "labels must be integers, got float64"),
        ({"y_train": np.full(12, 10)}, "labels must be 0 to 9, got 10 to 10"),
        ({"y_train": np.full(12, -1)}, "labels must be 0 to 9, got -1 to -1"),
        (
            {"x_train": np.zeros((0, 28, 28), np.uint8), "y_train": np.zeros(0, np.uint8)},
            "0 images but 0 labels",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, message):
    np.savez(tmp_path / "mnist.npz", **arrays(**changes))
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)


def test_npz_damaged(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=np.zeros(3), other=np.zeros(3))
    with pytest.raises(DataError, match="lacks y_train, x_test, y_test; it holds x_train, other"):
        read_npz(path)
    np.savez(path, **arrays())
    whole = path.read_bytes()
    objects = arrays(y_train=np.array([None, "a"], object))
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", **objects)
    for content in (
        whole[:100],
        b"",
        b"hello",
        whole[: len(whole) // 2],
        (tmp_path / "single.npy").read_bytes(),
        (tmp_path / "objects.npz").read_bytes(),
        whole[:3000] + bytes(9) + whole[3009:],
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable (.npz archive|array of numbers)"):
            read_npz(path)


def test_digits():
    pytest.importorskip("sklearn")
    images = load("digits", None)
    assert images.x_train.shape == (1437, 8, 8, 1) and images.x_test.shape == (360, 8, 8, 1)
    assert images.x_train.max() == 255 and images.x_train.min() == 0
    assert set(images.y_test) == set(range(10))
    # No image is in both parts (the data set itself holds no image twice).
    together = np.concatenate([images.x_train, images.x_test]).reshape(1797, -1)
    assert len(np.unique(together, axis=0)) == 1797
