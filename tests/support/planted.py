"""Networks with planted redundancy: the inverse of each rewrite, in any combination, from a core that is known.

Every inverse puts something into a network and leaves the function on the box as it is, exactly; what can be got back
is the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import planted_linear
import planted_unneeded
from planting import Net, Rng

Inverse = Callable[[Net, Rng], Net]


@dataclass(frozen=True)
class Added:
    """What one inverse put in."""

    kind: str
    units: int
    parameters: int
    inputs: int


@dataclass(frozen=True, eq=False)
class Planted:
    """A network that computes what its core computes, and how it came about."""

    net: Net
    core: Net
    added: tuple[Added, ...]


def planted(core: Net, kinds: Sequence[str], seed: int) -> Planted:
    """Apply the inverses of these kinds to a core, in this order."""
    rng = np.random.default_rng([seed, *map(list(INVERSES).index, kinds)])
    net, added = core, []
    for kind in kinds:
        before, net = net, INVERSES[kind](net, rng)
        more = (sum(net.units) - sum(before.units), net.parameters - before.parameters, len(net.low) - len(before.low))
        added.append(Added(kind, *more))
    return Planted(net, core, tuple(added))


INVERSES: Mapping[str, Inverse] = {
    inverse.__name__.replace("_", " "): inverse
    for inverse in (
        planted_unneeded.inactive,
        planted_unneeded.constant,
        planted_unneeded.unread,
        planted_unneeded.unread_chain,
        planted_unneeded.read_by_inactive,
        planted_unneeded.unread_inputs,
        planted_unneeded.fixed_inputs,
        planted_linear.duplicates,
        planted_linear.multiples_of_two,
        planted_linear.positive_multiples,
        planted_linear.opposite_pair,
        planted_linear.hyperplane_class,
        planted_linear.affine_class,
        planted_linear.turned_over,
        planted_linear.input_rank,
        planted_linear.joint_rank,
        planted_linear.rank_by_fixed_input,
        planted_linear.linear_layer,
        planted_linear.lumping,
    )
}
"""By name: what each puts in."""
