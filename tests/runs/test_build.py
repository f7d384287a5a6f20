import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hydra import compose

from rebuttal.config import composing
from rebuttal.errors import ConfigError
from rebuttal.runs.build import build_run, check_objective, resolve
from rebuttal.stages.session import Session
from tests import golden
from tests.golden import EXPERIMENTS


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Builds the stages of an experiment at `debug=tiny`."""
    monkeypatch.chdir(tmp_path)

    def build(experiment):
        images = golden.save_golden_images(tmp_path / "images")
        with composing():
            cfg = compose("train", golden.overrides(experiment, images))
        settings, stages = build_run(resolve(cfg))
        return stages, Session(settings)

    return build


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_names_of_metrics_known_before_a_run_are_those_that_it_has(experiment, composed):
    stages, session = composed(experiment)
    named = {f"{name}/{metric}" for name, stage in stages.items() for metric in stage.metric_names(session)}
    found = set(json.loads((Path(golden.__file__).parent / f"{experiment}.json").read_text())["metrics"])
    patterns = {name for name in named if "*" in name}
    assert named - patterns <= found
    assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in found - named)
    for name in found:
        check_objective(name, stages, session)


@pytest.mark.parametrize(
    ("experiment", "objective", "allowed", "nearest"),
    [
        ("toy", "student/kapa", "student/agreement, student/agreement_low, ", "student/kappa"),
        ("toy", "kappa", "teacher/…, student/…, ", ""),
        ("toy", "curve/hard_kappa_7", "curve/hard_agreement_2, curve/hard_kappa_2, ", "curve/hard_kappa_"),
        ("smoothness", "smoothness/traind_gradient_norm", "smoothness/true_labels_*, ", ""),
    ],
)
def test_an_objective_that_a_run_cannot_have(experiment, objective, allowed, nearest, composed):
    stages, session = composed(experiment)
    with pytest.raises(ConfigError) as caught:
        check_objective(objective, stages, session)
    line = str(caught.value)
    assert line.startswith(f"objective={objective}: no such metric; allowed: {allowed}")
    assert f"; nearest: {nearest}" in line if nearest else "nearest: " not in line


def test_a_stage_that_does_not_say_its_metrics_may_have_any(session):
    class Own:
        pass

    check_objective("own/anything", {"own": Own()}, session)
    with pytest.raises(ConfigError, match=r"^objective=other/x: no such metric; allowed: own/…"):
        check_objective("other/x", {"own": Own()}, session)
