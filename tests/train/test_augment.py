import torch

from reluce.train._augment import augmented


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The image ``(height, width)`` moved, with zeros coming in."""
    height, width = image.shape
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                out[i, j] = image[i - down, j - right]
    return out


def test_each_image_is_moved_by_chance_all_its_channels_alike() -> None:
    images = torch.rand(200, 2, 5, 4, generator=draw()) + 0.1
    found = augmented(images, 1, False, draw(1))
    seen = set()
    for before, after in zip(images, found, strict=True):
        ways = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if all(torch.equal(moved(before[c], down, right), after[c]) for c in range(2))
        ]
        assert len(ways) == 1
        seen.update(ways)
    assert len(seen) == 9


def test_images_without_channels() -> None:
    images = torch.rand(50, 5, 4, generator=draw()) + 0.1
    assert torch.equal(augmented(images[:, None], 2, True, draw(1))[:, 0], augmented(images, 2, True, draw(1)))


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(200, 3, 5, 4, generator=draw())
    found = augmented(images, 0, True, draw(1))
    mirrored = torch.tensor([torch.equal(a.flip(-1), b) for a, b in zip(images, found, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(images, found, strict=True)])
    assert (mirrored ^ same).all()
    assert 60 < int(mirrored.sum()) < 140


def test_nothing_to_do() -> None:
    images = torch.rand(5, 3, 3)
    assert augmented(images, 0, False, draw()) is images
