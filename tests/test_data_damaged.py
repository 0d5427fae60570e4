"""Damaged data sets: every one is refused by a DataError, or read as what it says.

Which of the two it must be cannot be foretold: a flipped pixel is a valid file. But a change of so
many bytes changes at most so many pixels and labels of an array that is read.
"""

import gzip
import io
import pickle
import random
import tarfile

import numpy as np
import pytest

from bench.common.cifar import CIFAR10_BATCHES
from bench.common.data import load
from bench.common.images import DataError
from tests.test_data import arrays, idx_bytes
from tests.test_data_cifar import Python2Pickler, binary_batch, planes, python_batch

ROUNDS = 300  # of mutations of each kind


def color_image(seed):
    picture = np.random.RandomState(seed)
    return picture.randint(0, 256, (1, 32, 32, 3)).astype(np.uint8), picture.randint(0, 10, 1)


def cifar10(write, suffix=""):
    return {f"{name}{suffix}": write(*color_image(i)) for i, name in enumerate(CIFAR10_BATCHES)}


def cifar100():
    parts = {}
    for name, (pixels, labels) in (("train", color_image(0)), ("test", color_image(1))):
        file = io.BytesIO()
        content = {b"fine_labels": labels.tolist(), b"data": planes(pixels)}
        Python2Pickler(file, protocol=2).dump({**content, b"filenames": [b"a.png", b"b.png"]})
        parts[f"cifar-100-python/{name}"] = file.getvalue()
    return parts


def tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def npz(save):
    file = io.BytesIO()
    save(file, **{name: array[:2] for name, array in arrays().items()})
    return {"mnist.npz": file.getvalue()}


def idx(suffix="", pack=bytes):
    stems = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
    contents = (idx_bytes(array[:2]) for array in arrays().values())
    return {f"{stem}-ubyte{suffix}": pack(content) for stem, content in zip(stems, contents)}


def same(content):
    return content


def zipped(content):
    return gzip.compress(content, 1, mtime=0)


# A kind: the data set, its files, what is done to a file's bytes after the mutation, and whether
# its numbers lie open, so that so many changed bytes are so many changed numbers.
KINDS = {
    "binary": ("cifar10", cifar10(binary_batch, ".bin"), same, True),
    "python": ("cifar10", cifar10(python_batch), same, True),
    "python 3": (
        "cifar10",
        cifar10(lambda *image: python_batch(*image, pickler=pickle.Pickler)),
        same,
        False,  # pixels are text in UTF-8
    ),
    "binary archive": (
        "cifar10",
        {"cifar-10-binary.tar.gz": tar(cifar10(binary_batch, ".bin"))},
        zipped,
        True,
    ),
    "python archive": (
        "cifar10",
        {"cifar-10-python.tar.gz": tar(cifar10(python_batch))},
        zipped,
        True,
    ),
    "archive, zipped": ("cifar10", {"cifar-10-binary.tar.gz": zipped(tar(cifar100()))}, same, True),
    "100": ("cifar100", cifar100(), same, True),
    "100, archive": ("cifar100", {"cifar-100-python.tar.gz": tar(cifar100())}, zipped, True),
    "100, zipped": ("cifar100", {"cifar-100-python.tar.gz": zipped(tar(cifar100()))}, same, True),
    "npz": ("mnist", npz(np.savez), same, True),
    "npz, packed": ("mnist", npz(np.savez_compressed), same, True),
    "idx": ("mnist", idx(), same, True),
    "idx, zipped": ("mnist", idx(".gz", zipped), same, True),
}


def overwrite(content, chance, place, count):
    for at in range(place, min(place + count, len(content))):
        content[at] = chance.choice((0, 1, 127, 255, chance.randrange(256)))


def mutate(content, chance):
    """The mutated bytes, and how many are others; None where they have moved."""
    content = bytearray(content)
    # Half of all mutations meet the few bytes that say how the others are to be read.
    edge = chance.randrange(min(len(content), 160))
    place = chance.choice((edge, len(content) - 1 - edge, *(chance.randrange(len(content)),) * 2))
    kind = chance.randrange(7)
    count = chance.choice((1, 2, 8))
    if kind < 2:
        content[place] ^= 1 << chance.randrange(8)
        return bytes(content), 1
    if kind < 4:
        overwrite(content, chance, place, count)
        return bytes(content), count
    if kind == 4:
        del content[place:]
    elif kind == 5:
        del content[place : place + count]
    else:
        content[place:place] = content[max(0, place - count) : place] or b"\0"
    return bytes(content), None


def counts(numbers):
    return np.bincount(np.concatenate([np.ravel(part) for part in numbers]), minlength=256)


def written(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_or_read_as_what_it_says(tmp_path, kind):
    name, files, finish, is_open = KINDS[kind]
    chance = random.Random(kind)
    written(tmp_path, {file: finish(content) for file, content in files.items()})
    whole = None if kind == "archive, zipped" else load(name, tmp_path)  # CIFAR-100 in its place
    refused = 0
    for _ in range(ROUNDS):
        file = chance.choice([*files])
        changed, bytes_changed = mutate(files[file], chance)
        (tmp_path / file).write_bytes(finish(changed))
        try:
            images = load(name, tmp_path)
        except DataError as error:
            assert str(tmp_path) in str(error)
            refused += 1
        else:
            assert whole is not None
            assert [part.shape[1:] for part in images] == [part.shape[1:] for part in whole]
            if bytes_changed is not None and is_open:
                moved = np.abs(counts(images) - counts(whole)).sum()  # one leaves, another comes
                assert moved <= 2 * bytes_changed
        (tmp_path / file).write_bytes(finish(files[file]))
    assert refused > ROUNDS // 10
    if whole is not None:
        assert all(np.array_equal(a, b) for a, b in zip(load(name, tmp_path), whole))
