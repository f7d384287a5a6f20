import numpy as np
import pytest
import torch

from rebuttal.errors import ConfigError
from rebuttal.models.preprocess import Preprocess, cropped_shape


def test_whitening_follows_the_paper_s_appendix():
    x = torch.rand(20, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    x[0] = 0.3  # a constant image: its std is below the floor 1/sqrt(d)
    layer = Preprocess((3, 28, 28), None, "per_image")
    images = x.double().numpy()
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    std = np.maximum(images.std(axis=(1, 2, 3), keepdims=True), 1 / np.sqrt(3 * 28 * 28))
    assert np.allclose(layer(x).numpy(), (images - mean) / std, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (100,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_per_channel_statistics_whiten_the_training_data(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (500, *shape), generator=generator).to(torch.uint8)
    x = x if dtype == torch.uint8 else x / 255
    layer = Preprocess(shape, None, "per_channel")
    layer.fit(x)
    y = layer(x).double()
    dims = (0, 2, 3) if len(shape) == 3 else (0, 1)
    assert y.mean(dim=dims).abs().max() < 1e-5
    assert (y.std(dim=dims, correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_features_of_tabular_inputs_are_normalised_one_by_one(dtype):
    x = torch.randint(0, 256, (500, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x if dtype == torch.uint8 else x * torch.tensor([1e-9, 1, 1e3, 1e6]) + torch.tensor([0, 1, 0, 1e8])
    x[:, 1] = x[0, 1]
    layer = Preprocess((4,), None, "per_channel", tabular=True)
    layer.fit(x)
    y = layer(x).double()
    assert y.mean(dim=0).abs().max() < 1e-3
    assert torch.allclose(y.std(dim=0, correction=0), torch.tensor([1, 0, 1, 1], dtype=torch.double), atol=1e-3)
    shifted = layer(x + torch.tensor([0, 1, 0, 0], dtype=dtype))[:, 1]
    assert torch.allclose(shifted, torch.tensor(1 / 255 if dtype == torch.uint8 else 1.0))


def test_other_vectors_and_images_are_normalised_as_before():
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    layer = Preprocess((4,), None, "per_channel")
    layer.fit(x)
    assert layer.mean.shape == layer.std.shape == (1,) and torch.allclose(layer.mean, x.mean())
    images = x.reshape(50, 1, 2, 2)
    for tabular in (False, True):
        layer = Preprocess((1, 2, 2), None, "per_channel", tabular)
        layer.fit(images)
        assert layer.mean.shape == (1, 1, 1)


@pytest.mark.parametrize("crop", [None, 4])
@pytest.mark.parametrize("normalisation", ["none", "per_channel", "per_image"])
def test_what_a_model_changes_in_place_is_not_the_dataset_s(crop, normalisation):
    x = torch.rand(5, 3, 6, 6)
    before = x.clone()
    Preprocess((3, 6, 6), crop, normalisation)(x).sub_(1).relu_()
    assert torch.equal(x, before)


def test_bytes_and_floats_are_the_same_input():
    x = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8)
    for normalisation in ("none", "per_image"):
        layer = Preprocess((3, 6, 6), None, normalisation)
        assert torch.equal(layer(x), layer(x.float() / 255))


def test_the_crop_is_central():
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert Preprocess((1, 6, 6), 2, "none")(x).flatten().tolist() == [14, 15, 20, 21]


@pytest.mark.parametrize("shape", [(100,), (3, 27, 40)])
def test_a_crop_larger_than_the_image_is_rejected(shape):
    with pytest.raises(ConfigError, match=r"preprocess\.crop=28: needs images of at least 28x28"):
        cropped_shape(shape, 28)
