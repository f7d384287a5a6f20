"""Where a run's numbers come from: code, versions, machine, and the fingerprints of its stages."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import rebuttal
from rebuttal.runs.configuration import configuration, setup
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage
from rebuttal.store.identity import describe, fingerprint, name_of
from rebuttal.store.needs import Needs, needs_in
from rebuttal.store.origin import origin

NETWORKS = ("fit/", "mimic/")  # the kinds of artifacts that are trained networks
_SOURCE = Path(rebuttal.__file__).parent


def provenance(
    config: dict[str, Any],
    stages: dict[str, Stage],
    session: Session,
    networks: dict[str, Any],
    overrides: list[str] | None,
    entries: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the content of `provenance.json`. `networks`: the origin of each trained network that the run used.
    `overrides`: those that repeat the run; None if its config was composed elsewhere. `entries`: what a run that came
    from the store was handed when it was computed."""
    found = identities(stages, session)
    return {
        **_essence(config, found),
        "command": sys.argv,  # of this process
        "cwd": str(Path.cwd()),  # which relative paths of the config refer to
        "overrides": overrides,
        "process": origin(),  # which wrote this file; each network has its own origin, below
        "device": session.device.type,
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "configuration": configuration(config["name"], found),
        "setup": setup(config["name"], found),
        "computed": session.store.made,
        "networks": networks,
        "needs": needs(stages, session, entries).content(),
    }


def needs(stages: dict[str, Stage], session: Session, entries: Iterable[str] = ()) -> Needs:
    """Return every entry of the store that the run uses or would use again: those that its identity speaks of, the run
    itself, and the `entries` that it was handed."""
    identity = run_identity(stages, session)
    return needs_in(identity) | Needs(frozenset({*entries, *session.store.used, name_of("run", identity)}))


def networks_used(session: Session) -> dict[str, Any]:
    """Return where each trained network that this session has used was computed, by its name in the store."""
    return {name: where for name, where in session.store.used.items() if name.startswith(NETWORKS)}


def essence(config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    """What makes a run this run and no other."""
    return _essence(config, identities(stages, session))


def _essence(config: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    names = {name: fingerprint(identity) for name, identity in found.items()}
    return {"rebuttal": rebuttal.__version__, "code": _source_digest(), "stages": names, "config": config}


def identities(stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    """What decides each stage's outcome, by exclusion: every field that is not declared to decide nothing, and the
    identities of the data and artifacts behind it."""
    return {name: {"settings": describe(stage), "made": stage.identity(session)} for name, stage in stages.items()}


def run_identity(stages: dict[str, Stage], session: Session) -> Any:
    """What decides the files of a run. The source code is part of it: figures, and numbers computed from several
    artifacts, have no version of their own."""
    return {"code": _source_digest(), "stages": identities(stages, session)}


@cache
def _source_digest() -> str:
    """A digest of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
