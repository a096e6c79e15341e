"""Augmentation of a batch of images: moved by some pixels, mirrored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def augmented(images: Tensor, shift: int, flip: bool, random: torch.Generator) -> Tensor:
    """Images ``(batch, ..., height, width)``, each moved and mirrored by chance.

    Parameters
    ----------
    images
        Float images.
    shift
        By how many pixels they are moved at most, up, down, left and right; what comes in is 0.
    flip
        Whether each is mirrored, left to right, half of the time.
    random
        What the chances are drawn from.
    """
    count, height, width = len(images), images.shape[-2], images.shape[-1]
    if shift:
        wide = pad(images, (shift, shift, shift, shift))
        down, right = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=random)
        rows, columns = down + torch.arange(height), right + torch.arange(width)
        # One index for each image, row and column; the axes between (channels) stay where they are.
        wide = wide.flatten(1, -3) if wide.ndim > 3 else wide.unsqueeze(1)
        moved = wide[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        images = moved.movedim(-1, 1).reshape(images.shape)
    if flip:
        mirrored = torch.rand(count, generator=random) < 0.5
        images = torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)
    return images
