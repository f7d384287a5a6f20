from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rebuttal.data import Arrays, Mixture, UniformNoise
from rebuttal.data.labels import true_labels
from rebuttal.errors import ConfigError, UserError
from rebuttal.functions.hash import Hash
from rebuttal.functions.matched import Matched
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Student, Trained, Untrained
from rebuttal.measures import LabelDemand
from rebuttal.measures.agreement import agreement
from rebuttal.models import MLP, VGG11, AirBench, CropAndNormalise
from rebuttal.models.airbench import patch_covariance
from rebuttal.stages import Fit, Judge, Measure, Mimic, Reproducibility
from rebuttal.stages.mimic import _converged
from rebuttal.training.evaluation import HELD_BACK, predict
from tests.stages.conftest import DATA


@pytest.mark.parametrize("target", ["hard", "soft", "logit"])
def test_numbers_are_those_of_the_two_networks_on_held_out_inputs(mimic, fit, session, target):
    student = replace(mimic, target=target)
    metrics = student.run(session).metrics
    held_out = DATA.examples("test", 0).inputs
    teacher_logits, logits = predict(fit.network(session), held_out), predict(student.network(session), held_out)
    for name, value in agreement(teacher_logits, logits).items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name
    own = DATA.examples("student", 0).inputs
    same = predict(fit.network(session), own).argmax(dim=1) == predict(student.network(session), own).argmax(dim=1)
    assert metrics["train_agreement"] == same.double().mean().item()


@pytest.mark.parametrize("target", ["hard", "soft", "logit"])
def test_a_student_learns_something_of_a_smooth_teacher(mimic, session, target):
    metrics = replace(mimic, target=target).run(session).metrics
    assert metrics["kappa_low"] > 0.2


def test_a_student_learns_nothing_of_a_hash(mimic, fit, session):
    training = replace(fit.training, lr=1e-2)
    metrics = replace(mimic, teacher=Hash(fit=fit), training=training).run(session).metrics
    assert metrics["train_agreement"] > 0.5  # it memorises
    assert metrics["kappa_low"] < 0 < metrics["kappa_high"]
    assert metrics["agreement"] == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 500))


def test_the_untrained_teacher_is_the_teacher_before_its_first_step(mimic, fit, session):
    function = Untrained(fit=fit).function(session)
    initial, trained = function.state_dict(), fit.network(session).state_dict()
    assert not torch.equal(initial["body.1.weight"], trained["body.1.weight"])
    assert torch.equal(initial["preprocess.mean"], trained["preprocess.mean"])
    longer = replace(fit, training=replace(fit.training, epochs=31))
    assert Untrained(fit=longer).identity(session) == Untrained(fit=fit).identity(session)
    assert torch.equal(Untrained(fit=longer).function(session).state_dict()["body.1.weight"], initial["body.1.weight"])


def test_the_student_has_its_own_initial_weights_and_inputs(mimic, fit, session):
    source = session.open(DATA)
    theirs = fit.initial_network(session).body[1].weight
    ours = mimic._new_student(session, source.examples("student", 0).inputs).body[1].weight
    assert theirs.shape == ours.shape and not torch.equal(theirs, ours)
    every = torch.cat([source.examples(split, 0).inputs for split in ("train", "student", "test")])
    assert len(every.unique(dim=0)) == 60 + 400 + 500


def test_targets_and_losses_equal_their_definition(mimic):
    logits = torch.randn(50, 10)
    ours = torch.randn(50, 10)
    targets, loss = mimic._objective(logits)
    assert torch.equal(targets, logits.argmax(dim=1))
    assert loss is mimic.training.loss and loss(ours, targets) == F.cross_entropy(ours, targets)
    targets, loss = replace(mimic, target="soft", temperature=4.0)._objective(logits)
    expected = -16 * ((logits / 4).softmax(dim=1) * (ours / 4).log_softmax(dim=1)).sum(dim=1).mean()
    assert loss(ours, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    targets, loss = replace(mimic, target="logit")._objective(logits)
    spread = (logits - logits.mean(dim=1, keepdim=True)).square().mean()
    assert loss(ours, targets).item() == pytest.approx(((ours - logits).square().mean() / spread).item(), rel=1e-5)


def test_any_architecture_may_learn_from_any_other(mimic, session):
    student = replace(mimic, model=MLP(hidden=(16, 16)))
    assert student.run(session).metrics["parameters"] == 20 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    assert student.identity(session)["teacher"] == mimic.identity(session)["teacher"]


def test_students_of_one_teacher_share_it(mimic, session):
    for target in ("hard", "logit"):
        replace(mimic, target=target).run(session)
    assert sorted(name.split("/")[0] for name in session.store.made) == ["fit", "mimic", "mimic"]


def test_temperature_decides_soft_targets_only(mimic, session):
    warm = replace(mimic, temperature=3.0)
    assert warm.identity(session) == mimic.identity(session)
    soft = replace(mimic, target="soft")
    assert replace(warm, target="soft").identity(session) != soft.identity(session)


def test_inputs_of_another_shape_are_rejected(mimic, session):
    with pytest.raises(ConfigError, match=r"must have the shape of its teacher's; allowed: \[20\]"):
        replace(mimic, dataset=UniformNoise(shape=(21,))).check(session)


def test_a_student_teaches_no_other(mimic, fit, session):
    """It would get the inputs that its teacher saw, and with the run's seed the same initial weights and order."""
    for teacher in (Student(mimic=mimic), Matched(of=Student(mimic=mimic), to=Trained(fit=fit))):
        with pytest.raises(ConfigError, match=r"teacher=\w+: it has seen the inputs .*; allowed: functions other than"):
            replace(mimic, teacher=teacher).check(session)
    Mimic.check(replace(mimic, teacher=Matched(of=Hash(fit=fit), to=Trained(fit=fit))), session)


@dataclass(frozen=True)
class Broken:
    """A user's function without a value at some inputs."""

    fit: Fit
    differentiable = True
    fitted = False

    def needs(self, session):
        return ()

    def function(self, session):
        return lambda x: torch.where(x[:, :1] > 0.9, torch.nan, x[:, :10])

    def identity(self, session):
        return "broken"


@dataclass(frozen=True)
class Narrow(Broken):
    """Has logits of fewer classes than its data, or a class number in their place."""

    classes: int = 9

    def function(self, session):
        return (lambda x: x[:, : self.classes]) if self.classes else (lambda x: x.argmax(dim=1))

    def identity(self, session):
        return f"narrow {self.classes}"


def test_no_class_is_made_of_what_is_no_number(mimic, fit, session):
    broken = Broken(fit)
    whole = DATA.examples("student", 0).inputs
    message = rf"its outputs at {int((whole[:, 0] > 0.9).sum())} of 400 inputs are not finite"
    with pytest.raises(UserError, match=rf"stages\.\*\.teacher: {message}"):
        replace(mimic, teacher=broken).artifact(session)
    for stage, key in (
        (Judge(student=broken, teacher=mimic.teacher, also={}), "student"),
        (Judge(student=mimic.teacher, teacher=broken, also={}), "teacher"),
        (Reproducibility(one=Hash(fit=fit), other=broken, probes=50, planes=3, resolution=8), "other"),
    ):
        with pytest.raises(UserError, match=rf"stages\.\*\.{key}: its outputs at \d+ of \d+ inputs are not finite"):
            stage.run(session)


@pytest.mark.parametrize(("classes", "shape"), [(9, r"\(\d+, 9\)"), (0, r"\(\d+,\)")])
def test_a_function_that_gives_no_logits_of_each_class_is_refused_in_one_line(mimic, fit, session, classes, shape):
    narrow, limits = Narrow(fit, classes), {"only": None, "show": (), "probes": 8, "memory": 64, "fit_target": 1.0}
    measured = {"functions": {"f": narrow}, "measures": {"label_demand": LabelDemand()}}
    for stage, key in (
        (replace(mimic, teacher=narrow), "teacher"),
        (Judge(student=narrow, teacher=mimic.teacher, also={}), "student"),
        (Judge(student=mimic.teacher, teacher=narrow, also={}), "teacher"),
        (Reproducibility(one=Hash(fit=fit), other=narrow, probes=50, planes=3, resolution=8), "other"),
        (Measure(**measured, **limits, dataset=fit.dataset, seed=0), "functions.f"),
    ):
        message = rf"stages\.\*\.{key}: its outputs have the shape {shape}; allowed: \(\d+, 10\)"
        with pytest.raises(UserError, match=message):
            stage.run(session)


def test_the_student_s_images_are_those_that_the_teacher_s_leave(mimic, fit, session, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.random((200, 20)).astype(np.float32), y=np.arange(200) % 10)
    arrays = Arrays(path=str(tmp_path / "a.npz"), train_size=100, student_size=50)
    taught = replace(mimic, teacher=Trained(fit=replace(fit, dataset=arrays)))
    taught.check(session)
    with pytest.raises(ConfigError, match=r"dataset.train_size=30: .* trained on 100; allowed: at least 100"):
        replace(taught, dataset=replace(arrays, train_size=30)).check(session)
    replace(taught, dataset=replace(arrays, train_size=110)).check(session)


@pytest.mark.parametrize(("share", "unseen"), [(0.0, 60), (1.0, 0)])
def test_labels_count_as_unseen_only_at_inputs_that_the_student_has_not_seen(mimic, session, share, unseen):
    """Those of a mixture with share 1 are its teacher's: 400 draws leave none of 60 out."""
    student = replace(mimic, dataset=Mixture(new=DATA, towards=DATA, share=share))
    assert len(student._unseen(session)) == unseen
    assert (student.run(session).metrics["unseen_memorised_agreement"] is None) == (unseen == 0)


@pytest.mark.parametrize(
    ("boundary", "held_back", "fits"), [(0.95, 0.05, True), (0.95, 0.3, False), (0.999, 0.1, False)]
)
def test_what_is_held_back_is_not_near_the_boundary_and_as_much_as_is_said(mimic, session, boundary, held_back, fits):
    student = replace(mimic, boundary=boundary, held_back=held_back)
    if fits:
        student.check(session)
        mine, others = student._divided(400)
        assert (len(mine), len(others)) == (student.trained_on(session), 20)
    else:
        with pytest.raises(ConfigError, match=rf"held_back={held_back}: of 400 inputs, \d+ are not made by"):
            student.check(session)


def test_a_student_may_have_its_teacher_s_initial_weights(mimic, fit, session):
    begun = fit.initial_network(session)
    student = replace(mimic, initialisation="teacher", training=replace(fit.training, lr=1e-12, epochs=1))
    held_out = DATA.examples("test", 0).inputs
    assert torch.allclose(predict(student.network(session), held_out), predict(begun.eval(), held_out), atol=0.1)
    other = replace(student, initialisation="own")
    assert not torch.allclose(predict(other.network(session), held_out), predict(begun, held_out), atol=0.1)
    with pytest.raises(ConfigError, match="initialisation=teacher: the student has another architecture"):
        replace(student, model=MLP(hidden=(3,))).check(session)
    images = replace(fit, dataset=UniformNoise(shape=(3, 8, 8)))
    cropped = replace(student, teacher=Trained(fit=images), preprocess=CropAndNormalise(crop=6))
    with pytest.raises(ConfigError, match="another architecture, or crop; allowed: own, or those of its teacher"):
        cropped.check(session)


@pytest.mark.parametrize("kind", [Hash, NearestNeighbour])
def test_the_initial_weights_of_a_teacher_without_a_network_are_those_of_its_stage(kind, mimic, fit, session):
    def student(**own):
        return replace(mimic, initialisation="teacher", teacher=kind(fit=replace(fit, **own)))

    one, other = student(), student(initialisation=1)
    assert one.teacher.identity(session) == other.teacher.identity(session)
    assert one.identity(session) != other.identity(session)
    weights = (next(each.network(session).parameters()) for each in (one, other))
    assert not torch.equal(*weights)


def test_batch_norm_statistics_of_new_inputs(recipe, session):
    data = UniformNoise(shape=(3, 4, 4), train_size=40, student_size=100, test_size=50)
    fit = Fit(model=VGG11(), dataset=data, corruption=true_labels(), training=recipe(epochs=2, batch_size=20), seed=0)
    network = Trained(fit=fit, batch_norm="new_inputs").function(session)
    inputs = data.examples("student", 0).inputs
    first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    convolution = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    before = convolution(network.preprocess(inputs))
    assert torch.allclose(first.running_mean, before.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, before.var(dim=(0, 2, 3)), rtol=1e-3)
    one, many = predict(network, inputs[:1]), predict(network, inputs)
    assert torch.allclose(one, many[:1], atol=1e-4)  # a function of each input alone
    usual, anew = (Trained(fit=fit, batch_norm=mode) for mode in ("evaluation", "new_inputs"))
    assert usual.identity(session) != anew.identity(session)
    assert not torch.allclose(predict(usual.function(session), inputs), many, atol=1e-3)


def test_the_teacher_s_effective_number_of_classes(mimic, session):
    table = np.array(mimic.artifact(session).record["confusion"]).sum(axis=1)
    p = table[table > 0] / table.sum()
    assert mimic.run(session).metrics["teacher_classes"] == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_networks_are_whitened_on_their_own_inputs_stored_so_and_copied_with_the_teacher_s_weights(
    mimic, fit, recipe, session
):
    images = UniformNoise(shape=(3, 6, 6), train_size=60, student_size=60, test_size=20)
    training = recipe(epochs=1, precision="bfloat16")
    teacher = replace(fit, model=AirBench(widths=(6, 8)), dataset=images, training=training)
    first = teacher.initial_network(session).body[0].weight
    covariance = patch_covariance(teacher.network(session).preprocess(images.examples("train", 0).inputs))
    filters = first.view(24, 12)[:12].double()
    assert torch.allclose(filters @ covariance @ filters.T, torch.eye(12, dtype=torch.float64), atol=1e-2)
    assert torch.equal(teacher.network(session).body[0].weight, first)
    for initialisation, same in (("own", False), ("teacher", True)):
        student = replace(mimic, teacher=Trained(fit=teacher), training=training, initialisation=initialisation)
        assert torch.equal(student.network(session).body[0].weight, first) == same


def test_a_training_has_converged_if_its_last_quarter_gained_nothing():
    def rows(*losses):
        return [{"step": 10 * (i + 1), HELD_BACK: loss} for i, loss in enumerate(losses)]

    assert _converged(rows(3, 1, 2, 3))
    assert _converged(rows(3, 2, 1.005, 1)) and not _converged(rows(3, 2, 1.02, 1))
    assert not _converged(rows(1))  # nothing to compare with
