import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_tools import Array, digit_arrays, digits

from reluce.errors import DomainError
from reluce.train import Data, load_training_data, training_data

X, Y = np.arange(24, dtype=np.float64).reshape(6, 4), np.array([0, 1, 2, 0, 1, 2])


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_images_are_divided_by_255_in_float32(tmp_path: Path) -> None:
    data = load_training_data(saved(tmp_path / "d.npz", **digit_arrays()))
    assert data.train.x.dtype == torch.uint8
    expected = digit_arrays()["train_x"].astype(np.float32) / np.float32(255)
    assert (data.train.inputs(slice(None)).numpy() == expected).all()
    assert data.train.shape == (8, 8)
    assert data.test is not None
    assert (len(data.train), len(data.test), data.classes) == (600, 200, 10)
    assert data.range == (0.0, 1.0)
    assert data.without_test().test is None


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint16])
def test_other_numbers_stay_as_they_are(kind: Any) -> None:
    data = training_data({"train_x": X.astype(kind), "train_y": Y})
    assert data.train.x.dtype == torch.float32
    assert (data.train.inputs(torch.tensor([1, 3])).numpy() == X[[1, 3]]).all()
    assert data.range == (0.0, 23.0)
    assert data.test is None


def test_short_names_and_other_arrays(tmp_path: Path) -> None:
    data = load_training_data(saved(tmp_path / "d.npz", x=X, y=Y.astype(np.uint8), notes=np.array(["text"])))
    assert (data.train.x.numpy() == X).all()
    assert data.train.y.dtype == torch.int64


def test_arrays_are_copied() -> None:
    x = X.astype(np.float32)
    data = training_data({"train_x": x, "train_y": Y})
    x[:] = 0
    assert data.train.x.sum() == X.sum()


def without(*names: str) -> dict[str, Array]:
    return {name: array for name, array in digit_arrays().items() if name not in names}


def changed(**arrays: Any) -> dict[str, Any]:
    return {**digit_arrays(), **{name: np.asarray(array) for name, array in arrays.items()}}


NAN = digit_arrays()["train_x"].astype(np.float64)
NAN[7, 3, 3] = np.nan
MANY = [0] * 599
WRONG: list[tuple[dict[str, Any], str]] = [
    (without("train_y"), "d: no array 'train_y' (found 'train_x', 'test_x', 'test_y'); training needs train_x and"),
    (without("train_x"), "no array 'train_x'"),
    (without("test_y"), "no array 'test_y' (found 'train_x', 'train_y', 'test_x')"),
    ({}, "no array 'train_x' (found nothing)"),
    (changed(train_x=digit_arrays()["train_x"][:-1]), "d: 'train_x' has 599 samples, 'train_y' 600 labels; there must"),
    (changed(test_y=[1, 2]), "d: 'test_x' has 200 samples, 'test_y' 2 labels"),
    (changed(train_x=NAN), "d: 'train_x' has NaN or a number beyond float32 in 1 samples, first in 7"),
    (changed(train_x=np.full((600, 4), 1e300)), "NaN or a number beyond float32 in 600 samples, first in 0"),
    (changed(train_x=np.full((600, 4), "a")), "d: 'train_x' holds <U1, not numbers"),
    (changed(train_x=np.zeros((600, 4), complex)), "d: 'train_x' holds complex128, not numbers"),
    (changed(train_x=np.zeros(600)), "d: 'train_x' has shape (600,); give (samples, ...)"),
    (changed(train_x=np.zeros((600, 0))), "d: 'train_x' has shape (600, 0)"),
    (changed(train_x=np.zeros((0, 4)), train_y=np.zeros(0, int)), "'train_x' has shape (0, 4)"),
    (changed(train_y=np.zeros(600)), "d: 'train_y' holds float64; give labels as integers, such as y.astype(numpy.int"),
    (changed(train_y=np.zeros((600, 10), int)), "d: 'train_y' has shape (600, 10); give one label for each sample"),
    (changed(train_y=[*MANY, -2]), "d: 'train_y' has label -2 at 599; number classes from 0"),
    (changed(train_y=[*MANY, 10**9]), "d: 'train_y' has label 1000000000 for 600 samples; number classes from 0"),
    (
        changed(train_y=np.array([*MANY, 2**63], np.uint64)),
        "d: 'train_y' has label 9223372036854775808; number classes",
    ),
    (changed(train_y=[0] * 600), "d: 'train_y' has one class only; there is nothing to learn"),
    (changed(test_y=[10] * 200), "d: 'test_y' has label 10, 'train_y' none above 9"),
    (changed(test_x=np.zeros((200, 9), np.uint8)), "samples of 'test_x' are (9,) of uint8, those of 'train_x' (8, 8)"),
    (
        changed(test_x=np.zeros((200, 8, 8))),
        "samples of 'test_x' are (8, 8) of float32, those of 'train_x' (8, 8) of u",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG, ids=range(len(WRONG)))
def test_arrays_that_do_not_fit(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DomainError) as raised:
        training_data(arrays, "d")
    assert message in str(raised.value)


def bytes_of(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.npz", **digit_arrays()).read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 3] ^= 1
    cases = {
        "single.npz": (bytes_of(X), "no array 'train_x' (found 'X')"),
        "text.npz": (b"hello", "cannot be read as .npy or .npz: "),
        "empty.npz": (b"", "cannot be read as .npy or .npz: "),
        "cut.npz": (good[: len(good) // 2], "cannot be read as .npy or .npz: "),
        "flipped.npz": (bytes(flipped), "cannot be read as .npy or .npz: "),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DomainError) as raised:
            load_training_data(path)
        assert str(raised.value).startswith(f"{path}: {message}")
    with pytest.raises(DomainError, match=r"cannot be read as \.npy or \.npz: no such file"):
        load_training_data(tmp_path / "nowhere.npz")
    with pytest.raises(DomainError, match=r"cannot be read as \.npy or \.npz: "):
        load_training_data(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DomainError, match="not a regular file"):
        load_training_data(tmp_path / "pipe.npz")


def test_archives_that_hold_something_else(tmp_path: Path) -> None:
    pickled = saved(tmp_path / "a.npz", train_x=np.array([{}, {}], object), train_y=Y)
    with pytest.raises(DomainError, match=r"cannot be read as \.npy or \.npz: its member .train_x.: "):
        load_training_data(pickled)
    with pytest.raises(DomainError, match="holds both 'x' and 'train_x'; leave one of them out"):
        load_training_data(saved(tmp_path / "b.npz", x=X, train_x=X, train_y=Y))
    with pytest.raises(DomainError, match=r"no array 'train_x' \(found 'images', 'train_y'\)"):
        load_training_data(saved(tmp_path / "c.npz", images=X, y=Y))


# Splits and digests


def rows(data: Any) -> set[bytes]:
    return {row.tobytes() for row in data.x.numpy()}


def test_a_split_parts_the_training_samples() -> None:
    train, valid = digits().split(0.25, seed=3)
    assert valid is not None
    assert (len(train), len(valid)) == (450, 150)
    assert rows(train) | rows(valid) == rows(digits().train)
    again, other = digits().split(0.25, seed=3)[1], digits().split(0.25, seed=4)[1]
    assert again is not None
    assert other is not None
    assert torch.equal(valid.x, again.x)
    assert not torch.equal(valid.x, other.x)
    assert digits().split(0.0, seed=3) == (digits().train, None)


def test_a_split_that_leaves_nothing() -> None:
    data = training_data({"train_x": X, "train_y": Y})
    with pytest.raises(DomainError, match=r"0\.01 of 6 samples are 0: too few samples to validate on"):
        data.split(0.01, 0)
    with pytest.raises(DomainError, match=r"0\.99 of 6 samples are 6: too few"):
        data.split(0.99, 0)


def test_the_digest_is_of_the_training_samples() -> None:
    def digest(**arrays: Any) -> str:
        return training_data({"train_x": X, "train_y": Y, **arrays}).digest

    other = X.copy()
    other[5, 3] = 22
    assert digest() == digest(test_x=X, test_y=Y)
    different = {digest(), digest(train_x=other), digest(train_x=X.reshape(6, 2, 2)), digest(train_y=Y[::-1])}
    assert len(different | {digest(train_x=X.astype(np.uint8))}) == 5
    assert isinstance(digits(), Data)
