"""torchvision's and timm's networks by name."""

import importlib.metadata
import importlib.util
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.models import ResNet18, Timm, Torchvision
from rebuttal.models.by_name import patch_side
from rebuttal.report.naming import model_name
from rebuttal.runs.build import build_run, resolve
from rebuttal.seeds import torch_stream
from rebuttal.store.identity import describe, fingerprint
from tests.command_line import command
from tests.parameters import some_slow

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="the extra timm is not installed")


def drawn(model, seed=0, shape=(3, 32, 32), classes=7):
    with torch_stream(seed, "init"):
        return model.network(shape, classes)


def first_convolution(network):
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d))


def strides(network):
    """The first convolution's stride, and the max-pools that are left."""
    return first_convolution(network).stride, sum(isinstance(m, nn.MaxPool2d) for m in network.modules())


# The stride of the first convolution and the number of max-pools, with the small stem and with torchvision's own.
STEMS = {
    "resnet18": (((1, 1), 0), ((2, 2), 1)),
    "wide_resnet50_2": (((1, 1), 0), ((2, 2), 1)),
    "densenet121": (((1, 1), 0), ((2, 2), 1)),
    "googlenet": (((1, 1), 12), ((2, 2), 13)),
    "mobilenet_v2": (((1, 1), 0), ((2, 2), 0)),
    "mobilenet_v3_small": (((1, 1), 0), ((2, 2), 0)),
    "efficientnet_b0": (((1, 1), 0), ((2, 2), 0)),
    "mnasnet0_5": (((1, 1), 0), ((2, 2), 0)),
    "shufflenet_v2_x0_5": (((1, 1), 0), ((2, 2), 1)),
    "squeezenet1_1": (((1, 1), 2), ((2, 2), 3)),
    "regnet_x_400mf": (((1, 1), 0), ((2, 2), 0)),
    "swin_t": (((2, 2), 0), ((4, 4), 0)),
    "convnext_tiny": (((2, 2), 0), ((4, 4), 0)),
    "vgg11": (((1, 1), 5), ((1, 1), 5)),
    "vit_b_32": (((4, 4), 0), ((32, 32), 0)),
}


HEAVY = ("densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "convnext_tiny", "vit_b_32")


@pytest.mark.parametrize("name", some_slow(STEMS, *HEAVY))
def test_a_network_of_torchvision_takes_small_images_of_any_channels(name):
    small, own = STEMS[name]
    with torch.device("meta"):
        assert strides(Torchvision(name=name).network((3, 32, 32), 7)) == small
        assert strides(Torchvision(name=name, stem="own").network((3, 32, 32), 7)) == own
        network = Torchvision(name=name).network((1, 32, 32), 7)
        assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert first_convolution(network).in_channels == 1 and network.training


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "regnet_x_400mf"])
def test_weights_are_decided_by_the_seed_alone(name):
    model, x = Torchvision(name=name), torch.rand(2, 3, 32, 32)
    generator = torch.get_rng_state()
    first, again, other = drawn(model), drawn(model), drawn(model, seed=1)
    with torch.device("meta"):
        model.network((3, 16, 16), 3)  # planned here for the first time
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(first.eval()(x), again.eval()(x)) and first(x).shape == (2, 7) and first(x).isfinite().all()
    assert not torch.equal(first(x), other.eval()(x))


def test_resnet18_by_name_is_ours_and_with_its_own_stem_torchvisions():
    from torchvision.models import resnet18

    ours, named = drawn(ResNet18()), drawn(Torchvision(name="resnet18"))
    assert str(named) == str(ours)
    assert all(torch.equal(named.state_dict()[key], value) for key, value in ours.state_dict().items())
    with torch_stream(0, "init"):
        theirs = resnet18(num_classes=7)
    own = drawn(Torchvision(name="resnet18", stem="own"))
    assert all(torch.equal(own.state_dict()[key], value) for key, value in theirs.state_dict().items())


def test_a_small_vision_transformer_reads_every_pixel_once():
    network = drawn(Torchvision(name="vit_b_16", arguments={"dropout": 0.5}), shape=(1, 28, 28)).eval()
    assert network.conv_proj.weight.shape == (768, 1, 4, 4) and network.encoder.pos_embedding.shape == (1, 50, 768)
    assert network.conv_proj.weight.std().item() == pytest.approx(0.25, rel=0.02)  # of 16 pixels
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    network.heads = nn.Linear(768, 7)
    network(x).sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize(
    ("side", "own", "patch"),
    [(32, 16, 4), (28, 16, 4), (224, 16, 16), (224, 32, 32), (64, 16, 8), (17, 16, 1), (8, 16, 1)],
)
def test_patches_divide_the_image_and_leave_seven_along_each_side(side, own, patch):
    assert patch_side(side, own) == patch


def test_the_identity_is_name_arguments_stem_and_version(monkeypatch):
    model = Torchvision(name="mobilenet_v2")
    assert describe(model) == {
        "kind": "rebuttal.Torchvision",
        "name": "mobilenet_v2",
        "arguments": {},
        "stem": "small",
        "version": importlib.metadata.version("torchvision").partition("+")[0],
    }
    others = [replace(model, name="mobilenet_v3_small"), replace(model, arguments={"width_mult": 0.5})]
    others += [replace(model, arguments={"width_mult": 0.25}), replace(model, stem="own")]
    monkeypatch.setattr("rebuttal.models.by_name.version", lambda library: "0.1+cpu")
    others.append(Torchvision(name="mobilenet_v2"))
    assert others[-1].version == "0.1"
    assert len({fingerprint(describe(m)) for m in (model, *others)}) == 6


def test_arguments_reach_the_function():
    half = drawn(Torchvision(name="mobilenet_v2", arguments={"width_mult": 0.5}))
    assert first_convolution(half).out_channels == 16


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        (
            {"name": "resnet19"},
            (3, 32, 32),
            r"model\.name=resnet19: torchvision has no such network; allowed: resnet18, ",
        ),
        ({"name": "fcn_resnet50"}, (3, 32, 32), "torchvision has no such network"),  # of another task
        ({"name": "resnet18"}, (100,), "model=resnet18: needs images, but the dataset's inputs have shape"),
        ({"name": "inception_v3", "stem": "own"}, (3, 32, 32), "images of at least 75x75$"),
        ({"name": "inception_v3"}, (3, 32, 32), r"model\.name=inception_v3: cannot take inputs of shape \[3, 32, 32\]"),
        ({"name": "vgg11"}, (1, 28, 28), "images of at least 32x32$"),
        ({"name": "maxvit_t"}, (3, 32, 32), r"model\.name=maxvit_t: cannot take inputs of shape \[3, 32, 32\]"),
        ({"name": "vit_b_16"}, (3, 32, 28), "needs square images, not 32x28"),
        ({"name": "vit_b_16", "stem": "own"}, (3, 28, 28), "needs a multiple of 16 pixels; allowed: model.stem=small"),
        ({"name": "googlenet", "arguments": {"aux_logits": True}}, (3, 32, 32), "gives in training a GoogLeNetOutputs"),
        ({"name": "resnet18", "arguments": {"widht": 1}}, (3, 32, 32), "cannot be built: TypeError: .*'widht'"),
        ({"name": "resnet18", "arguments": {"pretrained": True}}, (3, 32, 32), "trained weights are not used"),
        (
            {"name": "resnet18", "arguments": {"weights": "DEFAULT"}},
            (3, 32, 32),
            r"model\.arguments\.weights=DEFAULT: ",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, shape, message):
    with pytest.raises(ConfigError, match=message) as refused:
        Torchvision(**settings).network(shape, 7)
    assert "\n" not in str(refused.value)


def test_a_library_that_is_missing_is_named(tmp_path):
    if importlib.util.find_spec("timm") is not None:
        pytest.skip("the extra timm is installed")
    done = command("model=timm", "model.name=resnet18", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "rebuttal: model=timm: is not installed here; pip install 'rebuttal[timm]'\n"


def composed(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return resolve(compose("train", ["experiment=toy", "debug=tiny", *overrides]))


def test_the_option_has_a_name_to_give_and_arguments_to_add():
    with pytest.raises(ConfigError, match=r"^model\.name is missing; give it as model\.name=…$"):
        composed("model=torchvision")
    config = composed(
        "model=torchvision", "model.name=mobilenet_v2", "model.arguments={width_mult: 0.5}", "model.stem=own"
    )
    _, stages = build_run(config)
    expected = Torchvision(name="mobilenet_v2", arguments={"width_mult": 0.5}, stem="own")
    assert stages["teacher"].model == expected


def test_a_report_names_it_by_its_name():
    node = {"_target_": "rebuttal.models.Torchvision", "name": "resnet50", "arguments": None, "stem": "small"}
    assert model_name({"model": node}) == "torchvision resnet50"
    assert model_name({"model": node | {"stem": "own"}}) == "torchvision resnet50, stem=own"
    own = {"_target_": "rebuttal.models.Module", "target": "mine.nets:Wide", "arguments": {"depth": 3}}
    assert model_name({"model": own}) == "module mine.nets:Wide, arguments={depth:3}"


@needs_timm
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("resnet18", 1),
        ("resnet18d", 1),
        ("mobilenetv3_small_050", 1),
        ("tf_efficientnet_b0", 1),
        ("convnext_atto", 2),
        ("vit_tiny_patch16_224", 4),
        ("swin_tiny_patch4_window7_224", 4),
        ("coatnet_nano_rw_224", 2),
    ],
)
def test_a_network_of_timm_takes_small_images(name, stride):
    network, again = (drawn(Timm(name=name), shape=(1, 32, 32)) for _ in range(2))
    assert first_convolution(network).stride == (stride, stride)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    kept = drawn(Timm(name=name), shape=(1, 32, 32)).state_dict()
    assert all(torch.equal(kept[key], value) for key, value in again.state_dict().items())


@needs_timm
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet19"}, r"timm has no such network; allowed: resnet18, "),
        ({"name": "hf-hub:someone/net"}, "timm has no such network"),
        ({"name": "mixer_s32_224"}, "its first convolution has a stride of 32, too much"),
        ({"name": "inception_v3", "stem": "own"}, "images of at least 75x75$"),
        ({"name": "resnet18", "arguments": {"checkpoint_path": "x.pth"}}, "trained weights are not used"),
        ({"name": "resnet18", "arguments": {"pretrained_cfg": {}}}, "trained weights are not used"),
    ],
)
def test_what_timm_cannot_give_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Timm(**settings).network((3, 32, 32), 7)
