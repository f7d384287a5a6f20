"""What is new to a student is new: inputs of training, student and test share no bytes, whatever the seeds."""

from dataclasses import replace

import pytest

from rebuttal.data import GaussianNoise, ImageFolder, Mixture, NoiseLike, RandomWalk, UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.functions import Hash, Trained, independent, refitted
from rebuttal.models import MLP
from rebuttal.stages import Fit, LearningCurve, Mimic, SampleEfficiency, Seeds, StudentSeeds
from rebuttal.stages.variants import repeated
from tests.conftest import save_images

SIZES = {"train_size": 30, "student_size": 40, "test_size": 30}
WALK = RandomWalk(shape=(3, 8, 8), classes=2, **SIZES)
NOISE = UniformNoise(shape=(3, 8, 8), classes=2, **SIZES)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    save_images(root, {f"{split}/{name}": 40 for split in ("train", "test") for name in ("cat", "dog")}, size=(8, 8))
    return ImageFolder(root=str(root), **SIZES)


def datasets(images):
    """A teacher's dataset, and a student's own or None."""
    mixture = Mixture(new=NoiseLike(like=images, kind="uniform", **SIZES), towards=images, share=0.5)
    return {
        "uniform": (NOISE, None),
        "gaussian": (GaussianNoise(shape=(3, 8, 8), classes=2, **SIZES), None),
        "walk": (WALK, None),
        "walk from an image": (replace(WALK, start=images), None),
        "images": (images, None),
        "shuffled images": (replace(images, pixels="shuffled", subset="random"), None),
        "images, noise for the student": (images, NoiseLike(like=images, kind="gaussian", **SIZES)),
        "images, mixture for the student": (images, mixture),
        "walk, noise for the student": (WALK, NOISE),
    }


def student_of(teacher, recipe, seed, dataset=None, seeds=None):
    settings = {"model": None, "dataset": dataset, "training": recipe(epochs=1), "target": "hard", "temperature": 1.0}
    return Mimic(teacher=teacher, seed=seed, seeds=seeds or StudentSeeds(), **settings)


def rows(inputs):
    return {row.numpy().tobytes() for row in inputs}


def taken(stage, session, split):
    """The bytes of the inputs that a stage really asks for, by the split."""
    asked = []
    session._examples.clear()
    examples = session.examples

    def note(dataset, split, seed):
        found = examples(dataset, split, seed)
        asked.append((split, found.inputs))
        return found

    session.examples = note
    try:
        stage._train(session)
    finally:
        session.examples = examples
    return set().union(*(rows(inputs) for found, inputs in asked if found == split))


NAMES = ["uniform", "gaussian", "walk", "walk from an image", "images", "shuffled images"]
NAMES += ["images, noise for the student", "images, mixture for the student", "walk, noise for the student"]


@pytest.mark.parametrize("seeds", [(0, 0), (0, 5), (3, 0)])
@pytest.mark.parametrize("name", NAMES)
def test_train_student_and_test_inputs_share_no_bytes(name, seeds, images, recipe, session):
    dataset, own = datasets(images)[name]
    for extra in (Seeds(), Seeds(data=7, labels=8, initialisation=9, order=10)):
        labels, plain = random_labels(), {"training": recipe(epochs=1), "model": MLP(hidden=(4,))}
        fit = Fit(dataset=dataset, corruption=labels, seed=seeds[0], seeds=extra, **plain)
        trained = {role: taken(f.fit, session, "train") for role, f in roles(fit).items()}
        student = student_of(Hash(fit=fit), recipe, seeds[1], own)
        new, held_out = taken(student, session, "student"), taken(student, session, "test")
        assert len(new) == 40 and len(held_out) == 30
        assert not new & held_out
        for role, inputs in trained.items():
            assert len(inputs) == 30 and not inputs & (new | held_out), role


def roles(fit):
    return {"teacher": Trained(fit=fit), "independent": independent(fit), "refitted": refitted(fit)}


def test_each_use_of_randomness_can_be_varied_alone(recipe, session):
    plain = {"model": MLP(hidden=(4,)), "dataset": NOISE, "corruption": random_labels(), "training": recipe(epochs=1)}
    base = Fit(seed=0, **plain)

    def what_it_has(fit):
        data, network = fit.training_examples(session), fit.initial_network(session)
        return {
            "data": rows(data.inputs),
            "labels": data.labels.tolist(),
            "initialisation": network.body[1].weight.tolist(),
            "order": fit.artifact(session).record["history"][0]["loss"],
        }

    before = what_it_has(base)
    for use in ("data", "labels", "initialisation", "order"):
        after = what_it_has(replace(base, seeds=Seeds(**{use: 11})))
        assert after[use] != before[use], use
        for other in {"data", "labels", "initialisation"} - {use}:
            assert after[other] == before[other], (use, other)
    assert Fit(seed=0, seeds=Seeds(), **plain).identity(session) == base.identity(session)
    assert "seeds" not in base.identity(session)


def test_repeats_of_different_seeds_share_no_seed(recipe):
    plain = {"model": MLP(hidden=(4,)), "dataset": NOISE, "corruption": random_labels(), "training": recipe()}
    students = [student_of(Hash(fit=Fit(seed=seed, **plain)), recipe, seed) for seed in range(4)]
    seeds = [repeated(student, repeat).seed for student in students for repeat in range(4)]
    assert len(set(seeds)) == 16 and seeds[::4] == [0, 1, 2, 3]
    assert all(repeated(s, k).teacher.fit.seed == repeated(s, k).seed for s in students for k in range(4))


def test_a_curve_resizes_a_mixture_or_refuses_a_dataset_without_sizes(images, recipe, session):
    mixture = datasets(images)["images, mixture for the student"][1]
    fit = Fit(model=MLP(hidden=(4,)), dataset=images, corruption=random_labels(), training=recipe(epochs=1), seed=0)
    student = student_of(Hash(fit=fit), recipe, 0, mixture)
    curve = LearningCurve(students={"student": student}, shares=(0.5, 1.0))
    curve.check(session)
    assert [s.artifact(session).record["metrics"]["student_size"] for s in curve.needs(session)] == [20, 40]
    sizes = {"train_sizes": (10, 20), "student_sizes": (10, 20), "repeats": 2}
    grid = SampleEfficiency(student=student, kappas=(0.5,), agreements=(), **sizes)
    found = {(s.teacher.fit.work(session).examples, s.work(session).examples) for s in grid.needs(session)}
    assert found == {(10, 10), (10, 20), (20, 10), (20, 20)}
    fixed = replace(student, dataset=Fixed())
    with pytest.raises(ConfigError, match=r"^dataset=Fixed: it has no student_size, which a curve sets to "):
        LearningCurve(students={"student": fixed}, shares=(0.5,)).check(session)


class Fixed:
    """A dataset of one size."""

    def open(self, cache):
        return NOISE
