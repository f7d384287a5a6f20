import json

import pytest


@pytest.fixture
def leave(tmp_path):
    """Leaves a run folder as `rebuttal.train` does."""

    def make(name, metrics, seed=0, experiment="toy", **settings):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = {"name": experiment, "seed": seed, "store": f"/{name}", "dataset": settings, "stages": {"seed": seed}}
        stages = {"fit": [experiment, seed, sorted(settings.items())]}
        provenance = {"config": config, "stages": stages}
        (folder / "provenance.json").write_text(json.dumps(provenance))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make
