"""Entries in one archive: complete, verified, and nowhere but in the store."""

import io
import json
import tarfile

import pytest
import torch

from rebuttal.errors import UserError
from rebuttal.store.archive import LIST, export, import_archive
from rebuttal.store.entries import Artifact, Store, lock_of, read_entry
from rebuttal.store.identity import canonical, fingerprint, name_of
from tests.store.test_prune import names

IDENTITIES = [{"stage": "fit", "n": 1}, {"stage": "fit", "n": 2}]
NAMES = [name_of("fit", identity) for identity in IDENTITIES]


def artifact(value):
    return Artifact({"metrics": {"x": value}}, {"w": torch.arange(6.0) * value})


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "store"
    for value, identity in enumerate(IDENTITIES):
        Store(root).get_or_make("fit", identity, lambda value=value: artifact(value))
    return root


def contents(root):
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*.*")
        if p.suffix in (".json", ".safetensors")
    }


@pytest.mark.parametrize("name", ["a.tar", "a.tar.xz", "a.txz"])
def test_what_is_exported_arrives_byte_for_byte(store, tmp_path, name):
    size = export(store, NAMES, tmp_path / name)
    assert size == (tmp_path / name).stat().st_size
    with tarfile.open(tmp_path / name, "r:" if name == "a.tar" else "r:xz") as tar:
        assert len(tar.getnames()) == 5
    done = import_archive(tmp_path / "new", tmp_path / name)
    assert (done.added, done.there, done.in_use) == (NAMES, [], [])
    assert contents(tmp_path / "new") == contents(store)
    found = Store(tmp_path / "new").get_or_make("fit", IDENTITIES[1], lambda: pytest.fail("computed again"))
    assert torch.equal(found.tensors["w"], torch.arange(6.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "new", "store"])


def test_an_entry_that_is_there_is_never_overwritten_whole_or_not(store, tmp_path):
    export(store, NAMES, tmp_path / "a.tar")
    other = tmp_path / "other"
    Store(other).get_or_make("fit", IDENTITIES[0], lambda: artifact(7))
    (other / NAMES[1]).mkdir()
    (other / NAMES[1] / "record.json").write_text("damaged")
    before = contents(other)
    done = import_archive(other, tmp_path / "a.tar")
    assert (done.added, done.there) == ([], NAMES)
    assert contents(other) == before


def test_an_entry_that_is_being_computed_is_left_to_that_process(store, tmp_path):
    export(store, NAMES, tmp_path / "a.tar")
    (tmp_path / "new/fit").mkdir(parents=True)
    with lock_of(tmp_path / "new" / NAMES[0]):
        done = import_archive(tmp_path / "new", tmp_path / "a.tar")
    assert (done.added, done.in_use) == ([NAMES[1]], [NAMES[0]])


@pytest.mark.parametrize(
    ("file", "chosen", "line"),
    [
        ("a.zip", NAMES, r"^FILE=.*a\.zip: allowed: a name that ends in \.tar, or in \.tar\.xz to compress it$"),
        ("store", NAMES, r"^FILE=.*store: allowed: "),
        ("there.tar", NAMES, r"^FILE=.*there\.tar: exists; allowed: a new file$"),
        ("a.tar", [], r"^--store=.*store: there is nothing to export; allowed: "),
        ("a.tar", [f"fit/{'0' * 32}"], r"^fit/0+: is damaged \(.*No such file.*\); rerun what computes it, or "),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(store, tmp_path, file, chosen, line):
    (tmp_path / "there.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=line):
        export(store, chosen, tmp_path / file)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "there.tar"}
    assert (tmp_path / "there.tar").read_bytes() == b"mine"


def test_a_damaged_entry_is_not_exported(store, tmp_path):
    (store / NAMES[1] / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=rf"^{NAMES[1]}: is damaged \(weights\.safetensors fails its checksum\); "):
        export(store, NAMES, tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


def packed(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def entry(identity, record, weights=None):
    """The files of an entry with right digests, whatever is in it."""
    content = {"identity": identity, "record": record, "origin": {}, "weights_sha256": digest_of(weights or b"")}
    entry = {"sha256": digest_of(canonical(content).encode()), **content}
    return json.dumps(entry).encode(), weights or b""


def digest_of(content):
    import hashlib

    return hashlib.sha256(content).hexdigest()


def members(store, listed=None, **changes):
    """The members of a right archive of the first entry, some of them changed."""
    name = NAMES[0]
    found = {
        LIST: json.dumps({"format": 1, "entries": [name] if listed is None else listed}).encode(),
        f"{name}/record.json": (store / name / "record.json").read_bytes(),
        f"{name}/weights.safetensors": (store / name / "weights.safetensors").read_bytes(),
    }
    return list((found | changes).items())


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


RECORD, WEIGHTS = f"{NAMES[0]}/record.json", f"{NAMES[0]}/weights.safetensors"
WRONG = {
    "not listed": (lambda m: m[1:], r"its member '.*record\.json' is not the file rebuttal-store\.json"),
    "empty": (lambda m: [], r"it ends before rebuttal-store\.json"),
    "list cut": (lambda m: [(LIST, b"{"), *m[1:]], r"cannot be read \("),
    "list of another form": (lambda m: [(LIST, b"[]"), *m[1:]], r"its rebuttal-store\.json is not that of format 1"),
    "list of a later form": (lambda m: [(LIST, b'{"format": 2, "entries": []}')], r"is not that of format 1"),
    "deep list": (lambda m: [(LIST, b"[" * 100_000)], r"cannot be read \("),
    "number": (lambda m: [(LIST, b'{"format": 1, "entries": [3]}')], r"it lists 3, which is not the name of an entry"),
    "twice": (
        lambda m: [(LIST, json.dumps({"format": 1, "entries": [NAMES[0]] * 2}).encode()), *m[1:], *m[1:]],
        r"it lists an entry twice",
    ),
    "missing weights": (lambda m: m[:2], r"it ends before fit/.*/weights\.safetensors"),
    "other order": (lambda m: [m[0], m[2], m[1]], r"its member '.*weights\.safetensors' is not the file fit/"),
    "further": (lambda m: [*m, ("fit/x", b"")], r"its member 'fit/x' is in no entry"),
    "link": (
        lambda m: [*m[:2], (special(WEIGHTS, tarfile.SYMTYPE, "/etc/passwd"), b"")],
        r"its member '.*' is not the file fit/.*weights",
    ),
    "hard link": (lambda m: [*m[:2], (special(WEIGHTS, tarfile.LNKTYPE, RECORD), b"")], r"is not the file fit/"),
    "device": (lambda m: [*m[:2], (special(WEIGHTS, tarfile.CHRTYPE), b"")], r"is not the file fit/"),
    "folder": (lambda m: [m[0], (special(RECORD, tarfile.DIRTYPE), b""), m[2]], r"is not the file fit/"),
    "flipped weights": (
        lambda m: [*m[:2], (WEIGHTS, m[2][1][:-1] + b"x")],
        r"its entry fit/.* is damaged \(weights\.safetensors fails its checksum\); nothing was imported",
    ),
    "flipped record": (
        lambda m: [m[0], (RECORD, m[1][1].replace(b'"x": 0', b'"x": 1')), m[2]],
        r"is damaged \(record\.json fails its checksum\)",
    ),
    "another's": (
        lambda m: [m[0], *zip((RECORD, WEIGHTS), entry({"n": 3}, {}))],
        r"is damaged \(it belongs to another identity\)",
    ),
    "no tensors": (lambda m: [m[0], *zip((RECORD, WEIGHTS), entry(IDENTITIES[0], {}))], r"is damaged \("),
    "pickled": (
        lambda m: [m[0], *zip((RECORD, WEIGHTS), entry(IDENTITIES[0], {}, b"\x80\x04cos\nsystem\n."))],
        r"is damaged \(",
    ),
    "no object": (lambda m: [m[0], (RECORD, b"[]"), m[2]], r"is damaged \("),
    "deep record": (lambda m: [m[0], (RECORD, b'{"a":' * 100_000), m[2]], r"is damaged \("),
}
OUTSIDE = ["../outside", "/tmp/outside", "fit/../../outside", f"../{NAMES[0]}", f"fit/../{NAMES[0]}", f"/{NAMES[0]}"]
OUTSIDE += [
    f"./{NAMES[0]}",
    f"{NAMES[0]}/..",
    f".hidden/{'0' * 32}",
    f"a/{NAMES[0]}",
    f"{NAMES[0]}\n",
    f"fit/{'A' * 32}",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_an_archive_that_is_not_right_in_every_part_is_one_line_and_nothing_is_imported(store, tmp_path, wrong):
    change, line = WRONG[wrong]
    refused(packed(tmp_path / "a.tar", change(members(store))), tmp_path, line)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_no_entry_has_is_refused(store, tmp_path, name):
    listing = json.dumps({"format": 1, "entries": [name]}).encode()
    files = entry(IDENTITIES[0], {}, (store / NAMES[0] / "weights.safetensors").read_bytes())
    found = [(LIST, listing), (f"{name}/record.json", files[0]), (f"{name}/weights.safetensors", files[1])]
    refused(packed(tmp_path / "a.tar", found), tmp_path, r"it lists .*, which is not the name of an entry")


def refused(archive, tmp_path, line):
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=line) as error:
        import_archive(tmp_path / "new", archive)
    assert str(error.value).startswith(f"{archive}: ") and "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_one_damaged_entry_keeps_all_out(store, tmp_path):
    export(store, NAMES, tmp_path / "a.tar")
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[content.rindex((store / NAMES[1] / "weights.safetensors").read_bytes()[-16:])] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    refused(
        tmp_path / "a.tar", tmp_path, rf"its entry {NAMES[1]} is damaged \(weights\.safetensors fails its checksum\)"
    )


@pytest.mark.parametrize("name", ["a.tar", "a.tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7, 0.9])
def test_an_archive_that_is_cut_off_is_refused(store, tmp_path, name, share):
    export(store, NAMES, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    whole = len(content.rstrip(b"\0")) if name == "a.tar" else len(content)
    (tmp_path / name).write_bytes(content[: int(share * whole)])
    refused(tmp_path / name, tmp_path, r": (cannot be read|it ends before)")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xfd7zXZ\x00nonsense", b"\x1f\x8bnonsense", b"x" * 5000])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    refused(tmp_path / "a.tar", tmp_path, r"cannot be read \(.*\); allowed: an archive that python -m rebuttal\.store")


def test_an_archive_that_is_not_there_or_a_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("nix.tar", "folder"):
        refused(tmp_path / name, tmp_path, r"cannot be read \(")


def test_a_member_larger_than_memory_is_refused_before_it_is_read(store, tmp_path):
    member = tarfile.TarInfo(LIST)
    member.size = 2**60
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    refused(tmp_path / "a.tar", tmp_path, r"its member rebuttal-store\.json would take .* GiB; allowed: at most this")


def test_what_is_imported_is_verified_as_any_entry(store, tmp_path):
    export(store, NAMES, tmp_path / "a.tar")
    import_archive(tmp_path / "new", tmp_path / "a.tar")
    assert names(tmp_path / "new") == set(NAMES)
    for name in NAMES:
        assert fingerprint(json.loads((tmp_path / "new" / name / "record.json").read_text())["identity"]) == name[4:]
        read_entry(tmp_path / "new" / name)
