import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from rebuttal.data import GaussianNoise, UniformNoise


@pytest.mark.parametrize("shape", [(100,), (3, 32, 32), (1, 5, 7)])
def test_shapes_and_splits(shape):
    noise = UniformNoise(shape=shape, classes=7, train_size=50, student_size=40, test_size=30)
    splits = {split: noise.examples(split, 0) for split in ("train", "student", "test")}
    assert [len(s) for s in splits.values()] == [50, 40, 30]
    for examples in splits.values():
        assert examples.inputs.shape[1:] == shape
        assert examples.inputs.dtype == torch.float32
    every = torch.cat([s.inputs.flatten(1) for s in splits.values()])
    assert len(every.unique(dim=0)) == 120  # the splits share no input


def test_uniform_noise_is_uniform_and_its_labels_are_independent_of_it():
    examples = UniformNoise(shape=(20,), train_size=20_000).examples("train", 0)
    assert kstest(examples.inputs.flatten().numpy()[:50_000], "uniform").pvalue > 1e-3
    assert chisquare(examples.labels.bincount(minlength=10).numpy()).pvalue > 1e-3
    by_class = torch.stack([examples.inputs[examples.labels == k].mean(dim=0) for k in range(10)])
    assert (by_class - 0.5).abs().max() < 5 * np.sqrt(1 / 12 / 1900)


def test_gaussian_noise_has_the_configured_moments_and_is_not_clipped():
    values = GaussianNoise(shape=(20,), train_size=20_000, mean=0.4, std=0.3).examples("train", 0).inputs
    assert values.mean().item() == pytest.approx(0.4, abs=5 * 0.3 / np.sqrt(values.numel()))
    assert values.std().item() == pytest.approx(0.3, abs=5 * 0.3 / np.sqrt(2 * values.numel()))
    assert values.min() < 0 and values.max() > 1


@pytest.mark.parametrize("kind", [UniformNoise, GaussianNoise])
def test_a_seed_gives_the_same_data_and_sizes_are_nested(kind):
    small = kind(shape=(6,), train_size=10).examples("train", 4)
    large = kind(shape=(6,), train_size=33).examples("train", 4)
    assert torch.equal(small.inputs, large.inputs[:10])
    assert torch.equal(small.labels, large.labels[:10])
    assert not torch.equal(small.inputs, kind(shape=(6,), train_size=10).examples("train", 5).inputs)
