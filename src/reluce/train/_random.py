"""Random numbers that belong to one purpose each: none is taken from torch's global generator, none is left over.

What is drawn in an epoch depends on the seed and the number of the epoch only, so a run that goes on from a checkpoint
draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

PURPOSES = ("weights", "split", "order", "augmentation")
Purpose = Literal["weights", "split", "order", "augmentation"]


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> torch.Generator:
    """A generator of its own for each seed, purpose and epoch."""
    (state,) = np.random.SeedSequence([seed, PURPOSES.index(purpose), epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))
