import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from rebuttal.store.entries import Artifact, Damaged, Store, read_entry
from rebuttal.store.identity import fingerprint

IDENTITY = {"stage": "test", "lr": 0.1}


def artifact(value=1.0):
    return Artifact({"metrics": {"x": value}}, {"w": torch.arange(6.0).reshape(2, 3) * value})


def never():
    raise AssertionError("made again")


def entry_of(store):
    return store.root / "fit" / fingerprint(IDENTITY)


def test_an_artifact_is_found_again_by_another_process_s_store(tmp_path):
    Store(tmp_path).get_or_make("fit", IDENTITY, artifact)
    found = Store(tmp_path).get_or_make("fit", IDENTITY, never)
    assert found.record == artifact().record
    assert torch.equal(found.tensors["w"], artifact().tensors["w"])


def test_identity_decides_and_the_order_of_its_keys_does_not(tmp_path):
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2}) != fingerprint({"a": "2"})


def test_force_makes_each_artifact_anew_exactly_once(tmp_path):
    Store(tmp_path).get_or_make("fit", IDENTITY, artifact)
    forced = Store(tmp_path, force=True)
    assert forced.get_or_make("fit", IDENTITY, lambda: artifact(2.0)).record["metrics"]["x"] == 2.0
    assert forced.get_or_make("fit", IDENTITY, never).record["metrics"]["x"] == 2.0
    assert Store(tmp_path).get_or_make("fit", IDENTITY, never).record["metrics"]["x"] == 2.0


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_entry_is_noticed_and_made_anew(tmp_path, name, damage, caplog):
    store = Store(tmp_path)
    store.get_or_make("fit", IDENTITY, artifact)
    file = entry_of(store) / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        # The record's digits: a change that is still valid JSON.
        at = content.rindex(b"1.0") if name == "record.json" else len(content) - 2
        content[at] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    with pytest.raises(Damaged):
        read_entry(entry_of(store))
    again = Store(tmp_path).get_or_make("fit", IDENTITY, artifact)
    assert torch.equal(again.tensors["w"], artifact().tensors["w"])
    assert "damaged store entry" in caplog.text
    read_entry(entry_of(store))


def test_an_entry_under_another_s_name_is_not_taken_for_that(tmp_path, caplog):
    store = Store(tmp_path)
    store.get_or_make("fit", {"seed": 1}, artifact)
    (tmp_path / "fit" / fingerprint({"seed": 1})).rename(tmp_path / "fit" / fingerprint({"seed": 0}))
    assert Store(tmp_path).get_or_make("fit", {"seed": 0}, lambda: artifact(2.0)).record["metrics"]["x"] == 2.0
    assert "it belongs to another identity" in caplog.text


def test_a_forced_run_that_was_cut_short_does_not_make_anew_what_it_made(tmp_path):
    first, second, run = {"n": 1}, {"n": 2}, {"run": 1}
    for identity in (first, second):
        Store(tmp_path).get_or_make("fit", identity, artifact)
    cut_short = Store(tmp_path, force=True)
    with pytest.raises(ZeroDivisionError), cut_short.forced_for(run):
        cut_short.get_or_make("fit", first, lambda: artifact(2.0))
        cut_short.get_or_make("fit", second, lambda: 1 / 0)
    other = Store(tmp_path, force=True)
    with other.forced_for({"run": 2}):
        assert other.get_or_make("fit", first, lambda: artifact(2.5)).record["metrics"]["x"] == 2.5
    again = Store(tmp_path, force=True)
    with again.forced_for(run):
        assert again.get_or_make("fit", first, never).record["metrics"]["x"] == 2.5
        assert again.get_or_make("fit", second, lambda: artifact(3.0)).record["metrics"]["x"] == 3.0
    whole = Store(tmp_path, force=True)
    with whole.forced_for(run):
        assert whole.get_or_make("fit", first, lambda: artifact(4.0)).record["metrics"]["x"] == 4.0
    assert not list((tmp_path / "forced").iterdir())


def test_what_cannot_be_kept_is_said_and_fails_nothing(tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the folder should be")
    Store(tmp_path).keep("run", IDENTITY, artifact())
    assert f"not stored ({tmp_path / 'run'}: " in caplog.text


def test_a_failure_leaves_nothing_that_could_be_trusted(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Store(tmp_path).get_or_make("fit", IDENTITY, lambda: 1 / 0)
    nan = Artifact({"metrics": {"x": float("nan")}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Store(tmp_path).get_or_make("fit", IDENTITY, lambda: nan)
    assert [p.name for p in (tmp_path / "fit").iterdir() if p.is_dir()] == []


def test_a_record_reads_as_plain_json(tmp_path):
    store = Store(tmp_path)
    store.get_or_make("fit", IDENTITY, artifact)
    assert json.loads((entry_of(store) / "record.json").read_text())["identity"] == IDENTITY


def _make_slowly(root, log):
    def make():
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.5)
        return artifact()

    assert Store(root).get_or_make("fit", IDENTITY, make).record == artifact().record


@pytest.mark.slow
def test_processes_that_want_the_same_artifact_make_it_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_make_slowly, args=(tmp_path, log)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "made\n"


def test_what_is_handed_out_is_a_copy(tmp_path):
    store = Store(tmp_path)
    for _ in range(2):
        found = store.get_or_make("fit", {"a": 1}, artifact)
        whole = artifact()
        assert torch.equal(found.tensors["w"], whole.tensors["w"]) and found.record == whole.record
        found.tensors["w"].zero_()
        found.record["metrics"]["x"] = -1


def test_an_entry_records_where_it_was_computed_and_a_store_what_it_handed_out(tmp_path):
    first = Store(tmp_path)
    made = first.get_or_make("fit", {"a": 1}, artifact)
    assert {"cpu", "torch", "threads", "deterministic", "tf32", "revision", "date"} <= set(made.origin)
    later = Store(tmp_path)
    assert later.get_or_make("fit", {"a": 1}, never).origin == made.origin
    assert later.used == first.used == {first.made[0]: made.origin}


class Resident(torch.Tensor):
    """Stands for a tensor on a GPU: it is one until it is copied to the CPU."""

    def to(self, device, copy):
        assert (device, copy) == ("cpu", True)
        return torch.Tensor.to(self.as_subclass(torch.Tensor), device, copy=True)


def test_what_was_just_made_is_kept_and_handed_out_on_the_cpu_and_shares_nothing_with_its_maker(tmp_path):
    weight = torch.nn.Parameter(torch.arange(6.0).as_subclass(Resident))
    store = Store(tmp_path)
    found = store.get_or_make("fit", IDENTITY, lambda: Artifact({"n": [1]}, {"w": weight}))
    kept = next(iter(store._memory.values()))
    for artifact in (found, kept, Store(tmp_path).get_or_make("fit", IDENTITY, never)):
        assert type(artifact.tensors["w"]) is torch.Tensor and artifact.tensors["w"].device.type == "cpu"
        assert not artifact.tensors["w"].requires_grad
    with torch.no_grad():
        weight.zero_()
        found.tensors["w"].zero_()
    found.record["n"].append(2)
    again = store.get_or_make("fit", IDENTITY, never)
    assert again.record == {"n": [1]} and torch.equal(again.tensors["w"], torch.arange(6.0))


def pictures():
    return Artifact({"n": 3}, {"x": torch.arange(24, dtype=torch.uint8).reshape(3, 8), "y": torch.tensor([2, 0, 1])})


def test_what_is_mapped_equals_what_was_made_and_is_never_written_through(tmp_path):
    for make in (pictures, never):
        found = Store(tmp_path).get_or_make_mapped("fit", IDENTITY, make)
        assert found.record == pictures().record
        for name, tensor in pictures().tensors.items():
            assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype
        kept = (entry_of(Store(tmp_path)) / "weights.safetensors").read_bytes()
        for tensor in found.tensors.values():
            tensor.zero_()
        assert (entry_of(Store(tmp_path)) / "weights.safetensors").read_bytes() == kept
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) in maps.read_text()


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 200])
def test_a_damaged_file_is_not_mapped(content, tmp_path, caplog):
    Store(tmp_path).get_or_make_mapped("fit", IDENTITY, pictures)
    (entry_of(Store(tmp_path)) / "weights.safetensors").write_bytes(content)
    found = Store(tmp_path).get_or_make_mapped("fit", IDENTITY, pictures)
    assert torch.equal(found.tensors["x"], pictures().tensors["x"]) and caplog.text.count("damaged store entry") == 1


def test_kinds_of_tensors_that_are_not_mapped_are_handed_out_as_copies(tmp_path, caplog):
    for make in (artifact, never):
        found = Store(tmp_path).get_or_make_mapped("fit", IDENTITY, make)
        assert torch.equal(found.tensors["w"], artifact().tensors["w"])
    assert not caplog.text
