"""A command's arguments as Hydra takes them, or one line that says how to write them.

Every correction that a message offers has been parsed, so that it can be pasted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from rebuttal.command import plan, repeat
from rebuttal.command.moved import where_it_is_now
from rebuttal.config import GROUPS
from rebuttal.errors import CONFIG_DIR, ConfigError, config_groups
from rebuttal.launch.expand import Request, quoted, typed

_OWN_WORDS = (plan.WORD, repeat.WORD)  # never seen by Hydra
_MULTIRUN = ("-m", "--multirun")
_FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun", "--info"),
)
_INFO = ("-i", "--info")  # whose value may be left out
_WITHOUT_VALUE = (
    *("-h", "--help", "--hydra-help", "--version", "-r", "--resolve", "--run", "-m", "--multirun"),
    *("-sc", "--shell-completion"),
)
_OVERRIDE_WITH_DASHES = re.compile(r"-+([\w.@/]+=.*)", re.DOTALL)
# A key of an option that a stage has in common with the run until it sets one; then it has changed a copy of it.
_SHARED = re.compile(rf"stages\..+\.({'|'.join(GROUPS)})\.")
_AT_HOME = r"(^|[\[,:]\s*|file://)~(?=/|$)"
_OPENED_BY = {")": "(", "]": "[", "}": "{"}

Show = Callable[[str], str]


def prepare(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command, ready for Hydra: flags first, each in one word with its value, because Hydra
    does not take overrides on both sides of a flag. Raises `ConfigError` for those that it would not take."""
    flags: list[str] = []
    overrides: list[str] = []
    multirun = any(argument in _MULTIRUN for argument in arguments)
    for at, word in enumerate(arguments):
        if word.startswith("-"):
            _check_flag(word)
            flags.append("--info=all" if word in _INFO and not _has_value(arguments, at) else word)
        elif at > 0 and _has_value(arguments, at - 1):
            flags[-1] += f"={word}"
        elif word.startswith(_OWN_WORDS):
            overrides.append(word)
        else:
            _check_whole(arguments, at, multirun)
            overrides.append(prepare_override(word, shlex.quote, multirun))
    return [*(_with_home("(^--config-dir=|^-cd=)~(?=/|$)", flag) for flag in flags), *overrides]


def prepare_override(text: str, show: Show, multirun: bool = False) -> str:
    """Return an override ready for Hydra: `~` in the folders that Hydra itself opens stands for the home, new keys may
    be added to Hydra's own dicts, and keys of the run's options set for a single stage. Raises `ConfigError`; `show`
    writes the corrected override for the place where the user typed it."""
    override = _parsed(text)
    if override is None:
        raise ConfigError(f"{text}: Hydra's grammar does not take it; {_advice(text, show, multirun)}")
    text = where_it_is_now(override)
    override = _parsed(text) or override
    key, _, value = text.partition("=")
    if not value.strip() and "=" in text and override.type != OverrideType.DEL:
        empty = f'{key}=""'
        raise ConfigError(f"{text}: no value; write {show(f'{key}=null')} for none, {show(empty)} for an empty text")
    is_group = override.key_or_group in config_groups()
    if is_group and override.type != OverrideType.DEL and isinstance(override.value(), (NoneType, int, float)):
        options = sorted(path.stem for path in (CONFIG_DIR / override.key_or_group).glob("*.yaml"))
        raise ConfigError(f"{text}: no such option; allowed: {', '.join(options)}{_none(override, show)}")
    if value.strip() == "None" and not is_group:
        raise ConfigError(f"{text}: none is called null here; write {show(f'{key}=null')}")
    return _for_hydra(override)


def _none(override: Override, show: Show) -> str:
    """`; for none write …`, for a part of a recipe or a stage that may be null: Hydra takes null for its key only."""
    if override.value() is not None or (override.package is None and "/" not in override.key_or_group):
        return ""
    text = f"{override.package or override.key_or_group.replace('/', '.')}=null"
    by_key = _parsed(text)
    return f"; for none write {show(text)}" if by_key is not None and where_it_is_now(by_key) == text else ""


def check_launcher(arguments: Sequence[str], request: Request | None) -> None:
    """Raise `ConfigError` for a launcher or sweeper chosen for a single run, which has no use for it."""
    if request is None or request.folder is not None:
        return
    for argument in arguments:
        group, _, option = argument.partition("=")
        if group in ("hydra/launcher", "hydra/sweeper") and option != "basic":
            raise ConfigError(f"{argument}: is for a sweep, which needs -m; allowed without -m: {group}=basic")


def _for_hydra(override: Override) -> str:
    key, text = override.key_or_group, typed(override)
    if override.type == OverrideType.CHANGE and _SHARED.match(key):
        return f"++{text}"
    if not key.startswith("hydra.") or override.is_sweep_override():
        return text
    if override.type == OverrideType.CHANGE and isinstance(override.value(), dict):
        return f"++{text}"  # Hydra's dicts are typed: where a key may not be new, this does not add it
    value = quoted(override.value())
    expanded = _with_home(r"('|file://)~(?=/|')", value)
    return text if expanded == value else f"{text.partition('=')[0]}={expanded}"


def _advice(text: str, show: Show, multirun: bool) -> str:
    words = text.split()
    if len(words) > 1 and all("=" in word and _parsed(word) and _is_known(word) for word in words):
        return f"write {' '.join(show(word) for word in words)}"
    corrected = next(_corrections(text, multirun), None)
    if corrected is None:
        return "allowed: key=value, as in training.lr=0.05, with letters, digits, _, - and dots in the key"
    return f"write {show(corrected)}" if "\n" not in corrected else "allowed: values without line breaks"


def _is_known(override: str) -> bool:
    """True if its key begins with a group or a top-level key of the root config."""
    root = yaml.safe_load((CONFIG_DIR / "train.yaml").read_bytes())
    first = re.split(r"[.@=]", override.lstrip("+~"))[0]
    return first in root or first in config_groups() or first in ("stages", "name")


def _with_home(pattern: str, text: str) -> str:
    return re.sub(pattern, lambda found: found.group(1) + str(Path.home()), text)


def _parsed(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def _corrections(text: str, multirun: bool) -> Iterator[str]:
    """Yield what the user may have meant, the likeliest first; only what Hydra's grammar takes."""
    key, _, value = text.partition("=")
    for candidate in _values(value.strip(), multirun):
        corrected = f"{key.strip()}={candidate}"
        if candidate and _parsed(corrected) is not None:
            yield corrected


def _values(value: str, multirun: bool) -> Iterator[str]:
    at_home = _with_home(_AT_HOME, value)
    yield at_home
    yield re.sub(",+", ",", value.lstrip("=").strip(", "))
    if re.match(r"\(.*\)$", value, flags=re.DOTALL):
        yield f"[{value[1:-1]}]"
    if re.match(r"[\[{]|\$\{|\w+\(", value):
        yield _closed(value)
    if re.match(r"\[[^\[\]{}'\"]*\]$", at_home):
        yield f"[{_each_quoted(at_home[1:-1])}]"
    if re.match(r"\{[^\[\]{}'\"]*\}$", at_home):
        pairs = (pair.partition(":") for pair in at_home[1:-1].split(","))
        yield "{" + ",".join(f"{key.strip()}:{_in_quotes(text.strip())}" for key, _, text in pairs) + "}"
    if re.match(r"['\"][^'\"]*$", value) or re.match(r"[^'\"]*['\"]$", value):
        yield value.strip("'\"")
        yield _in_quotes(value.strip("'\""))
    yield _each_quoted(at_home) if multirun else _in_quotes(at_home)


def _closed(value: str) -> str:
    """`value` with the brackets closed that it leaves open."""
    open_brackets: list[str] = []
    for sign in value:
        if sign in _OPENED_BY.values():
            open_brackets.append(sign)
        elif open_brackets and open_brackets[-1] == _OPENED_BY.get(sign):
            open_brackets.pop()
    closing = {opening: sign for sign, opening in _OPENED_BY.items()}
    return value + "".join(closing[sign] for sign in reversed(open_brackets))


def _each_quoted(values: str) -> str:
    return ",".join(_in_quotes(value.strip()) for value in values.split(","))


def _in_quotes(value: str) -> str:
    return QuotedString(value, Quote.double).with_quotes()  # which the shell's single quotes leave readable


def _check_flag(flag: str) -> None:
    """Raise `ConfigError` for an override that is written like a flag, and for a flag that Hydra does not have."""
    name = flag.partition("=")[0]
    if not name.startswith("--") or any(known.startswith(name) for known in _FLAGS):
        return
    if found := _OVERRIDE_WITH_DASHES.fullmatch(flag):
        raise ConfigError(f"{flag}: overrides have no dashes; write {shlex.quote(found.group(1))}")
    raise ConfigError(f"{flag}: no such flag; allowed: key=value, -m, and the flags that --help lists")


def _has_value(arguments: Sequence[str], at: int) -> bool:
    """True if the word after the argument at `at` is the value of this flag."""
    flag, after = arguments[at], arguments[at + 1 : at + 2]
    if not flag.startswith("-") or "=" in flag or not after or any(f.startswith(flag) for f in _WITHOUT_VALUE):
        return False
    return _is_stray(after[0]) if flag in _INFO else not after[0].startswith("-")


def _check_whole(arguments: Sequence[str], at: int, multirun: bool) -> None:
    """Raise `ConfigError` if the argument at `at` is followed by, or is itself, a word that is no override."""
    rest = at + 1
    while rest < len(arguments) and _is_stray(arguments[rest]):
        rest += 1
    words = list(arguments[at:rest])
    text = " ".join(words)
    if _is_stray(words[0]):
        raise ConfigError(f"{text}: is not of the form key=value; {_what_instead(words)}")
    if len(words) == 1:
        return
    if option := _as_option(words[1]):
        raise ConfigError(f"{words[1]}: is not of the form key=value; write {option}")
    if (apart := _in_one_word(words[1:])) is not None:
        raise ConfigError(f"{' '.join(words[1:])}: the shell splits arguments at blanks; write {shlex.quote(apart)}")
    key, _, value = text.partition("=")
    joined = f"{key.strip()}={re.sub(' ?, ?', ',', value.strip())}"
    corrected = joined if _parsed(joined) else next(_corrections(joined, multirun), text)
    raise ConfigError(f"{text}: the shell splits arguments at blanks; write {shlex.quote(corrected)}")


def _in_one_word(words: Sequence[str]) -> str | None:
    """`seed=1` for the words `seed = 1`; None for words that are no override with blanks around its sign."""
    key, sign, value = " ".join(words).partition("=")
    override = f"{key.strip()}={value.strip()}"
    return override if sign and value and _parsed(override) is not None and _is_known(override) else None


def _is_stray(word: str) -> bool:
    return not word.startswith(("-", "~")) and ("=" not in word or word.startswith("="))


def _what_instead(words: list[str]) -> str:
    """What to write for words that are no override: `seed = 1`, `seed: 1`, `toy`, `training.epochs`."""
    text = " ".join(words)
    key, _, value = text.replace(":", "=", 1).partition("=") if "=" not in text else text.partition("=")
    if value and _parsed(f"{key.strip()}={value.strip()}") is not None:
        return f"write {shlex.quote(f'{key.strip()}={value.strip()}')}"
    if option := _as_option(words[0]):
        return f"write {option}"
    if len(words) == 2 and _is_known(words[0]) and _parsed("=".join(words)):
        return f"write {shlex.quote('='.join(words))}"
    return "allowed: overrides such as experiment=toy training.lr=0.05, ~key to remove a key, and flags such as -m"


def _as_option(word: str) -> str | None:
    """`model=mlp` for `mlp`, if a group has an option of that name; experiments first."""
    groups = sorted(config_groups(), key=lambda group: (group != "experiment", group))
    named = (group for group in groups if (CONFIG_DIR / group / f"{word}.yaml").is_file())
    return next((f"{group}={word}" for group in named), None)
