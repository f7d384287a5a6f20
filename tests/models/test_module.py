"""Any `nn.Module` as a model: found, fitted, checked, drawn from the seed, kept and restored."""

import hashlib
import importlib
import json
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.config import build
from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.measures.layers import check_layers
from rebuttal.measures.segments import relus_of
from rebuttal.models import Module
from rebuttal.runs.build import rehearse_trainings
from rebuttal.seeds import torch_stream
from rebuttal.stages import Fit
from rebuttal.stages.networks import new_network, restore_network
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import describe, fingerprint
from tests.command_line import command

IMAGES, CLASSES = (1, 8, 8), 7


def drawn(target, shape=IMAGES, classes=CLASSES, seed=0, **arguments):
    with torch_stream(seed, "init"):
        return Module(target=target, arguments=arguments).network(shape, classes)


def layers(channels=3, outputs=10):
    return [nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)]


def by_signature(num_classes, in_channels, img_size, depth=1):
    assert img_size == 8
    return nn.Sequential(
        *(nn.Conv2d(in_channels, in_channels, 1) for _ in range(depth)), *layers(in_channels, num_classes)
    )


def by_size(in_features, out_dim, input_shape, *, pretrained=True, weights="best", aux_logits=True):
    assert input_shape == IMAGES and not pretrained and weights is None and not aux_logits
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, out_dim))


def fixed():
    """A network of three channels and ten classes."""
    return nn.Sequential(*layers())


def with_dropout():
    return nn.Sequential(*layers()[:-1], nn.BatchNorm1d(4), nn.Linear(4, 10), nn.Dropout(0.5))


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10))


class Grown(nn.Module):
    """Its layers are made when the first inputs come."""

    def __init__(self):
        super().__init__()
        self.layer = None

    def forward(self, x):
        if self.layer is None:
            self.layer = nn.Linear(x[0].numel(), CLASSES)
        return self.layer(x.flatten(1))


class Reading(nn.Module):
    """It reads a value of a tensor when it is made, and another when it runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, CLASSES, bias=torch.linspace(0, 1, 3)[-1].item() > 0)

    def forward(self, x):
        return self.layer(x.flatten(1)) * (2 if x.max() > 5 else 1)


@pytest.mark.parametrize("target", [by_signature, by_size, fixed, with_dropout, lazy, Grown, Reading])
def test_a_network_is_fitted_to_the_data_and_drawn_from_the_seed(target):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again, other = drawn(target), drawn(target), drawn(target, seed=1)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]
    assert first.training and first(torch.rand(2, *IMAGES)).shape == (2, CLASSES)
    first, again, other = (network.state_dict() for network in (drawn(target), again, other))
    assert list(first) == list(again) and all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(*(torch.cat([w.flatten().float() for w in net.values()]) for net in (first, other)))


@pytest.mark.parametrize("target", [by_signature, fixed, with_dropout, lazy, Grown, Reading])
def test_it_is_kept_and_restored(target, session, recipe):
    data = UniformNoise(shape=IMAGES, classes=CLASSES, train_size=8, test_size=8)
    stage = Fit(model=Module(target=target), dataset=data, corruption=random_labels(), training=recipe(), seed=0)
    stage.check(session)
    rehearse_trainings({"fit": stage}, session)
    source = session.open(data)
    network = new_network(stage.model, stage.preprocess, source, 3, "fit").eval()
    restored = restore_network(stage.model, stage.preprocess, source, Artifact({}, network.state_dict()), session)
    x = torch.rand(5, *IMAGES)
    assert torch.equal(network(x), restored.cpu()(x))


def test_only_what_does_not_fit_is_replaced():
    with torch_stream(0, "init"):
        plain = fixed()
    network = drawn(fixed)
    assert network[0].weight.shape == (4, 1, 3, 3) and network[4].weight.shape == (7, 4)
    same = drawn(fixed, shape=(3, 8, 8), classes=10)
    assert all(torch.equal(same.state_dict()[name], value) for name, value in plain.state_dict().items())
    assert torch.equal(drawn(fixed, shape=(3, 8, 8))[0].weight, plain[0].weight)


def test_an_argument_that_is_given_is_kept():
    assert len(drawn(by_signature, depth=3)) == 8
    assert drawn(by_signature, in_channels=1, num_classes=4)[-1].out_features == CLASSES  # replaced


class Shared(nn.Module):
    """The last layer runs twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        return self.layer(self.layer(x.flatten(1)))


class Tied(nn.Module):
    """The last layer has the weights of another."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.first(x.flatten(1)))


class Answers(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.layer = form, nn.Linear(64, CLASSES)

    def forward(self, x):
        y = self.layer(x.flatten(1))
        return {
            "dict": lambda: {"logits": y},
            "auxiliary": lambda: (y, y) if self.training else y,
            "classes": lambda: y.argmax(dim=1),
            "integers": lambda: y.long(),
            "one input": lambda: y[:1],
        }[self.form]()


ONLY = nn.Linear(64, CLASSES)


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (Shared, {}, r"gives outputs of shape \(2, 64\), float32 for 2 inputs .*; allowed: logits of shape \(2, 7\)"),
        (Tied, {}, r"gives outputs of shape \(2, 64\), float32"),
        (Answers, {"form": "dict"}, r"gives a dict of shapes \(2, 7\) for 2 inputs of shape \[1, 8, 8\]"),
        (Answers, {"form": "auxiliary"}, r"gives in training a tuple of shapes \(2, 7\), \(2, 7\)"),
        (Answers, {"form": "classes"}, r"gives outputs of shape \(2,\), int64"),
        (Answers, {"form": "integers"}, r"gives outputs of shape \(2, 7\), int64"),
        (Answers, {"form": "one input"}, r"gives outputs of shape \(1, 7\), float32"),
        (Answers, {"width": 3}, r"cannot be built: TypeError: .*'width'"),
        (Answers, {"form": "dict", "pretrained": True}, "trained weights are not used"),
        (nn.Linear, {"in_features": 9}, r"cannot take inputs of shape \[1, 8, 8\]: RuntimeError: "),
        (lambda: 3, {}, "gives a int; allowed: what gives a torch.nn.Module"),
        (lambda: ONLY, {}, "gives the same weights each time it is called"),
        (lambda: nn.Sequential(nn.Flatten(), ONLY), {}, "gives the same weights each time it is called"),
        (lambda: nn.Conv2d(1, 8, 9), {}, r"cannot take inputs of shape \[1, 8, 8\]: .*images of at least 9x9$"),
        (lambda: 1 / 0, {}, "cannot be built: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(target, arguments, message):
    with pytest.raises(ConfigError, match=message) as refused:
        drawn(target, **arguments)
    assert str(refused.value).startswith("model.") and "\n" not in str(refused.value)


def test_batches_of_one_are_refused_with_a_batch_norm_of_vectors_before_any_training(session, recipe):
    def stage(target, batch_size):
        data = UniformNoise(shape=IMAGES, classes=CLASSES, train_size=5, test_size=8)
        corruption, training = random_labels(), recipe(batch_size=batch_size)
        return Fit(model=Module(target=target), dataset=data, corruption=corruption, training=training, seed=0)

    assert stage(fixed, 3).work(session).smallest_batch == 2  # of 5: batches of 3 and 2
    assert stage(fixed, 2).work(session).smallest_batch == 1  # 2, 2 and 1
    rehearse_trainings({"fine": stage(with_dropout, 3), "also": stage(fixed, 1)}, session)
    with pytest.raises(ConfigError, match="Expected more than 1 value per channel when training"):
        rehearse_trainings({"first": stage(with_dropout, 3), "fit": stage(with_dropout, 2)}, session)


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x).sin()


class OwnReLU(nn.ReLU):
    def forward(self, x):
        return F.gelu(x)


@pytest.mark.parametrize("changed", [OwnLinear(4, 4), OwnReLU(), nn.Sequential(nn.Linear(4, 4))])
def test_measures_of_layers_do_not_take_a_layer_for_what_it_only_derives_from(changed):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), changed)
    if isinstance(changed, nn.Sequential):
        check_layers(network)
        assert relus_of(network) == [network[1]]
        changed.register_forward_hook(lambda module, inputs, output: output.sin())
    with pytest.raises(ConfigError, match=f"layer 2 is a {type(changed).__name__}"):
        check_layers(network)
    assert relus_of(network) is None


NETS = """
from torch import nn
from os import system
from mine import parts

class Wide(nn.Module):
    def __init__(self, num_classes=10, depth=1):
        super().__init__()
        self.body = nn.Sequential(*[parts.layer(8) for _ in range(depth)])
        self.head = nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))

def net(depth=1):
    return Wide(10, depth)

NOT = Wide()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's package."""
    name = "mine" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "nets.py").write_text(NETS.replace("mine", name))
    (tmp_path / name / "parts.py").write_text(
        "from torch import nn\n\n\ndef layer(n):\n    return nn.LazyConv2d(n, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


def node(target, **arguments):
    return {"_target_": "rebuttal.models.Module", "target": target, "arguments": arguments}


@pytest.mark.slow
def test_own_code_runs_through_an_experiment_and_is_found_again(mine, tmp_path):
    own = ["model=module", f"model.target={mine}.nets:net", "model.arguments={depth: 2}", f"packages=[{mine}]"]
    run = ["experiment=two_stage", "debug=tiny", "shape=[1,8,8]", "store=s", *own]
    done = command(*run, "hydra.run.dir=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = command(*run, "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0 and "\n0 results computed in this run" in again.stdout
    first, second = (json.loads((tmp_path / folder / "metrics.json").read_text()) for folder in ("first", "again"))
    assert first == second and "student/kappa" in first


def test_the_identity_is_target_source_and_arguments(mine, tmp_path):
    model = build(node(f"{mine}.nets:Wide", depth=2), "model", [mine])
    identity = describe(model)
    assert identity["kind"] == "rebuttal.Module" and identity["arguments"] == {"depth": 2}
    assert identity["target"]["kind"] == f"{mine}.nets.Wide" and len(identity["target"]["source"]) == 32
    dotted = build(node(f"{mine}.nets.Wide", depth=2), "model", [mine])
    others = [
        build(node(f"{mine}.nets:{name}", depth=depth), "model", [mine]) for name, depth in (("Wide", 3), ("net", 2))
    ]
    assert describe(dotted) == identity
    assert len({fingerprint(describe(m)) for m in (model, *others)}) == 3
    (tmp_path / mine / "parts.py").write_text(
        "from torch import nn\n\n\ndef layer(n):\n    return nn.LazyConv2d(n, 5)\n"
    )
    assert describe(model) == identity  # the code that this process has
    importlib.reload(sys.modules[f"{mine}.parts"])
    assert describe(model)["target"]["source"] != identity["target"]["source"]


def test_torch_has_its_version_as_identity():
    model = build(node("torch.nn:LazyLinear"), "model", [])
    version = torch.__version__.partition("+")[0]
    assert describe(model)["target"] == {"kind": "torch.nn.modules.linear.LazyLinear", "version": version}
    assert model.network((6,), 4)(torch.rand(2, 6)).shape == (2, 4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os:system", "allowed: module:name, of packages that you list on the command line"),
        ("builtins:eval", "allowed: module:name, of packages"),
        ("torch.hub:load", "allowed: module:name, of packages"),
        ("torch.nn.functional:torch", "is not a class or function of torch for configs"),
        ("torch.nn.functional:relu", "is not a class or function of torch for configs"),
        ("rebuttal.models:MLP", "allowed: module:name, of packages"),
        ("mine.nets:system", "is not a class or function of mine"),
        ("mine.nets:nn", "is not a class or function of mine"),
        ("mine.nets:NOT", "is not a class or function of mine"),
        ("mine.nets:Nothing", "no such class or function can be imported"),
        ("mine.nowhere:Wide", "no such class or function can be imported"),
        ("minexx.nets:Wide", "allowed: module:name, of packages"),
        ("Wide", "allowed: module:name, of packages"),
        (3, "input should be callable"),
    ],
)
def test_a_target_elsewhere_is_refused(target, message, mine):
    target = target.replace("mine", mine) if isinstance(target, str) else target
    with pytest.raises(ConfigError, match=f"^model.target={target}: {message.replace('mine', mine)}"):
        build(node(target), "model", [mine])


def test_a_config_file_alone_imports_nothing(mine, tmp_path):
    (tmp_path / mine / "nets.py").write_text("raise RuntimeError('imported')\n")
    done = command("model=module", f"model.target={mine}.nets:Wide", cwd=tmp_path)
    assert done.returncode == 2 and "as packages=[name]" in done.stderr and "imported" not in done.stderr
    assert not (tmp_path / "outputs" / "store").exists()
