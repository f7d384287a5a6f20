import json

import numpy as np
import pandas as pd
import pytest
import yaml

from rebuttal.config import CONFIG_DIR
from rebuttal.report.charts import HistoryChart
from rebuttal.report.claims import read_claims
from rebuttal.report.declarations import read_declarations
from rebuttal.report.tables import grouped

OF_NOISE = ("two_stage", "leak", "sample_efficiency")  # whose claims are about random labels

RANDOM = {"_target_": "rebuttal.data.RandomLabels"}


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder as `rebuttal.train` does."""

    def make(
        name,
        metrics,
        seed=0,
        experiment="toy",
        version="0.1.0",
        model=None,
        corruption=None,
        training=None,
        preprocess=None,
        judged=True,
        **settings,
    ):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = {
            "name": experiment,
            "seed": seed,
            "store": f"/{name}",
            "judged": judged,
            "model": model or {},
            "dataset": settings,
            "corruption": corruption or {},
            "stages": {"seed": seed},
            **({"training": training} if training else {}),
            **({"preprocess": preprocess} if preprocess else {}),
        }
        stages = {"fit": [experiment, seed, model, corruption, training, sorted(settings.items())]}
        provenance = {"rebuttal": version, "command": ["train", f"experiment={experiment}"]}
        (folder / "provenance.json").write_text(json.dumps(provenance | {"config": config, "stages": stages}))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make


@pytest.fixture
def study(make_run, tmp_path):
    """Write runs of every experiment, or of some, for several seeds, with a random value for each metric that a report
    reads."""

    def make(seeds=3, experiments=None, **settings):
        rng = np.random.default_rng(0)
        claims, declarations = read_claims(), read_declarations()
        resnet = option_of("model", "resnet18")
        for experiment in experiments or sorted(one.experiment for one in declarations):
            names, about = metric_names(experiment, claims, declarations), claims_about(experiment, claims)
            for fraction in (0.0, 0.5, 1.0) if experiment in ("baseline", "corruption") else (None,):
                for seed in range(seeds):
                    metrics = {name: 0.5 + rng.normal(0, 0.01) for name in names}
                    metrics |= {name: 1.0 for name in metrics if name.endswith(("train_accuracy", "fitted"))}
                    metrics |= {name: 50_000 for name in metrics if name.endswith("train_size")}
                    metrics |= {"fit/label_noise": fraction, "fit/steps": 100, "fit/steps_to_fit": 50 + seed}
                    data = {"_target_": "rebuttal.data.UniformNoise"} if experiment in OF_NOISE else {}
                    for claim in (claim for claim in about if not (claim.models and claim.settings)):
                        metrics |= {name: low for name, (low, _) in claim.where.items()}  # within every region
                        data |= nested(claim.settings).get("dataset", {})
                    corruption = None if fraction is None else RANDOM | {"fraction": fraction}
                    name = f"{experiment}-{fraction}-{seed}"
                    make_run(name, metrics, seed, experiment, model=resnet, corruption=corruption, **data, **settings)
            of_settings = [claim for claim in about if claim.models and claim.settings]
            for same in grouped(of_settings, lambda claim: f"{claim.models} {claim.labels} {claim.settings}"):
                for seed in range(seeds):
                    metrics = {name: 0.5 + rng.normal(0, 0.01) for claim in same for name in claim.metrics}
                    make_run_about(same, seed, metrics)
        declared = [one for one in declarations if experiments is None or one.experiment in experiments]
        for spec in (spec for one in declared for spec in one.charts if isinstance(spec, HistoryChart)):
            for number, selection in enumerate(spec.series.values()):
                make_history(f"{spec.name}-{number}", spec, selection)
        return tmp_path / "runs"

    def make_run_about(claims, seed, metrics):
        """A run of the model, data, labels and settings that these claims are about."""
        claim, *_ = claims
        model = option_of("model", *claim.models[:1])
        data = {"_target_": option_of("dataset", *claim.datasets[:1])["_target_"]} if claim.datasets else {}
        metrics |= {"fit/train_accuracy": 1.0, "fit/test_accuracy": metrics.get("fit/test_accuracy", 0.5)}
        metrics |= {name: 1.0 for claim in claims for name in claim.fitted}
        metrics |= {name: low for claim in claims for name, (low, _) in claim.where.items()}
        name = f"{claim.experiment}-{claim.region}-{seed}".replace("/", "-")
        parts = parts_of(claim.settings, f"{claim.labels} labels") | data | {"model": model}
        make_run(name, metrics, seed, claim.experiment, **parts)

    def make_history(name, spec, selection):
        """A run that such a chart shows."""
        parts = parts_of(selection.settings, selection.labels)
        folder = make_run(name, {spec.size: 50_000}, 0, spec.experiment, **parts)
        rows = [{"stage": spec.stage, "step": step, **dict.fromkeys(spec.panels.values(), 0.5)} for step in (1, 2)]
        pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)

    return make


def option_of(group, name):
    return yaml.safe_load((CONFIG_DIR / group / f"{name}.yaml").read_text(encoding="utf-8"))


def parts_of(settings, labels):
    """What `make_run` takes for a run with these settings, by the path of the key, and labels."""
    config = nested(settings)
    random = RANDOM | {"fraction": 1.0} if labels == "random labels" else None
    parts = {"corruption": random, **{part: config.get(part) for part in ("model", "training", "preprocess")}}
    return parts | config.get("dataset", {})


def nested(settings):
    """The config with these settings, by the path of the key."""
    config = {}
    for path, value in settings.items():
        *parents, key = path.split(".")
        part = config
        for parent in parents:
            part = part.setdefault(parent, {})
        part[key] = value
    return config


def claims_about(experiment, claims):
    return [claim for claim in claims if claim.experiment == experiment]


def metric_names(experiment, claims, declarations):
    """Return every metric of this experiment that a claim, a table, a chart or a comparison reads."""
    by_pattern = {"sample_efficiency": [f"sample_efficiency/kappa_{n1}_{n2}" for n1 in (300, 1000) for n2 in (10, 100)]}
    by_pattern["questions"] = [f"questions/{name}_kappa_{n2}" for name in ("own", "active") for n2 in (10, 100)]
    by_pattern["map"] = [
        f"map/{what}_{n1}_{n2}" for what in ("agreement", "kappa") for n1 in (30, 60) for n2 in (9, 90)
    ]
    by_pattern["random_walk"] = [f"thinning/{what}_{k}" for what in ("kappa", "steps_to_fit") for k in (1, 16)]
    found = set(by_pattern.get(experiment, ()))
    for claim in claims_about(experiment, claims):
        found |= set(claim.metrics)
    for one in (one for one in declarations if one.experiment == experiment):
        found |= {name for _, spec in one.located() for _, names in spec.metrics() for name in names}
    return sorted(found)
