"""The input domain: a closed box with exact rational ends.

Decimals such as 0.1 are kept as the rational numbers that they spell. Where floats are needed, ``outer`` rounds
outward (every statement proved for it holds on the domain) and ``inner`` rounds inward (every float point in it lies in
the domain, so it can serve as a witness).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import nextafter
from pathlib import Path

import numpy as np

from reluce.errors import DomainError
from reluce.network import Array, Network

Ends = tuple[Array, Array]

LARGEST_EXPONENT = 10_000
"""Decimal exponents beyond this are refused; float64 ends at 308."""


@dataclass(frozen=True, eq=False)
class Box:
    """A box for each graph input.

    Parameters
    ----------
    lower, upper
        For each graph input an object array of ``Fraction`` with the input's sample shape.
    description
        How the box was stated, for reports.
    assumption
        True when the box was derived from data: nothing guarantees that later inputs stay inside.

    Raises
    ------
    DomainError
        When a lower end exceeds the upper end; the message names the coordinate.
    """

    lower: Mapping[str, Array]
    upper: Mapping[str, Array]
    description: str = ""
    assumption: bool = False

    def __post_init__(self) -> None:
        for name, low in self.lower.items():
            for index in np.argwhere(low > self.upper[name])[:1]:
                place = tuple(int(i) for i in index)
                raise DomainError(
                    f"domain of input {name!r}: lower end {float(low[place])!r} exceeds upper end "
                    f"{float(self.upper[name][place])!r} at coordinate {_spell(place)}"
                )

    @cached_property
    def outer(self) -> Mapping[str, Ends]:
        """For each input float64 ends ``(lower, upper)`` rounded outward."""
        return {name: (_rounded(self.lower[name], -1), _rounded(self.upper[name], 1)) for name in self.lower}

    @cached_property
    def inner(self) -> Mapping[str, Ends]:
        """For each input float64 ends rounded inward; ``lower > upper`` where no float64 lies between them."""
        return {name: (_rounded(self.lower[name], 1), _rounded(self.upper[name], -1)) for name in self.lower}

    @cached_property
    def has_points(self) -> bool:
        """Whether any float64 point lies in the box."""
        return all(bool((low <= high).all()) for low, high in self.inner.values())

    def contains(self, points: Mapping[str, Array]) -> Array:
        """Which of the given float points lie in the box, exactly; ``points`` are ``(samples, *sample shape)``."""
        masks = []
        for name, (low, high) in self.inner.items():
            x = points[name]
            masks.append(((x >= low) & (x <= high)).reshape(len(x), -1).all(axis=1))
        return np.asarray(np.logical_and.reduce(masks))

    def clip(self, points: Mapping[str, Array]) -> dict[str, Array]:
        """Move points into the box."""
        return {name: np.clip(points[name], low, high) for name, (low, high) in self.inner.items()}

    def sample(self, generator: np.random.Generator, samples: int) -> dict[str, Array]:
        """Uniform random points, ``(samples, *sample shape)`` each."""
        points = {}
        for name, (low, high) in self.inner.items():
            share = generator.random((samples, *low.shape))
            points[name] = low * (1 - share) + high * share
        return self.clip(points)

    def corners(self, generator: np.random.Generator, samples: int) -> dict[str, Array]:
        """The lowest and the highest corner, then random ones; ``samples`` rows in all."""
        points = {}
        for name, (low, high) in self.inner.items():
            high_side = generator.random((samples, *low.shape)) < 0.5
            high_side[0] = False
            high_side[1 % samples] = samples > 1
            points[name] = np.where(high_side, high, low)
        return points

    def to_arrays(self) -> dict[str, Array]:
        """The outward-rounded ends in the layout that ``load_box`` reads."""
        if len(self.lower) == 1:
            ((low, high),) = self.outer.values()
            return {"lo": low, "hi": high}
        arrays = {}
        for name, (low, high) in self.outer.items():
            arrays[f"{name}.lo"], arrays[f"{name}.hi"] = low, high
        return arrays

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the exact ends."""
        state = hashlib.sha256()
        for name in self.lower:
            for ends in (self.lower[name], self.upper[name]):
                state.update(repr((name, ends.shape)).encode())
                known: dict[int, str] = {}
                state.update(";".join(known.setdefault(id(value), str(value)) for value in ends.ravel()).encode())
        return state.hexdigest()

    def to_bytes(self) -> bytes:
        """The box as an ``.npz`` file that ``load_box`` reads."""
        buffer = io.BytesIO()
        np.savez(buffer, **self.to_arrays())  # type: ignore[arg-type]
        return buffer.getvalue()


DomainLike = Box | str | Path | Sequence[str] | Mapping[str, Array]
"""Whatever ``make_box`` understands."""


def make_box(network: Network, domain: DomainLike) -> Box:
    """The box that a user means: a ``Box``, ranges, the path of an ``.npz`` file, or arrays ``lo`` and ``hi``.

    Raises
    ------
    DomainError
        When it cannot be read or does not fit the network's inputs.
    """
    if isinstance(domain, Box):
        return _fitting(network, domain)
    if isinstance(domain, Mapping):
        return _box_from_arrays(network, {key: np.asarray(value) for key, value in domain.items()}, "box")
    if isinstance(domain, Path) or (isinstance(domain, str) and domain.endswith(".npz")):
        return load_box(network, domain)
    return box_from_ranges(network, [domain] if isinstance(domain, str) else list(domain))


def _fitting(network: Network, box: Box) -> Box:
    for name in network.inputs:
        if name not in box.lower:
            raise DomainError(f"no domain for input {name!r}; the box has {_names(box.lower)}")
        if box.lower[name].shape != _input_shape(network, name):
            raise DomainError(
                f"domain of input {name!r} has shape {box.lower[name].shape}, expected {_input_shape(network, name)}"
            )
    return box


def box_from_ranges(network: Network, ranges: Sequence[str]) -> Box:
    """A box from ``LO,HI`` (all inputs) and ``NAME=LO,HI`` specifications.

    Raises
    ------
    DomainError
        When a specification cannot be read, names an unknown input, or an input is left without a domain.
    """
    ends: dict[str, tuple[Fraction, Fraction]] = {}
    general: tuple[Fraction, Fraction] | None = None
    for text in ranges:
        name, separator, interval = text.rpartition("=")
        pair = _interval(interval, text)
        if not separator:
            general = pair
        elif name not in network.inputs:
            raise DomainError(f"--range {text!r}: the network has no input {name!r}; it has {_names(network.inputs)}")
        else:
            ends[name] = pair
    if general is not None:
        ends = {name: ends.get(name, general) for name in network.inputs}
    _demand_all(network, ends)
    shapes = {name: _input_shape(network, name) for name in network.inputs}
    return Box(
        {name: np.full(shapes[name], ends[name][0], dtype=object) for name in network.inputs},
        {name: np.full(shapes[name], ends[name][1], dtype=object) for name in network.inputs},
        "range " + " ".join(ranges),
    )


def load_box(network: Network, path: str | Path) -> Box:
    """A box from an ``.npz`` file with arrays ``lo`` and ``hi``, or ``NAME.lo`` and ``NAME.hi`` for several inputs.

    Raises
    ------
    DomainError
        When the file cannot be read, an array is missing or has the wrong size, or holds NaN or lo > hi.
    """
    return _box_from_arrays(network, _read_arrays(path), Path(path).name)


def _box_from_arrays(network: Network, arrays: Mapping[str, Array], label: str) -> Box:
    lower, upper = {}, {}
    for name in network.inputs:
        prefix = f"{name}." if f"{name}.lo" in arrays or len(network.inputs) > 1 else ""
        for key in (f"{prefix}lo", f"{prefix}hi"):
            if key not in arrays:
                raise DomainError(
                    f"{label}: no domain for input {name!r}: array {key!r} is missing (found {_names(arrays)})"
                )
        lower[name] = _exact(arrays[f"{prefix}lo"], _input_shape(network, name), f"{label}: {prefix}lo")
        upper[name] = _exact(arrays[f"{prefix}hi"], _input_shape(network, name), f"{label}: {prefix}hi")
    return Box(lower, upper, f"box {label}")


def box_from_data(network: Network, data: Mapping[str, Array], margin: str = "0", label: str = "data") -> Box:
    """The smallest box around data, widened by a margin. An assumption: nothing keeps later inputs inside.

    Parameters
    ----------
    network
        The network whose inputs the data feeds.
    data
        For each graph input an array ``(samples, *sample shape)``.
    margin
        A non-negative decimal, added on either side of every coordinate.
    label
        Where the data came from, for reports.
    """
    width = _decimal(margin, f"--margin {margin!r}")
    if width < 0:
        raise DomainError(f"--margin {margin!r}: the margin must not be negative")
    lower, upper = {}, {}
    for name in network.inputs:
        shape = _input_shape(network, name)
        # Rounded outward, so that the box that is used is the box that a file can hold.
        low = _exact(data[name].min(axis=0), shape, f"{label}: least value of {name}") - width
        high = _exact(data[name].max(axis=0), shape, f"{label}: largest value of {name}") + width
        lower[name] = _exact(_rounded(low, -1), shape, f"{label}: least value of {name}")
        upper[name] = _exact(_rounded(high, 1), shape, f"{label}: largest value of {name}")
    return Box(lower, upper, f"data {label} with margin {margin}", assumption=True)


def load_data(network: Network, path: str | Path) -> dict[str, Array]:
    """Samples from an ``.npy`` file (one input), or an ``.npz`` file with one array per input.

    Returns
    -------
    dict
        For each graph input a float64 array ``(samples, *sample shape)``.

    Raises
    ------
    DomainError
        When the file cannot be read or its arrays do not fit the network's inputs.
    """
    arrays = _read_arrays(path)
    if len(network.inputs) == 1 and network.inputs[0] not in arrays:
        key = "X" if "X" in arrays else next(iter(arrays), "")
        arrays = {network.inputs[0]: arrays[key]} if key else {}
    return fit_data(network, arrays, str(path))


def fit_data(network: Network, arrays: Mapping[str, Array], label: str = "data") -> dict[str, Array]:
    """Bring samples into the sample shapes of the inputs: one array per input, one row per sample.

    Raises
    ------
    DomainError
        When an input has no array, sizes do not fit, or the numbers of samples differ.
    """
    data = {}
    for name in network.inputs:
        if name not in arrays:
            raise DomainError(f"{label}: no array for input {name!r} (found {_names(arrays)})")
        values, shape = np.asarray(arrays[name]), _input_shape(network, name)
        if values.dtype.kind not in "fiub":
            raise DomainError(f"{label}: array for input {name!r} holds {values.dtype}, not numbers")
        size = int(np.prod(shape, dtype=np.int64))
        if values.ndim == 0 or len(values) == 0 or values[0].size != size:
            raise DomainError(
                f"{label}: array for input {name!r} has shape {values.shape}; "
                f"expected one row per sample with {size} values each (shape {shape})"
            )
        data[name] = values.reshape(len(values), *shape).astype(np.float64)
    if len({len(values) for values in data.values()}) > 1:
        raise DomainError(f"{label}: the inputs have different numbers of samples")
    return data


def _read_arrays(path: str | Path) -> dict[str, Array]:
    try:
        with Path(path).open("rb") as file:  # numpy leaves a broken file open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"X": loaded}
            with loaded:
                arrays = {key: loaded[key] for key in loaded.files}
    except Exception as error:  # numpy and zipfile let through whatever their parsers meet
        raise DomainError(f"{path}: cannot be read as .npy or .npz: {str(error) or type(error).__name__}") from error
    for key, values in arrays.items():
        if not isinstance(values, np.ndarray):
            raise DomainError(f"{path}: cannot be read as .npy or .npz: its member {key!r} is no array")
    return arrays


def _exact(values: Array, shape: tuple[int, ...], label: str) -> Array:
    size = int(np.prod(shape, dtype=np.int64))
    if values.dtype.kind not in "fiub":
        raise DomainError(f"{label}: holds {values.dtype}, not numbers")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        raise DomainError(f"{label}: holds {values.dtype}; store float64")
    if values.size != size:
        first = min(values.size, size)
        raise DomainError(f"{label}: has {values.size} values, expected {size}; the first at fault is number {first}")
    values = values.reshape(shape)
    for index in np.argwhere(~np.isfinite(values))[:1] if values.dtype.kind == "f" else ():
        place = tuple(int(i) for i in index)
        raise DomainError(f"{label}: {values[place]} at coordinate {_spell(place)}")
    known: dict[object, Fraction] = {}
    flat = [known.setdefault(value, Fraction(value)) for value in values.ravel().tolist()]
    result = np.empty(size, dtype=object)
    result[:] = flat
    return result.reshape(shape)


def _rounded(ends: Array, direction: int) -> Array:
    known: dict[int, float] = {}
    flat = ends.ravel()
    result = np.empty(flat.size, dtype=np.float64)
    for i, value in enumerate(flat):
        key = id(value)
        if key not in known:
            known[key] = _directed(value, direction)
        result[i] = known[key]
    return result.reshape(ends.shape)


def _directed(value: Fraction, direction: int) -> float:
    nearest = float(value)
    if direction > 0 and Fraction(nearest) < value:
        return nextafter(nearest, float("inf"))
    if direction < 0 and Fraction(nearest) > value:
        return nextafter(nearest, float("-inf"))
    return nearest


def _interval(text: str, whole: str) -> tuple[Fraction, Fraction]:
    parts = text.split(",")
    if len(parts) != 2:
        raise DomainError(f"--range {whole!r}: expected LO,HI or NAME=LO,HI")
    low, high = (_decimal(part.strip(), f"--range {whole!r}") for part in parts)
    if low > high:
        raise DomainError(f"--range {whole!r}: the lower end exceeds the upper end")
    return low, high


def _decimal(text: str, label: str) -> Fraction:
    try:
        exponent = text.lower().partition("e")[2]
        if exponent and abs(int(exponent)) > LARGEST_EXPONENT:  # Fraction would write out all its digits
            raise OverflowError
        value = Fraction(text)
        float(value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise DomainError(f"{label}: {text!r} is not a finite decimal number") from error
    return value


def _demand_all(network: Network, ends: Mapping[str, object]) -> None:
    for name in network.inputs:
        if name not in ends:
            raise DomainError(f"no domain for input {name!r}; give --range {name}=LO,HI")


def _input_shape(network: Network, name: str) -> tuple[int, ...]:
    shape = network.tensors[name].shape
    if shape is None:
        raise DomainError(
            f"input {name!r} has dimensions that the model leaves open; fix them with --input-shape {name}:D0,D1,..."
        )
    return shape


def _spell(place: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, place)) + "]"


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
