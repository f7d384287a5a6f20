import numpy as np
import torch
from scipy.stats import chisquare, kstest

from rebuttal.functions.hash import HashFunction

HASH = HashFunction.draw(classes=10, seed=0)
INPUTS = torch.rand(20_000, 100, generator=torch.Generator().manual_seed(0))


def test_a_hash_is_a_function():
    order = torch.randperm(len(INPUTS))
    assert torch.equal(HASH(INPUTS)[order], HASH(INPUTS[order]))
    assert torch.equal(HASH(INPUTS), HashFunction.draw(classes=10, seed=0)(INPUTS))
    assert not torch.equal(HASH(INPUTS), HashFunction.draw(classes=10, seed=1)(INPUTS))


def test_its_logits_are_independent_standard_normals_and_its_labels_uniform():
    logits = HASH(INPUTS)
    assert kstest(logits.flatten().numpy(), "norm").pvalue > 1e-3
    correlation = torch.corrcoef(logits.T) - torch.eye(10)
    assert correlation.abs().max() < 5 / np.sqrt(len(INPUTS))
    assert chisquare(logits.argmax(dim=1).bincount(minlength=10).numpy()).pvalue > 1e-3


def test_the_smallest_step_changes_everything():
    near = INPUTS.clone()
    near[:, 17] = torch.nextafter(near[:, 17], torch.tensor(2.0))
    here, there = HASH(INPUTS), HASH(near)
    assert abs(torch.corrcoef(torch.stack([here.flatten(), there.flatten()]))[0, 1]) < 0.01
    agreement = (here.argmax(dim=1) == there.argmax(dim=1)).double().mean().item()
    assert abs(agreement - 0.1) < 5 * np.sqrt(0.09 / len(INPUTS))


def test_pixels_as_bytes_hash_like_their_floats():
    pixels = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(HASH(pixels), HASH(pixels / 255))
