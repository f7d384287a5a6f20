"""Timed trials, by which a machine decides once how it computes, so that its networks are found again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rebuttal.errors import TrainingError, UserError
from rebuttal.store.entries import Artifact, Store

log = logging.getLogger(__name__)


def kept_trial(root: str | Path, asked: dict[str, Any], measure: Callable[[], Any]) -> Any:
    """Return the seconds that `measure` found when the store at `root` was first asked this, JSON-able.

    A store that cannot be written keeps nothing; the run says so, if it needs the store. Raises `TrainingError` if a
    training of the trial fails."""
    try:
        return Store(root).get_or_make("trial", asked, lambda: Artifact({"seconds": measure()}, {})).record["seconds"]
    except TrainingError:
        raise
    except (OSError, UserError) as error:
        log.info("trial not kept (%s)", error)
        return measure()
