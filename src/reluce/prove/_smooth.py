"""A smooth surrogate of a network for search: every ReLU becomes an ELU whose tail is annealed away.

    elu_t(z) = z for z > 0,   t (exp(z / t) - 1) otherwise;    t = share * median |z| of the layer, per sample

The best points of plain gradient ascent in late layers sit where all units that help are dead, and the gradient is
zero. The ELU still has one near the kink, and only near it; as its tail shrinks to nothing, the surrogate becomes the
network. These are search directions only. Source: measured in FRONTIER, section 2 (annealed ELU surrogates).

Where the outputs of ReLUs have to stay positive, the softplus does the same:

    softplus_t(z) = t log(1 + exp(z / t))
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.network import Array, Network, evaluate


def surrogate(
    network: Network, points: Mapping[str, Array], until: str, share: float, positive: bool = False
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Evaluate the surrogate.

    Parameters
    ----------
    network
        The network.
    points
        For each graph input ``(samples, *sample shape)``.
    until
        The tensor that is wanted.
    share
        Scale of the tails; 0 for the network itself.
    positive
        Whether the tails are those of the softplus.

    Returns
    -------
    dict, dict
        Every tensor that ``until`` depends on, and for each ReLU's output its derivative.
    """
    slopes: dict[str, Array] = {}

    def relu(name: str, z: Array) -> Array:
        value, slopes[name] = _smooth(z, share, positive)
        return value

    return evaluate(network, points, until, relu), slopes


def _smooth(z: Array, share: float, positive: bool) -> tuple[Array, Array]:
    alive = z > 0
    if share <= 0:
        return np.where(alive, z, 0), alive.astype(z.dtype)
    size = np.median(np.abs(z).reshape(len(z), -1), axis=1).astype(z.dtype).reshape([-1] + [1] * (z.ndim - 1))
    t = np.maximum(share * size, np.finfo(np.float32).tiny * 1e6).astype(z.dtype)
    if positive:
        tail = np.exp(-np.abs(z) / t)
        return np.maximum(z, 0) + t * np.log1p(tail), np.where(alive, 1, tail) / (1 + tail)
    tail = np.exp(np.minimum(z, 0) / t)
    return np.where(alive, z, t * (tail - 1)), np.where(alive, z.dtype.type(1), tail)
