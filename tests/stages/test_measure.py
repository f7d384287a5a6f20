import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from rebuttal.data import UniformNoise
from rebuttal.errors import ConfigError, UserError
from rebuttal.functions.hash import Hash
from rebuttal.functions.matched import Matched
from rebuttal.functions.networks import Trained, Untrained
from rebuttal.measures import (
    FourierSensitivity,
    GradientNorms,
    LipschitzBracket,
    LocalVariation,
    OperatorNorms,
    PathNorm,
)
from rebuttal.measures.gradients import jacobian, norms
from rebuttal.measures.measure import Findings, Subject
from rebuttal.models import AlexNet
from rebuttal.progress import console
from rebuttal.stages.measure import Measure
from tests.stages.conftest import DATA


@pytest.fixture
def stage(fit):
    trained = Trained(fit=fit)
    return Measure(
        functions={
            "trained": trained,
            "untrained": Untrained(fit=fit),
            "hash": Matched(of=Hash(fit=fit), to=trained),
        },
        measures={
            "gradient_norms": GradientNorms(),
            "path_norm": PathNorm(),
            "local_variation": LocalVariation(radii=(0.1,), directions=2),
            "switched_off": None,
        },
        only=None,
        show=("margin_gradient_test", "path_norm_l1_log10", "not_measured"),
        dataset=DATA,
        probes=20,
        memory=64,
        fit_target=1.0,
        seed=0,
    )


def test_numbers_are_those_of_the_measure_at_the_probes_of_each_kind(stage, fit, session):
    metrics = stage.run(session).metrics
    network = fit.network(session)
    for split in ("train", "test"):
        inputs = DATA.examples(split, 0).inputs[:20]
        found = norms(*jacobian(Subject(network, network, True, 10), inputs))
        for name, values in found.items():
            assert metrics[f"trained_{name}_{split}"] == pytest.approx(values.mean().item(), rel=1e-6)


def test_the_rows_of_the_table_are_measures_and_its_columns_functions(stage, session):
    outcome = stage.run(session)
    row = outcome.table["variation_test_0.1"]
    assert list(row) == ["trained", "untrained", "hash"]
    assert row["hash"] > 10 * row["trained"]  # no smoothness at all, at equal spread
    assert "hash" not in outcome.table["margin_gradient_test"]
    assert "hash" not in outcome.table["path_norm_l1_log10"]
    assert outcome.arrays["trained_margin_gradient_noise"].shape == (20,)
    assert not any("switched_off" in name for name in outcome.metrics)


def test_a_long_stage_says_how_far_it_is(stage, session, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", -1)
    stage.run(session)
    said = [record.message for record in caplog.records if record.message.startswith("measures of ")]
    assert said == [f"measures of {name}: {done} of 3" for name in stage.functions for done in range(3)]


def test_between_lies_on_segments_and_noise_fills_the_unit_cube(stage, session):
    inputs = stage._inputs(session)
    train = inputs["train"]
    step = inputs["between"] - train
    share = (step / (train.roll(1, dims=0) - train)).flatten(1)
    assert torch.allclose(share.amax(dim=1), share.amin(dim=1), atol=1e-3)
    assert (share > -1e-3).all() and (share < 1 + 1e-3).all()
    assert 0 <= inputs["noise"].min() < 0.05 and 0.95 < inputs["noise"].max() <= 1


@dataclass(frozen=True)
class Divided:
    """A user's measure."""

    by: float

    def __call__(self, subject, probes):
        return Findings({"ratio": math.nan if self.by == 0 else 1 / self.by})


def test_a_number_that_is_not_finite_is_refused_by_its_name(stage, session):
    with pytest.raises(
        UserError, match=r"^stages.\*.measures.own: ratio of trained is nan; allowed: finite numbers, None"
    ):
        replace(stage, measures={"own": Divided(0.0)}).run(session)
    assert replace(stage, measures={"own": Divided(2.0)}).run(session).metrics["trained_ratio"] == 0.5


def test_an_unfitted_network_is_marked(stage, fit, session):
    assert stage.run(session).metrics["trained_fitted"] == float(fit.run(session).metrics["train_accuracy"] == 1.0)
    strict = replace(stage, functions={"trained": Trained(fit=replace(fit, training=replace(fit.training, epochs=1)))})
    outcome = strict.run(session)
    assert outcome.metrics["trained_fitted"] == 0
    assert "not to be compared: trained" in outcome.words


def test_one_measure_alone_and_stored_results_are_not_computed_again(stage, session):
    alone = replace(stage, only=("path_norm",)).run(session)
    assert set(alone.table) == {
        *(f"path_norm_{norm}_log10{end}" for norm in ("l1", "l2") for end in ("", "_scaled")),
        "fitted",
    }
    made = len(session.store.made)
    everything = stage.run(session)
    assert everything.table["path_norm_l1_log10"] == alone.table["path_norm_l1_log10"]
    assert len(session.store.made) - made == 2 * 3
    assert replace(stage, memory=32).identity(session) == stage.identity(session)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": ("path_norm", "roughness")}, r"only=roughness: no such measure; allowed: gradient_norms, path_norm"),
        ({"functions": {}}, "at least one function"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(stage, session, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(stage, **changes).check(session)


def test_probes_out_of_range(stage):
    with pytest.raises(ValueError, match="probes"):
        replace(stage, probes=0)


@dataclass(frozen=True)
class Gelu:
    """A model with a layer that the operator norms do not support."""

    def network(self, shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(20, classes), nn.GELU())


def test_what_the_data_or_the_networks_lack_is_reported_before_any_training(stage, fit, session):
    waves = {"fourier": FourierSensitivity(norm=1.0, probes=3, cutoff=0.1)}
    with pytest.raises(ConfigError, match=r"measures\.fourier: needs images, .* shape \[20\]; .*fourier=null"):
        replace(stage, measures=waves).check(session)
    unknown = {"gelu": Trained(fit=replace(fit, model=Gelu()))}
    norms = {"operator_norms": OperatorNorms(), "path_norm": PathNorm()}
    with pytest.raises(ConfigError, match=r"layer body\.2 is a GELU, which operator and path norms do not support"):
        replace(stage, functions=unknown, measures=norms).check(session)
    assert not session.store.made


def test_what_needs_layers_is_left_out_of_a_network_whose_layers_are_not_known(stage, fit, session, caplog):
    """Everything else is measured, and the lower bound of the Lipschitz constant with it."""
    bracket = LipschitzBracket(starts=1, steps=1, step=0.1)
    measures = {"norms": OperatorNorms(), "path": PathNorm(), "bracket": bracket, "gradients": GradientNorms()}
    unknown = {"gelu": Trained(fit=replace(fit, model=Gelu())), "plain": Trained(fit=fit)}
    measured = replace(stage, functions=unknown, measures=measures)
    measured.check(session)
    said = "layer body.2 is a GELU, which operator and path norms do not support: norms, path, bracket leave out what"
    assert caplog.text.count(said) == 1 and len(caplog.records) == 1
    table = measured.run(session).table
    assert table["lipschitz_lower"].keys() == table["margin_gradient_test"].keys() == {"gelu", "plain"}
    for name in ("lipschitz_upper", "path_norm_l1_log10", "spectral_product_log10"):
        assert table[name].keys() == {"plain"}


def test_only_path_norms_are_left_out_of_a_network_with_local_response_normalisation(stage, fit, session, caplog):
    images = UniformNoise(shape=(1, 4, 4), train_size=20, test_size=20)
    normalised = {"alexnet": Trained(fit=replace(fit, model=AlexNet(), dataset=images))}
    measures = {"norms": OperatorNorms(), "path": PathNorm()}
    measured = replace(stage, functions=normalised, measures=measures, dataset=images)
    measured.check(session)
    assert "layer body.3 is a LocalResponseNorm, which path norms do not support, because" in caplog.text
    assert ": path leave out what needs it" in caplog.text and len(caplog.records) == 1
    with pytest.raises(ConfigError, match=r"layer body\.3 is a LocalResponseNorm, which path norms do not support"):
        replace(measured, measures={"path": PathNorm()}).check(session)


def test_a_function_fitted_to_other_inputs_is_refused(stage, session):
    elsewhere = replace(stage, dataset=replace(DATA, train_size=30))
    with pytest.raises(ConfigError, match=r"functions\.trained: was fitted to inputs other than the training inputs"):
        elsewhere.check(session)
