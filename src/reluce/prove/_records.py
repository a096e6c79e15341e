"""Records of what the rungs proved, for a certificate."""

from __future__ import annotations

import numpy as np

from reluce.network import Array
from reluce.prove._branch import Leaves
from reluce.prove._dual import Dual
from reluce.prove._evidence import BoxProof, LeafProof, in_units
from reluce.prove._input_split import InputSplit
from reluce.prove._rigorous import Rigorous


def leaf_proof(leaves: Leaves, dual: Dual, row: int, sign: float) -> LeafProof:
    """The record of a finished branch and bound on one coordinate."""
    count = len(leaves.split)
    return LeafProof(
        tensor=dual.tensor,
        row=int(row),
        sign=int(sign),
        places=leaves.places,
        above=in_units(Rigorous(dual).above),
        split=leaves.split,
        kind=np.arange(count),
        alpha=in_units(np.where(dual.unstable & (leaves.split == 0), leaves.alpha, 0.0)),
        beta=np.where(leaves.split == 0, 0.0, leaves.beta),
        upper=leaves.upper,
    )


def box_proofs(outcome: InputSplit, tensor: str, rows: Array, signs: Array) -> list[BoxProof]:
    """The records of what splitting the box has proved of some goals: a tree each, without what nothing needs."""
    proofs = []
    for goals, tree in outcome.trees:
        proved = np.flatnonzero(tree.proved())
        if proved.size:
            mine, kept = goals[proved], tree.only(proved)
            inputs, elements = outcome.inputs, outcome.elements
            proofs.append(BoxProof(tensor, rows[mine], signs[mine].astype(np.int8), inputs, elements, kept))
    return proofs
