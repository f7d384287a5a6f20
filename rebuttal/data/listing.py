"""Every file below a root, used as an image of a class or counted by the reason why not."""

from __future__ import annotations

import heapq
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rebuttal.data.trees import Entry, Tree, has_image_suffix, shown
from rebuttal.errors import ConfigError

SPLITS = ("train", "test")

# Names that systems and programs give to what is theirs, in lower case; so are all that begin with a dot.
_SYSTEM = {
    "__macosx",
    "@eadir",
    "@__thumb",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "network trash folder",
    "temporary items",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "__pycache__",
}

_HIDDEN = "hidden or of the system"
_NOWHERE = "links that lead nowhere"
_SPECIAL = "neither files nor folders"
_SUFFIX = "without an image's suffix"
_NO_CLASS = "outside of a class folder"
_AGAIN = "further names of images that are used"

Path = tuple[str, ...]  # below the root, in parts
Label = tuple[str, str]  # split, class


@dataclass(frozen=True)
class ImageFile:
    """An image to use: its name below the root, its label, the real file."""

    path: Path
    label: Label
    real: str

    @property
    def name(self) -> str:
        return _text(self.path)


@dataclass(frozen=True)
class Listing:
    """`files`: the images, in order of their names. `left_out`: the numbers of files that are not used, by reason.
    `note`: what is left out, in words; "" if nothing is."""

    files: list[ImageFile]
    left_out: dict[str, int]
    note: str


@dataclass(frozen=True)
class _Place:
    """A folder that the walk comes to; `linked`, `hidden`: it is, or one above it."""

    path: Path
    real: str
    above: _Place | None = None
    linked: bool = False
    hidden: bool = False

    def __lt__(self, other: _Place) -> bool:
        return self._turn() < other._turn()

    def _turn(self) -> tuple[bool, bool, int, Path]:
        """All real folders come before all linked ones, and of these the ones that can give images a class first."""
        return (self.linked, not any(part in SPLITS for part in self.path), len(self.path), self.path)


@dataclass(frozen=True)
class _Name:
    """A name of a file: `linked` if it is a link, or below one; `is_image`: as far as names say."""

    path: Path
    entry: Entry
    linked: bool
    hidden: bool
    is_image: bool


@dataclass
class _Walk:
    """`names`: all names of every file, by its real folder and its name there. `folders`: all that are not hidden.
    `loops`: links to a folder above them. `again`: pairs of links to, or below links to, the same folder."""

    names: dict[tuple[str, str], list[_Name]] = field(default_factory=lambda: defaultdict(list))
    folders: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)
    again: list[tuple[Path, Path]] = field(default_factory=list)


def list_images(tree: Tree, key: str) -> Listing:
    """List the images of the one data set below the root. Raises `ConfigError` if there are two, if a file has two
    labels, or if a folder cannot be read; `key` is what the user gave, as `key=value`."""
    walk = _walk(tree, key)
    _, primary = _choose(walk, lambda path: any(part in SPLITS for part in path[:-2]))
    base = _base([name.path for name in primary.values()], key)
    chosen, primary = _choose(walk, lambda path: _label(path, base) is not None)
    used = {real: (name, label) for real, name in primary.items() if (label := _label(name.path, base))}
    _check_one_label(walk, used, base, key)
    _check_siblings(primary, used, base, key)
    left_out: dict[str, list[Path]] = defaultdict(list)
    for name in chosen:
        if name.entry.real not in used or name is not used[name.entry.real][0]:
            left_out[_reason(name, name.entry.real in used)].append(name.path)
    files = [ImageFile(name.path, label, real) for real, (name, label) in used.items()]
    counts = {reason: len(paths) for reason, paths in left_out.items()}
    return Listing(sorted(files, key=lambda f: f.path), counts, _note(left_out, _empty(walk, used, base), walk.loops))


def _choose(walk: _Walk, in_class: Callable[[Path], bool]) -> tuple[list[_Name], dict[str, _Name]]:
    """Return the one name that counts of every file, and of every real file that is an image."""

    def rank(name: _Name) -> tuple[bool, bool, bool, Path]:
        return not name.is_image, not in_class(name.path), name.linked, name.path

    chosen = [names[0] if len(names) == 1 else min(names, key=rank) for names in walk.names.values()]
    primary: dict[str, _Name] = {}
    for name in sorted((name for name in chosen if name.is_image), key=rank):
        primary.setdefault(name.entry.real, name)
    return chosen, primary


def _walk(tree: Tree, key: str) -> _Walk:
    """Visit each real folder at most once by its own name and once by a link, whatever links there are."""
    walk, places, linked = _Walk(), [_Place((), tree.root)], dict[str, Path]()
    while places:
        place = heapq.heappop(places)
        if place.linked and place.real in linked:
            walk.again.append((place.path, linked[place.real]))
            continue
        if place.linked:
            linked[place.real] = place.path
        if not place.hidden:
            walk.folders.append(place.path)
        for entry in _listed(tree, place, key):
            _meet(entry, place, walk, places)
    return walk


def _meet(entry: Entry, place: _Place, walk: _Walk, places: list[_Place]) -> None:
    """Note a file's name, or a folder as a place to come to."""
    path = (*place.path, entry.name)
    linked = place.linked or entry.linked
    hidden = place.hidden or entry.name.startswith(".") or entry.name.lower() in _SYSTEM
    if entry.kind != "folder":
        is_image = entry.kind == "file" and not hidden and has_image_suffix(entry.name)
        walk.names[place.real, entry.name].append(_Name(path, entry, linked, hidden, is_image))
    elif not (entry.linked and hidden):
        if entry.linked and _is_above(entry.real, place):
            walk.loops.append(path)
        else:
            heapq.heappush(places, _Place(path, entry.real, place, linked, hidden))


def _listed(tree: Tree, place: _Place, key: str) -> list[Entry]:
    try:
        return tree.entries(place.real)
    except OSError as error:
        if place.hidden:  # lost+found is the administrator's
            return []
        raise ConfigError(f"{key}: {_text(place.path)}/ cannot be listed ({error.strerror})") from None


def _is_above(folder: str, place: _Place | None) -> bool:
    """True if a real folder is, or contains, the place or one that the walk came through to it."""
    while place is not None:
        if folder == place.real or place.real.startswith(posixpath.join(folder, "")):
            return True
        place = place.above
    return False


def _base(paths: Iterable[Path], key: str) -> Path:
    """Return the folder that contains `train` and `test`. Raises `ConfigError` if there are several."""
    splits: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        for depth, part in enumerate(path[:-1]):
            if part in SPLITS:
                splits[path[:depth]].add(part)
    found: list[Path] = []
    for base in sorted(splits, key=lambda base: (-len(splits[base]), len(base), base)):
        # A class, or the folder around a data set, may have the name of a split.
        if any(_within(base, known) or _within(known, base) for known in found):
            continue
        found.append(base)
        if len(found) == 2:
            first, second = (_text((*base, sorted(splits[base])[-1])) for base in found)
            raise ConfigError(
                f"{key}: {first}/ and {second}/ are two data sets; allowed: the folder or archive of one of them"
            )
    return found[0] if found else ()


def _within(inner: Path, outer: Path) -> bool:
    """True if the folder `inner` is in `train` or `test` of the folder `outer`, or one of them."""
    return len(inner) > len(outer) and inner[: len(outer)] == outer and inner[len(outer)] in SPLITS


def _label(path: Path, base: Path) -> Label | None:
    """Return ("train", "cat") for `<base>/train/cat/…/1.jpg`, None for a path of another form."""
    if len(path) < len(base) + 3 or not _within(path, base):
        return None
    return path[len(base)], path[len(base) + 1]


def _check_one_label(walk: _Walk, used: dict[str, tuple[_Name, Label]], base: Path, key: str) -> None:
    """Raise `ConfigError` if one file, or one folder of files, has two labels by links."""
    for name in (name for names in walk.names.values() for name in names if name.is_image):
        label = _label(name.path, base)
        if label and label != used[name.entry.real][1]:
            raise _two_labels(name.path, used[name.entry.real][0].path, key)
    for link, other in walk.again:
        labels = [path[len(base) :][:2] for path in (link, other) if _within(path, base)]
        if len(labels) == 2 and labels[0] != labels[1]:
            raise _two_labels(link, other, key)


def _two_labels(one: Path, other: Path, key: str) -> ConfigError:
    return ConfigError(
        f"{key}: {_text(one)} and {_text(other)} are the same by links, and would have two labels; allowed: every "
        "image in one class of train/ or test/"
    )


def _check_siblings(primary: dict[str, _Name], used: dict[str, tuple[_Name, Label]], base: Path, key: str) -> None:
    """Raise `ConfigError` for a folder of images beside `train` and `test`, unless images in these are links to some of
    them: it looks like a class."""
    folders = {posixpath.dirname(real) for real in used}
    shared = folders | {above for folder in folders for above in _folders(folder)}
    for real, name in primary.items() if used else ():
        beside = name.path[:-2] == base and len(name.path) == len(base) + 2 and not _within(name.path, base)
        if beside and posixpath.dirname(real) not in shared:
            raise ConfigError(
                f"{key}: {_text(name.path[:-1])}/ holds images beside train/ and test/; allowed: all images as "
                "train/<class>/… and test/<class>/…"
            )


def _folders(real: str) -> Iterator[str]:
    """Yield the folder of a file or folder, and all above it."""
    while real.strip("/"):
        real = posixpath.dirname(real)
        yield real


def _reason(name: _Name, is_used: bool) -> str:
    if is_used:
        return _AGAIN
    if name.hidden:
        return _HIDDEN
    if name.entry.kind == "file":
        return _NO_CLASS if has_image_suffix(name.path[-1]) else _SUFFIX
    return _NOWHERE if name.entry.kind == "nowhere" else _SPECIAL


def _empty(walk: _Walk, used: dict[str, tuple[_Name, Label]], base: Path) -> list[Path]:
    """Return the class folders without an image, as far as images show where the data set is."""
    if not used:
        return []
    full = {(*base, *label) for _, label in used.values()}
    return sorted(f for f in walk.folders if len(f) == len(base) + 2 and _within(f, base) and f not in full)


def _note(left_out: dict[str, list[Path]], empty: list[Path], loops: list[Path]) -> str:
    said = [f"{len(paths)} {reason} ({_few(paths)})" for reason, paths in sorted(left_out.items())]
    found = [f"files that are not used: {', '.join(said)}"] if said else []
    found += [f"class folders without an image: {_few(empty)}"] if empty else []
    found += [f"links to a folder above them: {_few(loops)}"] if loops else []
    return "; ".join(found)


def _few(paths: list[Path]) -> str:
    first = sorted(paths)[:3]
    return ", ".join(map(_text, first)) + (" …" if len(paths) > len(first) else "")


def _text(path: Path) -> str:
    return shown("/".join(path)) or "."
