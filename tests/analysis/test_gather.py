import json
import time

from rebuttal.analysis.gather import gather


def test_a_row_a_run_with_settings_and_metrics(leave, tmp_path):
    leave("a", {"fit/x": 1.5, "fit/y": None}, seed=3, train_size=10)
    table = gather([tmp_path]).table()
    (row,) = table.to_dict("records")
    assert row["experiment"] == "toy" and row["seed"] == 3
    assert row["config.dataset.train_size"] == 10 and row["fit/x"] == 1.5


def test_seeds_share_a_configuration_and_settings_do_not(leave, tmp_path):
    for name, seed, size in (("a", 0, 10), ("b", 1, 10), ("c", 0, 20)):
        leave(name, {"fit/x": 1.0}, seed=seed, train_size=size)
    a, b, c = gather([tmp_path]).runs
    assert a.configuration == b.configuration != c.configuration
    assert len({a.identity, b.identity, c.identity}) == 3


def test_versions_are_counted_and_commands_kept(leave, tmp_path):
    for name, version in (("a", "0.1.0"), ("b", "0.1.0"), ("c", "0.2.0")):
        leave(name, {"fit/x": 1.0}, seed=ord(name), version=version)
    gathered = gather([tmp_path])
    assert gathered.versions() == {"0.1.0": 2, "0.2.0": 1}
    assert {run.command for run in gathered.runs} == {"python -m rebuttal.train experiment=toy"}


def test_what_cannot_be_counted_is_named_and_the_rest_still_is(leave, tmp_path):
    leave("good", {"fit/x": 1.0})
    leave("again", {"fit/x": 1.0})
    failed = leave("failed", {}, seed=1)
    (failed / "metrics.json").unlink()
    (failed / "error.txt").write_text("training.lr=9: too much\n\nTraceback")
    unfinished = tmp_path / "runs" / "unfinished"
    unfinished.mkdir()
    (unfinished / "train.log").touch()
    truncated = leave("truncated", {"fit/x": 1.0}, seed=2)
    (truncated / "metrics.json").write_text('{"fit/x": 1.')
    old = leave("old", {"fit/x": 1.0}, seed=4)
    (old / "provenance.json").write_text(json.dumps({"stages": {}}))
    gathered = gather([tmp_path])
    assert [run.folder.name for run in gathered.runs] == ["again"]
    told = {p.folder.name: (p.status, p.why) for p in gathered.problems}
    assert told["good"] == ("duplicate", f"the same run as {tmp_path / 'runs' / 'again'}")
    assert told["failed"] == ("failed", "training.lr=9: too much")
    assert told["unfinished"][0] == "unfinished"
    assert told["truncated"][0] == told["old"][0] == "damaged"
    assert "another version" in told["old"][1]


def test_ten_thousand_runs_take_under_ten_seconds(leave, tmp_path):
    for i in range(10_000):
        leave(str(i), {f"fit/{k}": float(k) for k in range(30)}, seed=i % 100, train_size=i // 100)
    begin = time.perf_counter()
    gathered = gather([tmp_path])
    assert len(gathered.table()) == 10_000
    assert time.perf_counter() - begin < 10
    assert len({run.name for run in gathered.runs}) == 100
