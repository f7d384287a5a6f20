"""Atomic files: written completely or not at all, even if the process is killed or the disk is full."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

RECORD, WEIGHTS = "record.json", "weights.safetensors"  # the files of an entry; here, where torch is not imported


def write_bytes(path: Path, content: bytes, sync: bool = False) -> None:
    """Write to a temporary file, then rename it to `path`; with `sync` the content also survives a machine crash.

    Raises `OSError`, and leaves the previous file untouched."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        if sync:
            to_disk(aside)
        aside.replace(path)
        if sync:
            to_disk(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would survive a machine crash."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, as_json(content))


def as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
