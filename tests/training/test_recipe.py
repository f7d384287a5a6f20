"""The parts of a recipe against their formulas and against independent implementations."""

from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.data.noise import UniformNoise
from rebuttal.errors import ConfigError
from rebuttal.models.airbench import AirBench
from rebuttal.models.mlp import MLP
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.stages.networks import rehearse
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.store.identity import canonical
from rebuttal.training import (
    SGD,
    AdamW,
    AlternatingFlip,
    Cosine,
    CropAndFlip,
    CrossEntropy,
    Exponential,
    FlipAndRotate,
    Linear,
    Margin,
    ScaledBiasSGD,
    SquaredError,
    Step,
    TorchOptimizer,
    Triangular,
)
from rebuttal.training.augmentations import is_mirrored_first, rotated
from rebuttal.training.loop import Support, train

X = torch.rand(60, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randint(1, 256, (400, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
OF_TORCH = sorted(name for name, kind in vars(torch.optim).items() if isinstance(kind, type) and name != "Optimizer")


def test_a_recipe_of_before_its_parts_were_groups_keeps_its_identity(recipe):
    zhang = {"optimizer": SGD(), "schedule": Exponential(decay=0.95), "lr": 0.1, "epochs": 120, "batch_size": 128}
    assert recipe(**zhang).identity(CropAndNormalise(crop=28, normalisation="per_image")) == {
        "kind": "rebuttal.Recipe",
        **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "schedule": "exponential"},
        **{"decay": 0.95, "warmup_epochs": 0.0, "epochs": 120, "batch_size": 128, "stop_accuracy": None},
        **{"stop_loss": None, "crop": 28, "normalisation": "per_image", "precision": "float32"},
    }


@pytest.mark.parametrize(
    "change",
    [
        *({"optimizer": option} for option in (SGD(), SGD(nesterov=True), AdamW(beta1=0.8), AdamW(beta2=0.9))),
        *({"optimizer": TorchOptimizer(name=n, arguments={})} for n in ("Adam", "RMSprop")),
        {"optimizer": TorchOptimizer(name="Adam", arguments={"amsgrad": True})},
        *({"schedule": s} for s in (Linear(), Exponential(decay=0.9), Step(milestones=(2.0,), factor=0.1))),
        *({"schedule": s} for s in (Triangular(), Triangular(peak=0.5))),
        *({"optimizer": o} for o in (ScaledBiasSGD(), ScaledBiasSGD(bias_rate=1.0))),
        *({"augmentation": AlternatingFlip(shift=s)} for s in (1, 2)),
        *({"loss": s} for s in (CrossEntropy(label_smoothing=0.1), SquaredError(), SquaredError(weight=2.0), Margin())),
        *({"augmentation": FlipAndRotate(degrees=d, shift=s)} for d, s in ((25.0, 0), (10.0, 0), (25.0, 1))),
        *({"augmentation": CropAndFlip(shift=s, flip=f)} for s, f in ((1, False), (1, True), (2, True))),
    ],
)
def test_each_part_decides_the_identity(recipe, change):
    """Each differs from the plain recipe and from every other one here."""
    every = test_each_part_decides_the_identity.pytestmark[0].args[1]
    found = [recipe(**each).identity(CropAndNormalise()) for each in every if each != change]
    assert recipe(**change).identity(CropAndNormalise()) not in [*found, recipe().identity(CropAndNormalise())]


@pytest.mark.parametrize(
    ("part", "ours"),
    [
        *(("optimizer", option) for option in (SGD(), AdamW())),
        *(("schedule", option) for option in (Cosine(), Exponential(decay=0.9))),
        ("preprocess", CropAndNormalise()),
    ],
)
def test_a_part_of_the_user_s_that_is_made_of_ours_is_another(part, ours, recipe):
    def identity(option):
        if part == "preprocess":
            return recipe().identity(option)
        return recipe(**{part: option}).identity(CropAndNormalise())

    @dataclass(frozen=True)
    class Own(type(ours)):
        scale: float = 1.0

    kept = {field.name: getattr(ours, field.name) for field in fields(ours)}
    found = [canonical(identity(option)) for option in (ours, Own(**kept), Own(**kept, scale=9.0))]
    assert len(set(found)) == 3 and "source" in found[1]


def test_schedules_are_their_formulas():
    start, end = 2.0, 10.0
    assert Linear()(start, start, end) == 1 and Linear()(end, start, end) == 0 and Linear()(6.0, start, end) == 0.5
    steps = Step(milestones=(3.0, 5.0), factor=0.1)
    assert [steps(epoch, 0, 10) for epoch in (0, 2.99, 3.0, 4.9, 5.0, 9.9)] == [1, 1, 0.1, 0.1, 0.1**2, 0.1**2]
    triangle = Triangular(initial=0.2, peak=0.25, final=0.1)
    assert [triangle(epoch, start, end) for epoch in (2, 3, 4, 7, 10)] == pytest.approx([0.2, 0.6, 1.0, 0.55, 0.1])


def test_losses_are_their_definitions():
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(3))
    labels = torch.randint(4, (20,), generator=torch.Generator().manual_seed(4))
    each = {"smoothed": 0.0, "squared": 0.0, "weighted": 0.0, "margin": 0.0, "margin²": 0.0}
    for f, y in zip(logits.double().numpy(), labels.tolist()):
        log_p = f - np.log(np.exp(f).sum())
        target = np.full(4, 0.2 / 4) + 0.8 * np.eye(4)[y]
        each["smoothed"] -= (target * log_p).sum() / 20
        each["squared"] += ((f - np.eye(4)[y]) ** 2).mean() / 20
        each["weighted"] += (((f - 10 * np.eye(4)[y]) ** 2) * np.where(np.arange(4) == y, 5, 1)).mean() / 20
        hinge = np.delete(np.maximum(0, 2 - f[y] + f), y)
        each["margin"] += hinge.sum() / 4 / 20
        each["margin²"] += (hinge**2).sum() / 4 / 20
    losses = [
        *(CrossEntropy(label_smoothing=0.2), SquaredError(), SquaredError(weight=5.0, height=10.0)),
        *(Margin(margin=2.0), Margin(margin=2.0, power=2)),
    ]
    for loss, expected in zip(losses, each.values()):
        assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(losses[0](logits, labels), F.cross_entropy(logits, labels, label_smoothing=0.2))


def shifted(image, down, right, mirrored):
    """What `CropAndFlip` gives, pixel by pixel."""
    source, (_, height, width) = image.flip(2) if mirrored else image, image.shape
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            r, c = row + down, column + right
            if 0 <= r < height and 0 <= c < width:
                result[:, row, column] = source[:, r, c]
    return result


def test_a_crop_and_flip_is_one_of_the_shifts_and_reflections_and_all_of_them_come():
    given = CropAndFlip(shift=1, flip=True)(IMAGES, torch.Generator().manual_seed(0))
    assert given.shape == IMAGES.shape and given.dtype == torch.uint8
    counts = {}
    for image, made in zip(IMAGES, given):
        ways = [(d, r, m) for d in (-1, 0, 1) for r in (-1, 0, 1) for m in (False, True)]
        (way,) = [way for way in ways if torch.equal(shifted(image, *way), made)]
        counts[way] = counts.get(way, 0) + 1
    assert len(counts) == 18 and all(5 <= count <= 45 for count in counts.values())  # 400 / 18 = 22 each
    again = CropAndFlip(shift=1, flip=True)(IMAGES, torch.Generator().manual_seed(0))
    other = CropAndFlip(shift=1, flip=True)(IMAGES, torch.Generator().manual_seed(1))
    assert torch.equal(again, given) and not torch.equal(other, given)
    assert torch.equal(CropAndFlip(shift=0, flip=False)(IMAGES, torch.Generator()), IMAGES)


def turned(images, degrees):
    return rotated(images, torch.full((len(images),), degrees, dtype=torch.float64))


@pytest.mark.parametrize("images", [IMAGES[:20], IMAGES[:20].float() / 255, IMAGES[:20].double()])
def test_a_rotation_by_right_angles_only_moves_pixels(images):
    assert torch.equal(turned(images, 0.0), images)
    for quarters in (1, 2, 3, -1):
        assert torch.allclose(turned(images, 90.0 * quarters), images.rot90(quarters, (2, 3)), atol=1e-6)
    oblong = images[..., :4]
    assert torch.allclose(turned(oblong, 180.0), oblong.flip(2, 3), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (5, 8)])
def test_a_rotation_is_the_one_of_torch(shape):
    images = IMAGES[:7].double()[..., : shape[0], : shape[1]] if max(shape) <= 6 else torch.rand(7, 2, *shape).double()
    angles = torch.tensor([-25.0, -7.0, 3.0, 12.0, 25.0, 45.0, 90.0]).double()
    c, s = angles.deg2rad().cos(), angles.deg2rad().sin()
    ratio = shape[0] / shape[1]  # torch's coordinates run from −1 to 1 along both sides
    matrices = torch.stack([torch.stack([c, -s * ratio, 0 * c], 1), torch.stack([s / ratio, c, 0 * c], 1)], 1)
    grid = F.affine_grid(matrices, images.shape, align_corners=False)
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    assert torch.allclose(rotated(images, angles), expected, atol=1e-9)


def test_rotations_are_drawn_from_the_generator_within_their_limits():
    """A small bright spot to the right of the centre shows the angle."""
    spot = torch.zeros(1000, 1, 33, 33)
    spot[..., 15:18, 26:29] = 1.0
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")

    def angles(**settings):
        made = FlipAndRotate(**settings)(spot, torch.Generator().manual_seed(0))[:, 0]
        down, right = (((made * axis).sum((1, 2)) / made.sum((1, 2))) for axis in (rows, columns))
        return torch.atan2(-down, right).rad2deg()

    found = angles(flip=False)
    assert -25.2 < found.min() < -24.5 and 24.5 < found.max() < 25.2 and found.mean().abs() < 1.5
    assert found.std().item() == pytest.approx(50 / 12**0.5, rel=0.05)  # uniform
    assert torch.equal(angles(flip=False), found) and angles(flip=False, degrees=3.0).abs().max() < 3.2
    assert 0.45 < (angles().abs() > 90).double().mean() < 0.55  # mirrored


def test_without_an_angle_a_rotation_is_the_crop_and_flip():
    """The draws of shifts and reflections come first."""
    plain, given = (torch.Generator().manual_seed(5) for _ in range(2))
    moved = FlipAndRotate(degrees=0.0, shift=2)(IMAGES, given)
    assert moved.dtype == torch.uint8 and torch.equal(moved, CropAndFlip(shift=2, flip=True)(IMAGES, plain))


@pytest.mark.parametrize("epoch", [1, 2])
def test_two_epochs_show_every_image_once_each_way(epoch):
    examples = torch.arange(50, 50 + len(IMAGES))
    flip, random = AlternatingFlip(shift=0), torch.Generator().manual_seed(0)
    first, second = (flip(IMAGES, random, examples, e) for e in (epoch, epoch + 1))
    assert torch.equal(second, first.flip(3)) and torch.equal(flip(IMAGES, random, examples, epoch + 2), first)
    as_it_is = (first == IMAGES).flatten(1).all(dim=1)
    assert torch.equal(torch.where(as_it_is[:, None, None, None], first, second), IMAGES)
    assert 0.45 < as_it_is.double().mean() < 0.55


def test_what_is_mirrored_first_is_half_of_every_class_that_recurs():
    """Were it decided by the parity of the index, classes in turn would be mirrored as a whole."""
    for period in range(1, 50):
        assert 0.45 < is_mirrored_first(torch.arange(0, 1000 * period, period)).double().mean() < 0.55, period


def test_what_moves_in_is_the_reflected_image_and_all_shifts_come():
    given = AlternatingFlip(shift=2)(IMAGES, torch.Generator().manual_seed(0))
    assert given.shape == IMAGES.shape and given.dtype == torch.uint8
    padded, found = F.pad(IMAGES.double(), (2,) * 4, mode="reflect").to(torch.uint8), set()
    for image, made in zip(padded, given):
        for mirrored in (False, True):
            whole = image.flip(2) if mirrored else image
            found |= {
                (d, r, mirrored)
                for d in range(5)
                for r in range(5)
                if torch.equal(whole[:, d : d + 6, r : r + 6], made)
            }
    assert len(found) == 50


@pytest.mark.parametrize("kind", [AlternatingFlip, partial(CropAndFlip, flip=False), FlipAndRotate])
def test_a_shift_that_leaves_nothing_of_an_image_is_refused(kind):
    with pytest.raises(ConfigError, match=r"training.augmentation.shift=6: allowed: 0 to 5 for images of 6x6"):
        kind(shift=6)(IMAGES, torch.Generator())
    assert kind(shift=5)(IMAGES, torch.Generator().manual_seed(0)).shape == IMAGES.shape


def test_biases_of_batch_norms_learn_faster_and_shrink_alike(recipe):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    every = list(network.parameters())
    for parameter in every:
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    settings = recipe(optimizer=ScaledBiasSGD(momentum=0.0, bias_rate=64.0), lr=0.1, weight_decay=0.01)
    settings.make_optimizer(network).step()
    assert all(torch.allclose(p, torch.tensor(1 - 0.1 * 0.01)) for p in every)
    for parameter in every:
        parameter.grad = torch.ones_like(parameter)
    settings.make_optimizer(network).step()
    moved = [round((1 - p.detach().mean()).item(), 2) for p in every]
    assert moved == [0.1, 0.1, 0.1, 6.4, 0.1, 0.1]


def airbench_trained(recipe, checkpoint, stop_at=None):
    torch.manual_seed(0)
    network = AirBench(widths=(6, 8), bias_epochs=1).network((3, 6, 6), 3)
    network.initialise_from(IMAGES / 255)

    def progress(step, steps):
        if step == stop_at:
            raise Interrupted

    settings = recipe(
        **{"optimizer": ScaledBiasSGD(), "schedule": Triangular(), "augmentation": AlternatingFlip(shift=1)},
        **{"loss": CrossEntropy(label_smoothing=0.2), "lr": 0.3, "batch_size": 100, "precision": "bfloat16"},
    )
    images, labels, order = IMAGES / 255, torch.arange(400) % 3, np.random.default_rng(0)
    biases = []
    support = Support(checkpoint, progress, lambda row: biases.append(network[0].bias.detach().clone()))
    train(network, images, labels, settings.loss, settings, order, None, "fit", support, 7)
    return network.state_dict(), biases


@pytest.mark.parametrize("stop_at", [2, 7])
def test_the_record_recipe_resumes_bit_for_bit(stop_at, recipe, tmp_path):
    whole, biases = airbench_trained(recipe, Checkpoint())
    assert biases[0].any() and torch.equal(biases[0], biases[1]) and torch.equal(biases[1], biases[2])
    with pytest.raises(Interrupted):
        airbench_trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), stop_at)
    resumed, _ = airbench_trained(recipe, Checkpoint(tmp_path / "state", interval=0.0))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_shift_before_a_centre_crop_is_a_crop_out_of_the_whole_image():
    """Zhang et al. 2017, appendix A: nothing black is left."""
    given = CropAndFlip(shift=1, flip=False)(IMAGES, torch.Generator().manual_seed(0))
    assert (CropAndNormalise(crop=4, normalisation="none").layer((3, 6, 6), False)(given) > 0).all()


class Interrupted(BaseException):
    pass


def trained(recipe, checkpoint=None, stop_at=None, optimizer=None, kind=nn.Sequential, **settings):
    network = kind(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)

    def progress(step, steps):
        if step == stop_at:
            raise Interrupted

    support = Support(checkpoint or Checkpoint(), progress=progress)
    own = {"optimizer": optimizer} if optimizer else {}
    settings = recipe(**{"epochs": 4, "batch_size": 20, "lr": 0.01} | own | settings)
    order = np.random.default_rng(0)
    train(network, X, Y, settings.loss, settings, order, None, "fit", support, 7)
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", OF_TORCH)
def test_any_optimiser_of_torch_resumes_to_the_same_weights_or_is_refused_in_one_line(name, recipe, tmp_path):
    option = TorchOptimizer(name=name, arguments={})
    source = UniformNoise(shape=(5,), classes=3, train_size=9, student_size=9, test_size=9).open(tmp_path)
    try:
        rehearse(MLP(hidden=(8,)), CropAndNormalise(), recipe(optimizer=option), source, X[:2])
    except ConfigError as error:
        assert name in {"LBFGS", "SparseAdam", "Muon"}  # needs a closure; sparse gradients; matrices only
        assert str(error).startswith("training.optimizer") and "\n" not in str(error)
        return
    whole = trained(recipe, optimizer=option)
    assert whole.isfinite().all()
    with pytest.raises(Interrupted):
        trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), stop_at=7, optimizer=option)
    assert torch.equal(trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), optimizer=option), whole)


class Counting(torch.optim.Optimizer):
    """Its steps grow shorter by a count that is kept of the group, as in schedule-free methods; `kind` of the count."""

    def __init__(self, parameters, lr, kind):
        super().__init__(parameters, {"lr": lr, "k": kind(0), "warm": True, "limit": float("inf")})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["k"] = group["k"] + 1
            group["warm"] = bool(group["k"] < 5)
            for parameter in group["params"]:
                parameter -= (2 if group["warm"] else 1) * group["lr"] / group["k"] * parameter.grad


@dataclass(frozen=True)
class Count:
    kind: type = int

    def __call__(self, parameters, lr, weight_decay):
        return Counting(parameters, lr, self.kind)


def test_what_an_optimiser_keeps_of_a_group_is_resumed_or_refused(recipe, tmp_path):
    whole = trained(recipe, optimizer=Count())
    with pytest.raises(Interrupted):
        trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), stop_at=7, optimizer=Count())
    assert torch.equal(trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), optimizer=Count()), whole)
    source = UniformNoise(shape=(5,), classes=3, train_size=9, student_size=9, test_size=9).open(tmp_path)
    with pytest.raises(ConfigError, match=r"training.optimizer=Count: ValueError: keeps k of a group as a Fraction"):
        rehearse(MLP(hidden=(8,)), CropAndNormalise(), recipe(optimizer=Count(Fraction)), source, X[:2])


class Freezing(nn.Sequential):
    def start_epoch(self, epoch):
        if epoch == 2:
            self[0].requires_grad_(False)


@pytest.mark.parametrize("stop_at", [7, 11])
def test_weights_that_an_epoch_froze_stay_frozen_after_a_resume(stop_at, recipe, tmp_path):
    first, rest = (trained(recipe, kind=Freezing, epochs=epochs) for epochs in (1, 4))
    assert torch.equal(first[:40], rest[:40]) and not torch.equal(first[48:], rest[48:])
    with pytest.raises(Interrupted):
        trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), stop_at=stop_at, kind=Freezing)
    assert torch.equal(trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), kind=Freezing), rest)


@dataclass(frozen=True)
class Noisy:
    size: float

    def __call__(self, inputs, random):
        return inputs + self.size * torch.randn(inputs.shape, generator=random)


def test_a_resumed_training_draws_the_same_augmentation(recipe, tmp_path):
    noisy = {"augmentation": Noisy(0.3)}
    whole = trained(recipe, **noisy)
    with pytest.raises(Interrupted):
        trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), stop_at=7, **noisy)
    assert torch.equal(trained(recipe, Checkpoint(tmp_path / "state", interval=0.0), **noisy), whole)
    assert not torch.equal(trained(recipe, augmentation=Noisy(0.2)), whole)


@dataclass(frozen=True)
class TwoRates:
    """The last layer ten times as fast."""

    def __call__(self, parameters, lr, weight_decay):
        *first, weight, bias = parameters
        return torch.optim.SGD([{"params": first}, {"params": [weight, bias], "lr": 10 * lr}], lr)


def test_parameter_groups_keep_the_ratio_of_their_rates(recipe):
    seen = []

    class Seen(TwoRates):
        def __call__(self, *arguments):
            seen.append(super().__call__(*arguments))
            return seen[-1]

    trained(recipe, optimizer=Seen(), schedule=Linear())
    slow, fast = (group["lr"] for group in seen[0].param_groups)
    assert slow == pytest.approx(0.01 * 1 / 12) and fast == pytest.approx(10 * slow)


@dataclass(frozen=True)
class Part:
    """Stands for any part of a user's recipe; returns or raises what it is given."""

    result: object

    def __call__(self, *arguments):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result(*arguments) if callable(self.result) else self.result


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"loss": Part(lambda f, y: F.cross_entropy(f, y, reduction="none"))},
            "training.loss=Part: ValueError: allowed",
        ),
        ({"loss": Part(KeyError("x"))}, "training.loss=Part: KeyError: 'x'"),
        ({"loss": Part(1.0)}, "training.loss=Part: ValueError: allowed"),
        (  # of logits in the precision of the training
            {"loss": Part(lambda f, y: torch.zeros(3).index_put((y,), f[:, 0]).sum()), "precision": "bfloat16"},
            "training.loss=Part: RuntimeError: Index put requires the source and destination dtypes match",
        ),
        ({"schedule": Part(float("nan"))}, "training.schedule=Part: ValueError: gives nan at epoch 0"),
        ({"schedule": Part("fast")}, "training.schedule=Part: ValueError: gives 'fast'"),
        ({"schedule": Part(-1.0)}, "training.schedule=Part: ValueError: gives -1.0"),
        ({"optimizer": Part(None)}, "training.optimizer=Part: TypeError: returned a NoneType"),
        ({"augmentation": Part(lambda x, _: x[:1])}, "training.augmentation=Part: ValueError: allowed"),
        ({"augmentation": Part(lambda x, _: x.double())}, "training.augmentation=Part: ValueError: allowed"),
        ({"augmentation": CropAndFlip(shift=1, flip=True)}, "training.augmentation=CropAndFlip: needs images"),
        ({"augmentation": FlipAndRotate()}, "training.augmentation=FlipAndRotate: needs images"),
        (
            {"optimizer": TorchOptimizer(name="Adm", arguments={})},
            "training.optimizer.name=Adm: no such optimiser of torch.optim",
        ),
        (
            {"optimizer": TorchOptimizer(name="Adam", arguments={"bets": (0.9, 0.99)})},
            "training.optimizer.arguments={'bets': (0.9, 0.99)}: Adam takes no bets there; allowed: betas",
        ),
        ({"optimizer": TorchOptimizer(name="Adam", arguments={"eps": -1})}, "training.optimizer=Adam: Invalid epsilon"),
        (
            {"optimizer": TorchOptimizer(name="Rprop", arguments={}), "weight_decay": 0.1},
            "training.weight_decay=0.1: Rprop has none; allowed: 0",
        ),
    ],
)
def test_a_part_that_cannot_work_is_named_in_one_line_before_any_training(change, line, recipe, tmp_path):
    source = UniformNoise(shape=(5,), classes=3, train_size=9, student_size=9, test_size=9).open(tmp_path)
    with pytest.raises(ConfigError) as caught:
        rehearse(MLP(hidden=(8,)), CropAndNormalise(), recipe(**change), source, X[:2])
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)
