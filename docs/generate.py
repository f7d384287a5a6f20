"""The reference pages, written from conf/, the docstrings and the commands themselves; a hook of MkDocs.

    mkdocs build --strict          # or: make docs

A config key without a meaning fails the build: it needs a comment on its line in conf/, or a sentence that starts with
its name in the docstring of the class that `_target_` names.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
PAGES = "reference/configuration"

# How the options of a group are chosen, and what they are.
GROUPS = {
    "model": "The architecture. `model=mlp`; for the student of one stage `model@stages.student.model=vgg11`.",
    "dataset": "Where inputs and true labels come from. `dataset=uniform_noise`; for one stage "
    "`dataset@stages.student.dataset=gaussian_noise`.",
    "corruption": "What is done to the training labels. `corruption=random`.",
    "training": "The recipe of every training of a run, composed of the groups below. `training=zhang`; for one stage "
    "`training@stages.student.training=zhang`, or a single key: `stages.student.training.epochs=300`.",
    "training/optimizer": "The optimiser of a recipe. `training/optimizer=sgd`.",
    "training/schedule": "The schedule of the learning rate. `training/schedule=cosine`.",
    "training/loss": "The loss of labels. `training/loss=squared_error`.",
    "training/augmentation": "Random changes of training images. `training/augmentation=crop_flip`.",
    "preprocess": "The crop and the normalisation of inputs, the first layer of every network. `preprocess=per_image`.",
    "measuring": "How thoroughly the stages `smoothness` and `frequency` measure. Set single keys: "
    "`measuring.probes=200`.",
    "function": "Teachers and null functions. For the teacher of a student: "
    "`function@stages.student.teacher=untrained`.",
    "stage": "What a run consists of. An experiment lists its stages in its defaults: `/stage@stages.teacher: fit`. "
    "On the command line a key of a stage is `stages.teacher.initialisation=1`.",
    "compare": "The functions that a stage of the kind `smoothness` or `frequency` measures side by side. Chosen in an "
    "experiment's defaults: `/compare@stages.smoothness.functions: labels_and_nulls`.",
    "experiment": "Which stages are run, on what, and what `-m` varies. `experiment=two_stage`.",
    "size": "How large an experiment is run. `size=full`. The folders below hold what is particular to an experiment.",
    "debug": "`debug=tiny` shrinks any experiment to seconds, to see that it runs; its numbers mean nothing.",
    "tracker": "Where curves and metrics are logged besides the run's folder. `tracker=tensorboard`.",
    "hydra/launcher": "Where the jobs of a sweep run, with `-m`. `hydra/launcher=slurm`; without it they run one after "
    "the other. Keys not listed here are those of Hydra's joblib and submitit launchers.",
}
AS_SOURCE = {"compare", "experiment", "size", "debug"}  # options that only set keys of other groups: shown as YAML
LAUNCHERS = {
    "local": "hydra_plugins.hydra_joblib_launcher.config.JobLibLauncherConf",
    "slurm": "hydra_plugins.hydra_submitit_launcher.config.SlurmQueueConf",
    "stacked": "hydra_plugins.rebuttal_stacked.Stacked",
}
# Keys that have neither comment nor sentence yet. Write one, then remove the key here.


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files beside docs/ that pages show or link to."""
    sys.path.insert(0, str(ROOT))
    pages = {**configuration_pages(), "reference/metrics.md": metrics_page(), "reference/commands.md": commands_page()}
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        pages[name.lower()] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    shown = [*CONF.rglob("*.yaml"), *ROOT.glob("results/figures/*.png"), *ROOT.glob("results/processed/*.csv")]
    for source in sorted(shown):
        files.append(File.generated(config, source.relative_to(ROOT).as_posix(), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository conf/ and results/ lie beside docs/, on the site below it."""
    return re.sub(r"\]\(\.\./((?:\.\./)*)(conf|results)/", r"](\1\2/", markdown)


# Configuration


@dataclass(frozen=True)
class Key:
    """A row of a table: a config key, and the `owner` class that checks it."""

    name: str
    type: str
    default: str
    comment: str = ""
    owner: type | None = None


@dataclass(frozen=True)
class Option:
    """One YAML file of a group."""

    name: str
    head: str
    source: str
    target: Any = None
    keys: list[Key] = field(default_factory=list)


def configuration_pages() -> dict[str, str]:
    """A page a group, by path. Raises `PluginError` for keys that nothing explains."""
    groups = {group: read_group(group) for group in GROUPS}
    top = top_level_keys()
    known = {f"{group}.{key.name}": key for group in ("measuring",) for key in groups[group][0].keys}
    known |= {key.name: key for key in top}
    missing: set[str] = set()
    pages = {f"{PAGES}/index.md": index_page(top, missing), f"{PAGES}/claims.md": claims_page(missing)}
    for group, options in groups.items():
        pages[f"{PAGES}/{group.rpartition('/')[2]}.md"] = group_page(group, options, known, missing)
    if unexplained := sorted(missing):
        raise PluginError(f"config keys without a comment or a sentence in a docstring: {', '.join(unexplained)}")
    return pages


def read_group(group: str) -> list[Option]:
    return [read_option(group, path) for path in sorted((CONF / group).glob("*.yaml"))]


def read_option(group: str, path: Path) -> Option:
    source = path.read_text(encoding="utf-8")
    node = yaml.safe_load(source) or {}
    if group in AS_SOURCE or (group != "hydra/launcher" and "_target_" not in node):
        return Option(path.stem, head_comment(source), source)
    target = located(LAUNCHERS[path.stem] if group == "hydra/launcher" else node["_target_"])
    keys = list(keys_of(node, target, comments(source)))
    named = {key.name.partition(".")[0] for key in keys}
    if group != "hydra/launcher":
        keys += [key for key in fields_as_keys(target) if key.name not in named]
    return Option(path.stem, head_comment(source), source, target, keys)


def keys_of(node: dict[str, Any], owner: Any, notes: dict[str, str], above: str = "") -> Iterator[Key]:
    """A row for each key of a config node, those of nested nodes included."""
    hints = type_hints(owner) if owner is not None else {}
    chosen = dict(chosen_groups(node.get("defaults", [])))
    for name in [name for name in chosen if name not in node]:
        default = "`null`" if chosen[name] is None else f"option `{chosen[name]}`"
        hint = hints.get(name.partition(".")[0])
        yield Key(f"{above}{name}", type_in_words(hint), default, notes.get(f"{above}{name}", ""), owner)
    for name, value in node.items():
        if name in ("_target_", "defaults"):
            continue
        path = f"{above}{name}"
        nested = isinstance(value, dict) and bool(value)
        default = "" if nested else "required" if value == "???" else f"`{compact(value)}`"
        if chosen.get(name) is not None:
            default = f"option `{chosen[name]}`"
        inner = located(value["_target_"]) if nested and "_target_" in value else None
        note = notes.get(path, "") or (f"[{inner.__name__}](../metrics.md#{inner.__name__.lower()})" if inner else "")
        yield Key(path, type_in_words(hints.get(name)), default, note, owner)
        if nested:
            yield from keys_of(value, inner, notes, f"{path}.")


def chosen_groups(defaults: list[Any]) -> Iterator[tuple[str, Any]]:
    """`/function@teacher: trained` gives ("teacher", "trained")."""
    for entry in defaults:
        for place, option in entry.items() if isinstance(entry, dict) else ():
            if "_here_" not in place and not place.startswith(("optional", "override")):
                yield place.rpartition("@")[2], option


def fields_as_keys(target: Any) -> Iterator[Key]:
    """The fields of a dataclass, for those that a config leaves at their defaults."""
    hints = type_hints(target)
    for f in (f for f in fields(target) if f.init) if is_dataclass(target) else ():
        default = "required" if f.default is MISSING else f"`{compact(f.default)}`"
        yield Key(f.name, type_in_words(hints[f.name]), default, owner=target)


def top_level_keys() -> list[Key]:
    source = (CONF / "train.yaml").read_text(encoding="utf-8")
    node = {key: value for key, value in yaml.safe_load(source).items() if key not in ("defaults", "hydra")}
    settings = located("rebuttal.stages.session.Settings")
    shape = Key("shape", type_in_words(type_hints(located("rebuttal.data.noise.Noise"))["shape"]), "")
    found = []
    for key in keys_of(node, settings, comments(source)):
        found.append(Key(key.name, shape.type if key.name == "shape" else key.type, key.default, key.comment, settings))
    named = {key.name for key in found} | {"tracker"}
    return [*found, *(key for key in fields_as_keys(settings) if key.name not in named)]


def index_page(keys: list[Key], missing: set[str]) -> str:
    groups = [f"| [`{group}`]({group.rpartition('/')[2]}.md) | {words} |" for group, words in GROUPS.items()]
    return "\n".join(
        [
            "# Configuration",
            "",
            "Every key of a run, with its type, default and meaning. This reference is generated from "
            "[conf/](../../../conf/train.yaml) and from the classes that check the values. An unknown key, a wrong "
            "type or a value out of range ends the command in one line, before anything is computed.",
            "",
            "A key is set on the command line as `key=value`. `python -m rebuttal.train experiment=toy --cfg job` "
            "prints all keys of a run. A default such as `${seed}` refers to another key.",
            "",
            "## Groups",
            "",
            "| group | |",
            "|---|---|",
            *groups,
            "| [claims](claims.md) | `conf/claims.yaml`, the claims that the report judges; not part of a run. |",
            "",
            "## Top-level keys",
            "",
            *table(keys, "", {}, missing, keys),
            "",
            "Hydra's own keys can be set too: `hydra.run.dir` (the folder of a run), `hydra.sweep.dir` and "
            "`hydra.sweep.subdir` (those of a sweep and of its jobs), `hydra.searchpath` (folders of configs of your "
            "own).",
        ]
    )


def group_page(group: str, options: list[Option], known: dict[str, Key], missing: set[str]) -> str:
    alike = [key for option in options for key in option.keys]
    described = set()
    lines = [f"# {group}", "", GROUPS[group], ""]
    for option in options:
        lines += [f"## `{option.name}`", "", *head_as_markdown(option.head), ""]
        if option.target is None:
            lines += ["```yaml", without_head(option.source), "```", ""]
            continue
        if group != "hydra/launcher":
            lines += [f"`{option.target.__module__}.{option.target.__name__}`", ""]
            lines += [] if option.target in described else [*docstring(option.target), ""]
            described.add(option.target)
        if option.keys:
            lines += [*table(option.keys, group, known, missing, alike), ""]
    for path in sorted((CONF / group).glob("*/*.yaml")):
        if path.parent.relative_to(CONF).as_posix() in GROUPS:
            continue
        lines += [f"## `{path.relative_to(CONF / group).with_suffix('')}`", ""]
        source = path.read_text(encoding="utf-8")
        lines += [*head_as_markdown(head_comment(source)), "", "```yaml", without_head(source), "```", ""]
    return "\n".join(lines)


def claims_page(missing: set[str]) -> str:
    claim = located("rebuttal.report.claims.Claim")
    source = (CONF / "claims.yaml").read_text(encoding="utf-8")
    keys = list(fields_as_keys(claim))
    each = Key("each", "by name: words by value", "none", "one claim for each value, which replaces {name}")
    return "\n".join(
        [
            "# claims",
            "",
            "The ledger `conf/claims.yaml`: a list of claims. `python -m rebuttal.report --claims FILE` judges another "
            "one. How a verdict is reached: [Claims and verdicts](../../concepts/claims.md).",
            "",
            *docstring(claim),
            "",
            *table([*keys, each], "claims", {}, missing, keys),
            "",
            "```yaml",
            source.strip(),
            "```",
        ]
    )


def table(keys: list[Key], group: str, known: dict[str, Key], missing: set[str], alike: list[Key]) -> list[str]:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        meaning = meaning_of(key, known, alike)
        if not meaning:
            missing.add(f"{group}: {key.name} ({key.owner.__name__ if key.owner else 'no class'})")
        cells = (f"`{key.name}`", key.type, key.default, meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return rows


def meaning_of(key: Key, known: dict[str, Key], alike: list[Key]) -> str:
    """What the comment on its line says, else what the docstring of its class says; of a reference to another key, what
    that means; else what is said of the same field in another option of the group."""
    name = key.name.rpartition(".")[2]
    if own := own_meaning(key):
        return own
    if reference := re.fullmatch(r"`\$\{([\w.]+)\}`", key.default):
        place = reference[1]
        beyond = own_meaning(known[place]) if place in known else ""
        return f"as `{place}`" + (f": {beyond}" if beyond else "")
    same = (other for other in alike if other.name.rpartition(".")[2] == name and home(other) is home(key) is not None)
    return next((found for other in same if (found := own_meaning(other))), "")


def own_meaning(key: Key) -> str:
    if key.comment and not lists_options_only(key):
        return escaped(key.comment)
    owners = inspect.getmro(key.owner) if isinstance(key.owner, type) else [key.owner] if key.owner else []
    names = key.name.rpartition(".")[2], key.name.partition(".")[0]  # `models.mlp` is one of `models`
    return next((said for name in names for owner in owners if (said := sentence_about(name, owner))), "")


def home(key: Key) -> type | None:
    """The class that declares the key's field."""
    name = key.name.rpartition(".")[2]
    owners = inspect.getmro(key.owner) if isinstance(key.owner, type) else ()
    return next((owner for owner in owners if name in vars(owner).get("__annotations__", {})), None)


def lists_options_only(key: Key) -> bool:
    """`# adam | sgd` repeats the type and says nothing more."""
    return {word.strip() for word in key.comment.split("|")} <= {word for word in re.findall(r"`([^`]+)`", key.type)}


def sentence_about(name: str, owner: Any) -> str:
    """What the docstring of a class says of one of its fields: from `` `name` `` to the end of the sentence, or to
    where the next field begins."""
    others = {f.name for f in fields(owner)} - {name} if is_dataclass(owner) else set()
    for sentence in re.split(r"(?<=[.:])\s+(?=[`A-Z])", " ".join((inspect.getdoc(owner) or "").split())):
        clauses = re.split(r"(?<=;)\s+", sentence)
        for i, clause in enumerate(clauses):
            if not re.search(rf"`{name}`", clause):
                continue
            said = [clause]
            for following in clauses[i + 1 :]:
                if (begins := re.match(r"`(\w+)`", following)) and begins[1] in others:
                    break
                said.append(following)
            return " ".join(said).removeprefix(f"`{name}`: ").rstrip(";. ")
    return ""


# Reading YAML


def head_comment(source: str) -> str:
    """The comment that a file begins with, without Hydra's own."""
    lines = []
    for line in source.splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


def without_head(source: str) -> str:
    """A file without the comment that it begins with, but with Hydra's own."""
    lines = source.splitlines()
    body = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join([line for line in lines[:body] if "@package" in line] + lines[body:]).strip()


def escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([_*<`])", r"\\\1", text)


def head_as_markdown(head: str) -> list[str]:
    """Commands in it become a code block."""
    lines, code = [], False
    for line in head.splitlines():
        is_command = line.startswith(("python -m", "pip install"))
        if is_command != code:
            lines += ["", "```bash"] if is_command else ["```", ""]
            code = is_command
        lines.append(line if code else escaped(line))
    return [*lines, *(["```"] if code else [])]


def comments(source: str) -> dict[str, str]:
    """The comment at the end of a key's line, by the key's path."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in source.splitlines():
        match = re.match(r"( *)(?:- /)?([\w@./]+):(.*)", line)
        if match is None or line.lstrip().startswith("#"):
            continue
        indent, name = len(match[1]), match[2].rpartition("@")[2]
        path = [(i, n) for i, n in path if i < indent] + [(indent, name)]
        if (comment := re.search(r"\s#\s*(.*)$", match[3])) is not None:
            found[".".join(n for _, n in path)] = comment[1]
    return found


def compact(value: Any) -> str:
    """A value as it is written on the command line."""
    if (factory := getattr(value, "default_factory", None)) is not None:
        value = factory()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        written = f"[{', '.join(map(compact, value))}]"
        return written if len(written) < 100 else f"[{compact(value[0])}, …]"
    return "{}" if value == {} else str(value)


# Reading classes


def located(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def type_hints(target: Any) -> dict[str, Any]:
    return typing.get_type_hints(target, include_extras=True)


def type_in_words(hint: Any) -> str:
    """A checked annotation as a reader would say it: `Annotated[int, Gt(0)] | None` is "integer > 0, or `null`"."""
    if hint is None:
        return ""
    if typing.get_origin(hint) is typing.Annotated:
        base, *rules = typing.get_args(hint)
        return annotated_in_words(base, rules)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        words = [type_in_words(a) for a in arguments if a is not type(None)]
        return " or ".join(words) + (", or `null`" if type(None) in arguments else "")
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(f"`{a}`" for a in arguments)
    if typing.get_origin(hint) in (tuple, list):
        return f"list: {type_in_words(arguments[0])}"
    if typing.get_origin(hint) is dict:
        return f"by name: {type_in_words(arguments[1])}"
    plain = {int: "integer", float: "number", str: "text", bool: "`true` | `false`", Any: "any value"}
    if hint in plain:
        return plain[hint]
    if getattr(hint, "__module__", "").startswith("rebuttal.stages"):
        return f"a stage `{hint.__name__.lower()}`"
    return {"Recipe": "option of the group training"}.get(getattr(hint, "__name__", ""), "")


def annotated_in_words(base: Any, rules: list[Any]) -> str:
    for rule in rules:
        if type(rule).__name__ == "Offers":
            return rule.allowed.removeprefix("an ").removeprefix("a ")
        if options := (getattr(rule, "json_schema_extra", None) or {}).get("enum"):
            return " | ".join(f"`{option}`" for option in options)
    limits = [limit for rule in rules for limit in getattr(rule, "metadata", None) or [rule]]
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in limits
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None and getattr(limit, name) < 2**63
    ]
    lengths = [limit.min_length for limit in limits if getattr(limit, "min_length", None)]
    words = type_in_words(base)
    if bounds:
        words += f" {' and '.join(bounds)}"
    return words + (f" (entries: {lengths[0]} or more)" if lengths else "")


def docstring(target: Any) -> list[str]:
    """Without what dataclasses make up for classes that have none."""
    text = inspect.getdoc(target) or ""
    return [] if text.startswith(f"{target.__name__}(") else text.splitlines()


# Metrics


def metrics_page() -> str:
    """What stages and measures call their numbers, from their docstrings."""
    stages, measures = import_module("rebuttal.stages"), import_module("rebuttal.measures")
    agreement = located("rebuttal.measures.agreement.agreement")
    lines = [
        "# Metrics",
        "",
        "The names in `metrics.json`, generated from the docstrings of the stages and measures that compute them. A "
        "metric is called `<stage>/<metric>`, where `<stage>` is the stage's name in the experiment: "
        "`student/kappa`, `fit/test_accuracy`. `null` means undefined, or not reached within the budget.",
        "",
        "`…_low` and `…_high` are the ends of a 95 % interval. `…_scaled` is divided by the spread of the function's "
        "own logits, so that a rescaling of the logits changes nothing.",
        "",
        "## Stages",
        "",
    ]
    for name in stages.__all__:
        lines += [f"### {name}", "", *docstring(getattr(stages, name)), ""]
    lines += [
        "## Agreement of two functions",
        "",
        "Of the stages `Mimic` and `Judge`.",
        "",
        *docstring(agreement),
        "",
        "## Time to fit",
        "",
        "`epochs_to_fit` and `steps_to_fit`, of the stages `Fit` and `Mimic`.",
        "",
        *docstring(located("rebuttal.training.evaluation.time_to_fit")),
        "",
        "## Measures",
        "",
        "Of the stage `Measure`, which puts the name of the function in front: "
        "`smoothness/random_labels_margin_gradient_test`. `<kind>` is the kind of probe: `train`, `test`, `noise` or "
        "`between`.",
        "",
    ]
    for name in measures.__all__:
        if name != "Effort":
            lines += [f"### {name}", "", *docstring(getattr(measures, name)), ""]
    return "\n".join(lines)


# Command lines


def commands_page() -> str:
    lines = ["# Command lines", ""]
    for module, words in {
        "rebuttal.train": "Compose a config, check it, run its stages and write the numbers; with `-m`, a sweep.",
        "rebuttal.report": "Read runs, judge the claims, write tables, figures, a page and a paper.",
        "rebuttal.status": "Print the state of a sweep from another terminal.",
        "rebuttal.store": "Look into the store, tidy it, and share what is in it; each command has its own `--help`.",
    }.items():
        lines += [f"## python -m {module}", "", words, "", "```text", help_of(module), "```", ""]
    return "\n".join(lines)


def help_of(module: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    said = done.stdout.strip().replace(f"{ROOT}/", "")
    return "\n".join(line.rstrip() for line in said.splitlines())
