"""Data sets made to do harm: files that claim to be huge, unpack without end or lead elsewhere."""

import io
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from bench.common.content import LIMIT, read_content, tar_members
from bench.common.data import load
from bench.common.images import DataError
from bench.common.pickled import read_pickle, rows_of
from bench.common.pictures import image_folder
from tests.test_data import arrays
from tests.test_data_cifar import binary_batch
from tests.test_data_damaged import cifar10, color_image, idx, mutate, tar, written, zipped


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
