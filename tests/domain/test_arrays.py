"""Files of arrays that lie: refused with a reason, before anything is allocated for what they claim."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce.domain import _arrays
from reluce.domain._arrays import DEEPEST, LARGEST_DIRECTORY, LARGEST_HEADER, MOST_MEMBERS, read_arrays
from reluce.errors import DomainError

PLAIN = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"


def npy(header: str = PLAIN, content: bytes = bytes(16), version: bytes = b"\1\0", length: int | None = None) -> bytes:
    form = "<H" if version == b"\1\0" else "<I"
    size = struct.pack(form, len(header) if length is None else length)
    return b"\x93NUMPY" + version + size + header.encode("latin-1") + content


def shaped(shape: str, content: bytes = bytes(16), descr: str = "'<f8'", order: str = "False") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}", content)


def npz(*members: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", how) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def patched(data: bytes, place: int, value: bytes) -> bytes:
    """An archive with other bytes at some place of the one entry of its table of contents."""
    start = data.index(b"PK\1\2") + place
    return data[:start] + value + data[start + len(value) :]


ONE = npz(("lo.npy", npy()))
HOSTILE = {
    "shape too large": (npy(PLAIN.replace("2,", f"{1 << 40},")), "at most 1,073,741,824 are read"),
    "shape of nothing": (npy(PLAIN.replace("2,", f"0, {1 << 62}"), b""), "at most 1,073,741,824 are read"),
    "shape larger": (npy(PLAIN.replace("2", "3")), "cut short: shape .* needs 24 bytes, it has 16"),
    "shape smaller": (npy(PLAIN.replace("2", "1")), "longer than it says: .* needs 8 bytes, it has 16"),
    "negative shape": (shaped("(-2,)"), "impossible shape"),
    "shape of truth values": (shaped("(True, 2)"), "impossible shape"),
    "too many axes": (shaped(f"({'1,' * (DEEPEST + 1)})", bytes(8)), "impossible shape"),
    "wider type": (npy(PLAIN.replace("f8", "f4")), "longer than it says"),
    "objects": (shaped("(2,)", descr="'|O'"), "Python objects"),
    "records": (shaped("(2,)", descr="[('a', '<f8')]"), "records"),
    "void": (shaped("(2,)", descr="'|V8'"), "holds '|V8', not numbers"),
    "dates": (shaped("(2,)", descr="'<M8[s]'"), "not numbers"),
    "text of no length": (shaped(f"({1 << 29},)", b"", descr="'<U0'"), "not numbers"),
    "no such type": (shaped("(2,)", descr="'<f3'"), "not numbers"),
    "truth values": (shaped("(2,)", b"\0\2", descr="'|b1'"), "truth values other than 0 and 1"),
    "order": (shaped("(2,)", order="0"), "header is damaged"),
    "another key": (npy(PLAIN.replace("}", "'more': 1}")), "header is damaged"),
    "nested": (npy("(" * 900), "header is damaged"),
    "signs": (npy("-" * 900 + "1"), "header is damaged"),
    "an escape": (npy(PLAIN.replace("<f8", "\\d")), "header is damaged"),
    "digits": (shaped(f"({'9' * 1900},)"), "at most 1,073,741,824 are read|impossible|damaged"),
    "long header": (npy(PLAIN + " " * LARGEST_HEADER), "header has 2,057 characters"),
    "header of gigabytes": (npy(version=b"\2\0", length=(1 << 32) - 1), "header has 4,294,967,295 characters"),
    "version": (npy(version=b"\3\0"), "version of the format"),
    "no version": (b"\x93NUMPY", "version of the format"),
    "header cut": (b"\x93NUMPY\1\0\x76", "cannot be read"),
    "trailing": (npy() + b"\0", "longer than it says"),
    "archive, twice": (npz(("lo.npy", npy()), ("lo.npy", npy())), "'lo' is there twice"),
    "archive, twice in effect": (npz(("lo.npy", npy()), ("lo", npy())), "'lo' is there twice"),
    "archive, members": (npz(*((f"{k}", b"") for k in range(MOST_MEMBERS + 1))), "1,001 members"),
    "archive, pickle": (npz(("lo.npy", b"\x80\x04K\0.")), "'lo': it is no array"),
    "archive, bzip2": (npz(("lo.npy", npy()), how=zipfile.ZIP_BZIP2), "compressed in a way"),
    "archive, lzma": (npz(("lo.npy", npy()), how=zipfile.ZIP_LZMA), "compressed in a way"),
    "archive, encrypted": (patched(ONE, 8, b"\1"), "is encrypted"),
    "archive, two sizes": (patched(ONE, 24, struct.pack("<I", 1 << 30)), "has two sizes"),
    "archive, beyond the file": (patched(ONE, 20, struct.pack("<II", 1 << 30, 1 << 30)), "larger than the file"),
    "archive, check sum": (ONE.replace(bytes(16), b"\1" + bytes(15)), "CRC"),
    "archive, version": (patched(ONE, 6, b"\xff"), "version"),
    "archive, long contents": (npz(*((f"{k:0>60000}", b"") for k in range(20))), "table of contents"),
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "some.npz"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    path = written(tmp_path, data)
    with pytest.raises(DomainError, match=message) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as .npy or .npz: ")
    assert len(str(caught.value)) < 3000


def test_the_archive_that_hostile_ones_are_made_of_can_be_read(tmp_path: Path) -> None:
    assert read_arrays(written(tmp_path, ONE))["lo"].tolist() == [0, 0]


def test_a_bomb_is_refused_and_small_archives_may_be_compressed_however_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = npz(("X.npy", shaped("(100000,)", bytes(800_000))), how=zipfile.ZIP_DEFLATED)
    path = written(tmp_path, zeros)
    assert len(zeros) < 2000
    assert not read_arrays(path)["X"].any()
    monkeypatch.setattr(_arrays, "SMALL", 700_000)
    with pytest.raises(DomainError, match=r"would become 800,0.. bytes, more than 100 times"):
        read_arrays(path)


def test_a_lie_about_sizes_allocates_nothing(tmp_path: Path) -> None:
    import tracemalloc

    claim = shaped(f"({1 << 29},)", bytes(100_000))
    lies = [claim, npz(("X.npy", claim), how=zipfile.ZIP_DEFLATED)]
    lies += [patched(lies[1], 24, struct.pack("<I", (1 << 32) - 2))]
    for data in lies:
        path = written(tmp_path, data)
        tracemalloc.start()
        with pytest.raises(DomainError):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DomainError, match="not a regular file"):
            read_arrays(path)


TYPES = ("<f8", ">f8", "<f4", "<f2", "<i8", ">i4", "|u1", "|b1", "<U3", "|S2", "<c16")


@given(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=4), st.booleans(), st.booleans(), st.integers(0, 3))
def test_what_numpy_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, shape: list[int], turned: bool, packed: bool, seed: int
) -> None:
    array: Any = np.random.default_rng(seed).integers(0, 2, shape).astype(name)
    array = np.asfortranarray(array) if turned else array
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "a.npy", array)
    (np.savez_compressed if packed else np.savez)(folder / "a.npz", a=array, b=np.zeros(()))
    for found in (read_arrays(folder / "a.npy")["X"], read_arrays(folder / "a.npz")["a"]):
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tolist() == array.tolist()


def test_the_directory_may_be_as_large_as_it_says(tmp_path: Path) -> None:
    names = [f"{k:0>1000}" for k in range(900)]
    assert sum(map(len, names)) < LARGEST_DIRECTORY
    assert len(read_arrays(written(tmp_path, npz(*((name, npy()) for name in names))))) == 900
