"""The domain that a model states itself: input ranges in its file or its metadata."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.domain._box import Box, spell
from reluce.errors import DomainError
from reluce.network import Array, Network


def stated_box(network: Network, ends: Mapping[str, tuple[Array, Array]], source: str) -> Box:
    """The box that a model states itself.

    Parameters
    ----------
    network
        The network.
    ends
        For each graph input ``(lower, upper)``, object arrays of ``Fraction`` with the input's sample shape; an end
        that the model leaves open is ``None``.
    source
        Who states them, for reports.

    Raises
    ------
    DomainError
        When an input has no range, or an end of one is left open.
    """
    for name in network.inputs:
        if name not in ends:
            raise DomainError(f"{source}: no range for input {name!r}; give a domain for all inputs")
        for what, side in zip(("lower", "upper"), ends[name], strict=True):
            for place in np.argwhere(np.equal(side, None))[:1]:  # type: ignore[call-overload]
                where = spell(tuple(int(k) for k in place))
                raise DomainError(f"{source}: the range of input {name!r} has no {what} end at coordinate {where}")
    lower: dict[str, Array] = {name: ends[name][0] for name in network.inputs}
    upper: dict[str, Array] = {name: ends[name][1] for name in network.inputs}
    return Box(lower, upper, source)
