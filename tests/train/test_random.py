import torch

from reluce.train._random import PURPOSES, generator


def test_each_seed_purpose_and_epoch_has_numbers_of_its_own() -> None:
    drawn = {
        tuple(torch.randint(2**60, (2,), generator=generator(seed, purpose, epoch)).tolist())
        for seed in (0, 1, 2**40)
        for purpose in PURPOSES
        for epoch in (0, 1, 29)
    }
    assert len(drawn) == 3 * len(PURPOSES) * 3


def test_the_numbers_are_always_the_same() -> None:
    assert torch.equal(*(torch.randperm(50, generator=generator(7, "order", 3)) for _ in range(2)))
