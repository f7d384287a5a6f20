import json

import pytest
from omegaconf import OmegaConf

import rebuttal
from rebuttal.errors import ConfigError
from tests.conftest import save_images


def test_run_gives_a_row_a_metric(tmp_path):
    frame = rebuttal.run("two_stage", ["debug=tiny", "model=mlp_toy", f"store={tmp_path}"])
    assert list(frame.columns) == ["stage", "measure", "value"]
    found = frame.set_index(["stage", "measure"])["value"]
    assert found["student", "student_size"] == 60
    assert 0 <= found["student", "agreement"] <= 1
    with pytest.raises(ConfigError, match=r"^training\.epochs=0: "):
        rebuttal.run("toy", ["training.epochs=0", f"store={tmp_path}"])


def test_the_run_s_files_are_left_where_asked(tmp_path):
    rebuttal.run("toy", ["debug=tiny", f"store={tmp_path / 'store'}"], folder=tmp_path / "run")
    assert OmegaConf.load(tmp_path / "run/config.yaml").stages.teacher.training.epochs == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["teacher/epochs"] == 2


def test_the_baseline_replication_is_a_row_a_network(tmp_path, capsys):
    save_images(tmp_path / "images", {f"{s}/{c}": 60 for s in ("train", "test") for c in "ab"}, size=(32, 32))
    overrides = ["debug=tiny", "dataset=image_folder", f"dataset.root={tmp_path / 'images'}", f"store={tmp_path}"]
    frame = rebuttal.run_baseline_replication(["linear", "mlp_toy"], [4, 5], epochs=3, overrides=overrides)
    assert list(zip(frame["architecture"], frame["labels"], frame["seed"]))[:3] == [
        ("linear", "none", 4),
        ("linear", "none", 5),
        ("linear", "random", 4),
    ]
    assert len(frame) == 8
    assert (frame["epochs"] == 3).all()
    assert (frame.groupby("labels")["label_noise"].max() > 0).tolist() == [False, True]
    assert capsys.readouterr().out.count("train ") == 8
