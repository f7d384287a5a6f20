import pytest
import torch

from rebuttal.data.pixels import corrupt_pixels

IMAGES = torch.randint(0, 200, (40, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
# Each location its own colour, so that a permutation can be read off the image.
MARKED = torch.arange(42, dtype=torch.uint8).reshape(1, 1, 6, 7).repeat(40, 3, 1, 1)


def test_original_pixels_are_unchanged():
    assert torch.equal(corrupt_pixels(IMAGES, "original", "train", 0), IMAGES)


@pytest.mark.parametrize("kind", ["shuffled", "random"])
def test_locations_are_permuted_and_channels_stay_together(kind):
    result = corrupt_pixels(MARKED, kind, "train", 0)
    assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 0], result[:, 2])
    assert torch.equal(result.flatten(2).sort(dim=2).values, MARKED.flatten(2))
    assert not torch.equal(result, MARKED)


def test_shuffled_is_one_permutation_for_all_images_and_splits():
    train, test = (corrupt_pixels(MARKED, "shuffled", split, 0) for split in ("train", "test"))
    assert len(train.unique(dim=0)) == 1
    assert torch.equal(train, test)


def test_random_is_a_permutation_of_its_own_for_each_image():
    assert len(corrupt_pixels(MARKED, "random", "train", 0).unique(dim=0)) == 40


def test_gaussian_matches_each_channel_s_mean_and_variance():
    images = torch.randint(0, 256, (2000, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images[:, 1] //= 2
    unit = images.double() / 255
    noise = corrupt_pixels(images, "gaussian", "train", 0).double()
    assert noise.mean(dim=(0, 2, 3)).tolist() == pytest.approx(unit.mean(dim=(0, 2, 3)).tolist(), abs=0.005)
    assert noise.std(dim=(0, 2, 3)).tolist() == pytest.approx(unit.std(dim=(0, 2, 3)).tolist(), abs=0.005)
