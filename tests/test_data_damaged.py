"""Damaged data sets: every one is refused by a DataError, or read as what it says.

Which of the two it must be cannot be foretold: a flipped pixel is a valid file. But a change of so
many bytes changes at most so many pixels and labels of an array that is read.
"""

import gzip
import io
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from bench.common.cifar import CIFAR10_BATCHES
from bench.common.content import LIMIT, read_content, tar_members
from bench.common.data import load
from bench.common.images import DataError
from bench.common.pickled import read_pickle, rows_of
from bench.common.pictures import image_folder
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


# --- files made to do harm ------------------------------------------------------------------------


def peak(action):
    """The bytes that ``action`` took at most; it must raise DataError."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def huge_claims(folder):
    """{kind: a reader of a small file that claims to be huge}."""
    array = b"\x93NUMPY\1\0v\0{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28), }\n"
    members = {f"{field}.npy": array % 10**15 for field in arrays()}
    with zipfile.ZipFile(folder / "mnist.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    idx_file = folder / "idx" / "train-images-idx3-ubyte"
    written(folder / "idx", {**idx(), idx_file.name: struct.pack(">HBBIII", 0, 8, 3, *[2**31] * 3)})
    header = bytearray(tar({"train": b""}))[:512]
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    strings = {"T": b"\xff\xff\xff\x7f", "B": b"\xff\xff\xff\xff", "\x8e": b"\xff" * 7 + b"\x0f"}
    claims = {
        "npz": lambda: load("mnist", folder / "mnist.npz"),
        "idx": lambda: load("mnist", folder / "idx"),
        "tar": lambda: tar_members(bytes(header), "it"),
    }
    for code, size in strings.items():
        content = b"\x80\x04" + code.encode("latin1") + size + b"abc."
        claims[f"pickle {code!r}"] = lambda content=content: read_pickle(content, "it")
    return claims


def test_a_claimed_size_takes_no_memory(tmp_path):
    for kind, read in huge_claims(tmp_path).items():
        assert peak(read) < 2**24, kind


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    """The limit is lowered for the test's sake; the archives unpack to a thousand times it."""
    assert LIMIT > 2e8  # the largest data set's archive, unpacked
    monkeypatch.setattr("bench.common.content.LIMIT", 2**16)
    monkeypatch.setattr("bench.common.content.PIECE", 2**14)
    bomb = bytes(2**26)
    (tmp_path / "bomb.gz").write_bytes(zipped(bomb))
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for field in arrays():
            archive.writestr(f"{field}.npy", bomb)
    monkeypatch.setattr("bench.common.content.LIMIT", 2**19)
    assert peak(lambda: read_content(tmp_path / "bomb.gz")) < 2**22
    assert peak(lambda: load("mnist", tmp_path / "mnist.npz")) < 2**22


def test_a_pickle_that_grows_is_refused():
    """It encodes the same text a thousand times, and nests a tuple in itself a thousand times."""
    text = b"X" + struct.pack("<I", 10**5) + b"a" * 10**5
    encode = b"h\0h\1\x85R"
    grown = b"\x80\2c_codecs\nencode\nq\0" + text + b"q\1" + encode * 1000 + b"."
    assert peak(lambda: read_pickle(grown, "it")) < 2**24
    nested = b")q\0" + b"h\0h\0\x86q\0" * 1000
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R"
    content = b"\x80\2}U\4data" + array + b"(K\1" + nested + b"NN)tbs."
    batch = read_pickle(content, "it")
    with pytest.raises(DataError, match="must be an array"):
        rows_of(batch, b"data", 3072, "it")


def test_links_and_ways_out_of_an_archive_are_not_followed(tmp_path):
    """A link is no batch; a batch's folder does not matter, for nothing is unpacked."""
    secret = tmp_path / "secret"
    secret.write_bytes(binary_batch(*color_image(9)))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
        path = tmp_path / "cifar-10-binary.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in cifar10(binary_batch, ".bin").items():
                member = tarfile.TarInfo(f"../../{name}")
                member.size = len(content)
                if name == "test_batch.bin":
                    member.type, member.linkname, member.size = kind, str(secret), 0
                archive.addfile(member, io.BytesIO(content))
        with pytest.raises(DataError, match="lacks test_batch"):
            load("cifar10", path)
        assert not (tmp_path.parent / "data_batch_1.bin").exists()


def test_an_array_by_columns_is_read_as_one():
    rows = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    content = pickle.dumps({b"data": np.asfortranarray(rows)}, protocol=2)
    np.testing.assert_array_equal(rows_of(read_pickle(content, "it"), b"data", 3072, "it"), rows)


def picture(width, height):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_pictures(tmp_path):
    pytest.importorskip("PIL")
    whole = picture(300, 280)
    claims = whole[:16] + struct.pack(">II", 2**17, 2**17) + whole[24:]  # with a wrong checksum
    chance = random.Random(0)
    damaged = [claims, b"", b"hello", picture(4000, 20)]
    damaged += [mutate(whole, chance)[0] for _ in range(40)]
    written(tmp_path, {"train/a/1.png": whole, "test/a/1.png": whole})
    assert len(image_folder(tmp_path).training) == 1
    refused = 0
    for content in damaged:
        (tmp_path / "train/a/1.png").write_bytes(content)
        try:
            assert image_folder(tmp_path).training.pixels.shape == (1, 224, 224, 3)
        except DataError:
            refused += 1
    assert refused >= 4


@pytest.mark.parametrize("line", [b"../../secret.png", b"/etc/passwd", b"a/../b", b"a", b"\xff/a"])
def test_a_list_of_pictures_names_files_of_its_folder(tmp_path, line):
    written(tmp_path, {"Images/a/1.png": b"", "TestImages.txt": line, "TrainImages.txt": line})
    with pytest.raises(DataError, match=r"TrainImages.txt"):
        image_folder(tmp_path)
