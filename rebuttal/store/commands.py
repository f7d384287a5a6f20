"""Look into the store of trained networks and other results, tidy it, and share what is in it.

python -m rebuttal.store list                     # what each entry is, which runs use it, how old and large it is
python -m rebuttal.store size                     # how much each kind takes
python -m rebuttal.store verify                   # check every byte; exit status 1 if an entry is damaged
python -m rebuttal.store prune outputs multirun   # what no run below these folders needs; with --yes it is removed
python -m rebuttal.store export FILE.tar outputs/runs/toy   # the entries of these runs, or all, in one archive
python -m rebuttal.store import FILE.tar          # add them to a store; each is verified before it is visible
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebuttal.errors import UserError, exit_if_user_error
from rebuttal.store.archive import export, import_archive
from rebuttal.store.catalogue import Entry, entries, entry_folders, require_store
from rebuttal.store.entries import Damaged, read_entry
from rebuttal.store.needs import RunNeeds, runs_below
from rebuttal.store.prune import Plan, needed, plan, remove
from rebuttal.store.words import age_in_words, counted, size_in_words

DEFAULT_STORE = "outputs/store"
DEFAULT_FOLDERS = ("multirun", "outputs")
SHOWN = 10  # names in a list of what went wrong
DROPPED = 20  # of the 32 digits of a fingerprint, in a table


def show_list(options: argparse.Namespace) -> int:
    """Print a row an entry."""
    stored = entries(options.store)
    folders = options.folders or [folder for name in DEFAULT_FOLDERS if (folder := Path(name)).is_dir()]
    users = _users(runs_below(folders, options.store), stored)
    table = Table(show_edge=False)
    for column in ("entry", "what", "used by", "age", "last use", "size"):
        table.add_column(column, no_wrap=column in ("entry", "age", "last use", "size"), overflow="fold")
    now = time.time()
    for entry in stored:
        ages = (age_in_words(now - when) for when in (entry.made, entry.used))
        user = _runs_in_words(users.get(entry.name, []))
        cells = [entry.name[:-DROPPED], entry.words, user, *ages, size_in_words(entry.size)]
        table.add_row(*(Text(cell) for cell in cells))
    _console().print(table)
    _say(f"{options.store}: {_total(stored)}")
    return 0


def show_size(options: argparse.Namespace) -> int:
    """Print a row a kind."""
    stored = entries(options.store)
    table = Table(show_edge=False)
    for column in ("kind", "entries", "size"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind in sorted({entry.kind for entry in stored}):
        same = [entry for entry in stored if entry.kind == kind]
        table.add_row(Text(kind), str(len(same)), size_in_words(sum(entry.size for entry in same)))
    _console().print(table)
    _say(f"{options.store}: {_total(stored)}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check every entry; return 1 if one is damaged."""
    whole, damaged = 0, 0
    for folder in entry_folders(options.store):
        try:
            read_entry(folder)
            whole += 1
        except Damaged as error:
            damaged += folder.exists()  # else another process has just removed it
            _say(f"damaged: {folder.parent.name}/{folder.name}: {error}")
    _say(f"{options.store}: {counted(whole, 'entry', 'entries')} verified and whole, {damaged} damaged")
    return 1 if damaged else 0


def prune(options: argparse.Namespace) -> int:
    """Say what no run needs; with `--yes` remove it."""
    runs = runs_below(options.folders, options.store)
    if not runs and not options.all:
        places = " ".join(map(str, options.folders)) or "no folder given"
        raise UserError(f"FOLDERS={places}: no run there; allowed: folders with runs, or --all to need none")
    found = plan(options.store, runs, options.idle * 60, options.unfinished * 86400)
    if found.unknown:
        raise _unknown(found.unknown, "to rerun it (from_run=FOLDER), or to remove the folder if nobody needs it")
    _say(f"{counted(len(runs), 'run', 'runs')} found; they need {_total(found.needed)}, which stay")
    if found.others:
        used = f"used in the last {options.idle:g} min (--idle)"
        _say(f"{_total(found.others)}, stay too: {used}, being trained anew, or kept by a dataset of your own")
    _console().print(_table_of(found))
    going = f"{counted(len(found.gone), 'thing', 'things')}, {size_in_words(found.size)}"
    if not options.yes:
        _say(f"would go: {going}; nothing was removed; add --yes to remove it")
        return 0
    return _remove(found)


def write_archive(options: argparse.Namespace) -> int:
    """Write entries to an archive: all, or those that the runs below folders need."""
    stored = entries(options.store)
    names = [entry.name for entry in stored]
    if options.folders:
        runs = runs_below(options.folders, options.store)
        wanted, unknown = needed(runs, stored)
        if unknown:
            raise _unknown(unknown, "to rerun it (from_run=FOLDER), or to export without folders")
        names = [name for name in names if name in wanted]
    size = export(options.store, names, options.file)
    _say(f"{options.file}: {counted(len(names), 'entry', 'entries')}, {size_in_words(size)}")
    return 0


def read_archive(options: argparse.Namespace) -> int:
    """Add the entries of an archive to the store."""
    done = import_archive(options.store, options.file)
    added, there = counted(len(done.added), "entry", "entries"), len(done.there)
    _say(f"{options.store}: {added} added, {there} were there already and stay as they are")
    if done.in_use:
        _say(f"{counted(len(done.in_use), 'entry', 'entries')} left out: another process is computing it")
    return 0


def main() -> None:
    """Run from the command line."""
    options = _parser().parse_args()
    try:
        if options.command is not read_archive:
            require_store(options.store)
        command: Callable[[argparse.Namespace], int] = options.command
        status = command(options)
    except KeyboardInterrupt:
        print("rebuttal: interrupted; rerun the command", file=sys.stderr)
        status = 130
    except Exception as error:
        exit_if_user_error(error)
        raise
    if status:
        sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m rebuttal.store", description=__doc__, formatter_class=shape)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, words in (
        ("list", show_list, "what each entry is, which runs use it, how old and large it is"),
        ("size", show_size, "how much each kind takes"),
        ("verify", verify, "check every byte of every entry"),
        ("prune", prune, "remove what no run below the folders needs"),
        ("export", write_archive, "write entries to one archive"),
        ("import", read_archive, "add the entries of an archive"),
    ):
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=command)
        added.add_argument("--store", type=Path, default=Path(DEFAULT_STORE), help=f"default: {DEFAULT_STORE}")
        if name in ("export", "import"):
            added.add_argument("file", type=Path, metavar="FILE", help="ends in .tar, or in .tar.xz to compress it")
        if name in ("list", "prune", "export"):
            added.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="with runs")
        if name == "prune":
            _add_prune_options(added)
    return parser


def _add_prune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="remove it; without it nothing is removed")
    parser.add_argument("--all", action="store_true", help="go on even if there is no run below the folders")
    minutes = "entries used in the last MINUTES stay, for jobs elsewhere; default: 60"
    parser.add_argument("--idle", type=_positive, default=60, metavar="MINUTES", help=minutes)
    days = "checkpoints of trainings that were not resumed for DAYS go; default: 30"
    parser.add_argument("--unfinished", type=_positive, default=30, metavar="DAYS", help=days)


def _positive(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text}: allowed: 0 or more")
    return value


def _users(runs: list[RunNeeds], stored: list[Entry]) -> dict[str, list[Path]]:
    users: dict[str, list[Path]] = {}
    for run in runs:
        for name in needed([run], stored)[0]:
            users.setdefault(name, []).append(run.folder)
    return users


def _runs_in_words(folders: list[Path]) -> str:
    if not folders:
        return "no run found"
    return str(folders[0]) + (f" and {len(folders) - 1} more" if len(folders) > 1 else "")


def _remove(found: Plan) -> int:
    done = remove(found)
    freed = size_in_words(sum(piece.size for piece in done.pieces))
    _say(f"removed: {counted(len(done.pieces), 'thing', 'things')}, {freed}")
    if done.in_use:
        _say(f"{counted(len(done.in_use), 'thing', 'things')} stay: used by another process meanwhile")
    for piece, why in done.failed[:SHOWN]:
        _say(f"could not be removed: {piece.path}: {why}")
    return 1 if done.failed else 0


def _table_of(found: Plan) -> Table:
    table = Table(show_edge=False)
    for column in ("kind", "go", "size"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind in sorted({piece.kind for piece in found.gone}):
        same = [piece for piece in found.gone if piece.kind == kind]
        table.add_row(Text(kind), str(len(same)), size_in_words(sum(piece.size for piece in same)))
    return table


def _unknown(folders: list[Path], remedy: str) -> UserError:
    more = f" and {counted(len(folders) - 1, 'other', 'others')}" if len(folders) > 1 else ""
    return UserError(
        f"{folders[0]}{more}: does not say what its run needs: it is running, was cut short, or is old; "
        f"allowed: {remedy}"
    )


def _total(stored: list[Entry]) -> str:
    size = size_in_words(sum(entry.size for entry in stored))
    return f"{counted(len(stored), 'entry', 'entries')}, {size}"


def _console() -> Console:
    console = Console()
    return Console(width=max(console.width, 140))


def _say(line: str) -> None:
    _console().print(line, highlight=False, soft_wrap=True, markup=False)
