"""Identity by exclusion: whatever decides a number is hashed. Every field of every stage is tried."""

import dataclasses
import typing
from functools import cache

import pytest
from hydra import compose, initialize_config_dir

from rebuttal.config import CONFIG_DIR
from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels, true_labels
from rebuttal.errors import ConfigError
from rebuttal.functions import Hash, Untrained
from rebuttal.measures import LabelDemand
from rebuttal.models import MLP
from rebuttal.runs.build import build_run, resolve
from rebuttal.runs.configuration import configuration
from rebuttal.runs.execute import execute
from rebuttal.runs.provenance import identities
from rebuttal.stages import Fit, Measure
from rebuttal.stages.session import Session
from rebuttal.store.identity import fingerprint
from tests.golden import EXPERIMENTS, ON_IMAGES, save_golden_images
from tests.parameters import some_slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return save_golden_images(tmp_path_factory.mktemp("images"))


def composed(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return resolve(compose("train", [*overrides]))


def at_debug_size(experiment, images):
    real = ["dataset=image_folder", f"dataset.root={images}"] if experiment in ON_IMAGES else []
    return [f"experiment={experiment}", "debug=tiny", "model=mlp_toy", *real]


def leaves(value, path=()):
    """Every field of a tree of config objects that is no object itself: (path, field, value)."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if is_tree(inner):
                yield from leaves(inner, (*path, field.name))
            else:
                yield (*path, field.name), field, inner
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))


def is_tree(value):
    return dataclasses.is_dataclass(value) or (
        isinstance(value, dict) and any(dataclasses.is_dataclass(inner) for inner in value.values())
    )


def others(field, value):
    """Values that the field might have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value + 0.25, value / 3]
    if isinstance(value, str):
        return [*choices(field.type), value + "x"]
    if isinstance(value, tuple):
        return [value[:-1], (*value, *value[-1:])] if value else []
    return [1, 0.5, *choices(field.type)]  # None


def choices(annotation):
    """The values of every Literal within an annotation."""
    found = list(typing.get_args(annotation)) if typing.get_origin(annotation) is typing.Literal else []
    return found + [c for inner in typing.get_args(annotation) for c in choices(inner) if isinstance(c, str)]


def changed(value, path, new):
    if not path:
        return new
    inner = value[path[0]] if isinstance(value, dict) else getattr(value, path[0])
    inner = changed(inner, path[1:], new)
    if isinstance(value, dict):
        return value | {path[0]: inner}
    return dataclasses.replace(value, **{path[0]: inner})


@pytest.mark.parametrize("experiment", some_slow(EXPERIMENTS, "map", "two_stage"))
def test_a_changed_field_changes_the_identity_or_is_declared_to_decide_nothing(experiment, images, tmp_path):
    _, stages = build_run(composed(*at_debug_size(experiment, images), f"store={tmp_path}"))
    settings, _ = build_run(composed("debug=tiny", f"store={tmp_path}"))
    session = Session(settings)
    before = {name: fingerprint(identity) for name, identity in identities(stages, session).items()}
    tried = 0
    for name, stage in stages.items():
        for path, field, value in leaves(stage):
            for new in others(field, value):
                try:
                    other = {name: changed(stage, path, new)}
                    after = fingerprint(identities(other, session)[name])
                except (ConfigError, ValueError, TypeError, AttributeError):
                    continue  # not a value that it may have
                tried += 1
                assert (after != before[name]) == field.metadata.get("decides", True), (name, path, value, new)
                break
    assert tried > 15


TWICE = {
    "sample_efficiency": ("stages.sample_efficiency.kappas=[0.5]", "stages.sample_efficiency.kappas=[0.25]"),
    "smoothness": ("stages.smoothness.fit_target=1.0", "stages.smoothness.fit_target=0.1"),
}


@pytest.mark.parametrize("experiment", some_slow(TWICE, "smoothness", "sample_efficiency"))
def test_another_setting_is_another_run_also_in_one_store(experiment, images, tmp_path):
    common = at_debug_size(experiment, images)
    one, other = TWICE[experiment]
    shared = [run_in(tmp_path, *common, f"store={tmp_path / 'shared'}", setting) for setting in (one, other)]
    assert shared[1] == run_in(tmp_path, *common, f"store={tmp_path / 'fresh'}", other) != shared[0]


def test_what_is_measured_of_a_null_function_belongs_to_its_labels(recipe, session):
    """The labels that a hash or an untrained network would have been given decide what they demand."""
    dataset = UniformNoise(shape=(12,), classes=2, train_size=8, test_size=8)
    found = []
    for labels in (true_labels(), random_labels()):
        fit = Fit(model=MLP(hidden=(8,)), dataset=dataset, corruption=labels, training=recipe(epochs=1), seed=0)
        found.append({name: demand(name, fit, session) for name in ("hash", "untrained")})
    assert found[0]["hash"] != found[1]["hash"] and found[0]["untrained"] != found[1]["untrained"]


def demand(name, fit, session):
    function = {"hash": Hash, "untrained": Untrained}[name](fit=fit)
    measures = {"label_demand": LabelDemand()}
    limits = {"only": None, "show": (), "probes": 8, "memory": 64, "fit_target": 1.0, "seed": 0}
    stage = Measure(functions={"f": function}, measures=measures, dataset=fit.dataset, **limits)
    return stage.run(session).metrics


def run_in(folder, *overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return execute(compose("train", [*overrides]), folder).metrics


@cache
def configuration_of(*overrides):
    config = composed(*overrides)
    settings, stages = build_run(config)
    return configuration(settings.name, identities(stages, Session(settings)))


SAME = [
    (["training.weight_decay=1"], ["training.weight_decay=1.0"]),
    (["corruption=partial", "corruption.fraction=1"], ["corruption=random"]),
    (["corruption=partial", "corruption.fraction=0"], ["corruption=none"]),
    (["seed=3"], ["seed=4"]),
    (["training.weight_decay=-0.0"], ["training.weight_decay=0"]),
    (["device=cpu", "checkpoint=null", "batch_size=auto"], []),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_configuration_that_is_typed_in_two_ways_is_one(one, other, tmp_path):
    common = ["experiment=baseline", "dataset=uniform_noise", "model=mlp_toy", "debug=tiny", f"store={tmp_path}"]
    assert configuration_of(*common, *one) == configuration_of(*common, *other)
    assert configuration_of(*common) != configuration_of(*common, "training.epochs=3")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_runs_of_an_experiment_that_differ_in_their_seed_only_are_one_configuration(experiment, images, tmp_path):
    """Of every stage, also where an identity holds a seed within a list."""
    chosen = [*at_debug_size(experiment, images), f"store={tmp_path}"]
    assert configuration_of(*chosen, "seed=3") == configuration_of(*chosen, "seed=4")


def test_a_data_set_is_one_configuration_however_its_folder_is_named(images, tmp_path, monkeypatch):
    monkeypatch.chdir(images.parent)
    common = ["experiment=baseline", "dataset=image_folder", "model=mlp_toy", "debug=tiny", f"store={tmp_path}"]
    relative, absolute = f"dataset.root={images.name}", f"dataset.root={images}"
    assert configuration_of(*common, relative) == configuration_of(*common, absolute)
