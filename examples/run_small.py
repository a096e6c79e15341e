"""Run the original and the compressed network side by side on the digits that neither was trained on.

Prints each network's size and accuracy, and the largest difference between their logits; exits with 1 when they
disagree on an image's class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from train_digits import Array, accuracy, load


def logits_of(path: Path, images: Array) -> Array:
    """Return what onnxruntime computes for ``images`` ``(N, 64)``: logits ``(N, 10)``."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(logits)


def parameters_of(path: Path) -> int:
    """Return the number of stored parameters."""
    return sum(numpy_helper.to_array(tensor).size for tensor in onnx.load(path).graph.initializer)


def main() -> int:
    """Compare the two files; return the exit status."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Compare the original and the compressed digits network.")
    parser.add_argument("original", type=Path, nargs="?", default=here / "digits.onnx")
    parser.add_argument("small", type=Path, nargs="?", default=here.parent / "build" / "digits-within.onnx")
    arguments = parser.parse_args()
    digits = load()
    computed = []
    print(f"{'network':<20} {'parameters':>10} {'bytes':>8} {'accuracy':>9}")
    for path in (arguments.original, arguments.small):
        logits = logits_of(path, digits.test_x)
        computed.append(logits)
        score = accuracy(logits, digits.test_y)
        print(f"{path.name:<20} {parameters_of(path):>10,} {path.stat().st_size:>8,} {score:>9.4f}")
    original, small = computed
    disagree = int(np.sum(original.argmax(axis=1) != small.argmax(axis=1)))
    print(f"largest difference of a logit on {len(original)} test images: {np.abs(original - small).max():.3g}")
    print(f"images classified differently: {disagree}")
    return 1 if disagree else 0


if __name__ == "__main__":
    raise SystemExit(main())
