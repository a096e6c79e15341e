"""Reading and writing of networks that nobody of this project made."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from io_tools import copied, session

from reluce.io import load, loads, serialise

FOLDER = Path(os.environ.get("RELUCE_DATA") or Path(__file__).resolve().parents[3] / "shared") / "networks"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.onnx*")) or [
    "the folder of networks is missing"
]
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


def feeds(model: onnxruntime.InferenceSession, batch: int) -> dict[str, Any]:
    rng, found = np.random.default_rng(0), {}
    for info in model.get_inputs():
        shape = [
            dim if isinstance(dim, int) and dim > 0 else batch if k == 0 else 3 for k, dim in enumerate(info.shape)
        ]
        found[info.name] = rng.normal(size=shape).astype(DTYPES[info.type])
    return found


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_a_public_network_survives_reading_and_writing(name: str, shared: Path) -> None:
    loaded = load(shared / "networks" / name)
    assert serialise(loaded, loaded.network, {}) is loaded.data
    data = serialise(loaded, copied(loaded.network), {"key": "value"})
    assert len(loads(data).network.opaque) == len(loaded.network.opaque)
    try:
        old = session(loaded.data)
    except Exception:  # the runtime refuses some of these files as they are
        return
    new = session(data)
    ran = 0
    for batch in (1, 3):
        values = feeds(old, batch)
        try:
            wanted = old.run(None, values)
        except Exception:  # a declared batch that the network does not keep
            continue
        ran += 1
        for a, b in zip(new.run(None, values), wanted, strict=True):
            assert a.shape == b.shape
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some of them overflow on random inputs
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * (1 + np.nanmax(np.abs(b), initial=0)))
    assert ran
