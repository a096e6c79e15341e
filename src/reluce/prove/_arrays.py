"""Where hints are computed: numpy on the CPU, torch on a GPU, through the Python array API standard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reluce.errors import UsageError
from reluce.network import Array

XArray = Any
"""An array of the namespace in use."""


@dataclass(frozen=True)
class Arrays:
    """A namespace of the array API, the device and the precision.

    ``device`` is ``cpu`` (numpy) or what torch calls a device (``cuda``, ``cuda:1``, ``mps``, ``torch:cpu``).
    """

    device: str = "cpu"
    single: bool = True

    @property
    def xp(self) -> Any:
        """The namespace."""
        if self.device == "cpu":
            import array_api_compat.numpy as namespace

            return namespace
        try:
            import array_api_compat.torch as torch_namespace
        except ImportError as error:
            raise UsageError(f'device {self.device!r} needs torch: pip install "reluce[torch]"') from error
        return torch_namespace

    def demand(self) -> None:
        """Raise ``UsageError`` where the device cannot be used."""
        namespace = self.xp  # says itself what is not installed
        try:
            namespace.zeros((1,), **self._where)
        except (RuntimeError, AssertionError, ValueError) as error:  # what torch raises for a device that is not there
            raise UsageError(f"device {self.device!r} cannot be used: {error}") from error

    @property
    def _where(self) -> dict[str, Any]:
        return {} if self.device == "cpu" else {"device": self.device.removeprefix("torch:")}

    def of(self, values: Array) -> XArray:
        """An array from numpy."""
        return self._moved(np.ascontiguousarray(values, dtype=np.float32 if self.single else np.float64))

    def mask(self, values: Array) -> XArray:
        """A mask from numpy."""
        return self._moved(np.ascontiguousarray(values, dtype=bool))

    def indices(self, values: Array) -> XArray:
        """Indices from numpy."""
        return self._moved(np.ascontiguousarray(values, dtype=np.int64))

    def _moved(self, values: Array) -> XArray:
        return values if self.device == "cpu" else self.xp.asarray(values.copy(), **self._where)  # torch wants its own

    def zeros(self, shape: tuple[int, ...]) -> XArray:
        """Zeros."""
        return self.xp.zeros(shape, dtype=self.xp.float32 if self.single else self.xp.float64, **self._where)

    def numpy(self, values: XArray) -> Array:
        """An array back on the host."""
        return np.asarray(values if self.device == "cpu" else values.cpu().numpy())
