"""Store entries, sizes and times in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rebuttal.rounding import fixed, percent


def in_words(kind: str, identity: Any, record: dict[str, Any]) -> str:
    """Describe an entry in one printable line; an entry of a stage of the user's by its stage alone."""
    describe = KINDS.get(kind, _other)
    try:
        line = describe(identity, record)
    except (KeyError, TypeError, ValueError, AttributeError, LookupError):
        line = _other(identity, record)
    return "".join(c if c.isprintable() else "?" for c in line)


def size_in_words(count: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def age_in_words(seconds: float) -> str:
    """Return a duration in words, rounded down."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def counted(count: int, one: str, many: str) -> str:
    """Return a number of things."""
    return f"{count} {one if count == 1 else many}"


def _fit(identity: Any, record: dict[str, Any]) -> str:
    m = record["metrics"]
    train, test = (percent(m[f"{split}_accuracy"], 1) for split in ("train", "test"))
    return f"{_network(identity)}: {m['steps']} steps, train accuracy {train}, test accuracy {test}"


def _mimic(identity: Any, record: dict[str, Any]) -> str:
    m = record["metrics"]
    kappa = "undefined" if m["kappa"] is None else fixed(m["kappa"], 2)
    return f"{_student(identity)}: {m['steps']} steps, agreement {percent(m['agreement'], 1)}, κ {kappa}"


def _judge(identity: Any, record: dict[str, Any]) -> str:
    student, teacher = (_function(identity[part]) for part in ("student", "teacher"))
    return f"{student} compared with {teacher}: agreement {percent(record['metrics']['agreement'], 1)}"


def _accuracy(identity: Any, record: dict[str, Any]) -> str:
    fitted, others = (percent(record["metrics"][f"{split}_accuracy"], 1) for split in ("train", "test"))
    return f"labels that {_function(identity['function'])} gives: {fitted} of those fitted, {others} of others"


def _measure(identity: Any, record: dict[str, Any]) -> str:
    return f"{identity['measure'][0]} of {_function(identity['function'])}"


def _run(identity: Any, record: dict[str, Any]) -> str:
    return f"files of a run: stages {', '.join(identity['stages'])}"


def _images(identity: Any, record: dict[str, Any]) -> str:
    classes = record["class_names"]
    size = "their own size" if identity["size"] is None else "×".join(map(str, identity["size"]))
    return f"decoded images: {len(classes)} classes ({', '.join(classes[:3])}, …), {size}"


def _snapshot(identity: Any, record: dict[str, Any]) -> str:
    return f"{_trained(identity['network'])}: weights after {counted(identity['step'], 'step', 'steps')}"


def _logits(identity: Any, record: dict[str, Any]) -> str:
    function, step = identity["function"], identity["step"]
    name = _function(function) if "function" in function else _trained(function)
    when = "" if step is None else f" after {counted(step, 'step', 'steps')}"
    return f"logits of {name}{when} on {_data(identity['inputs']['split'])}"


def _trained(identity: Any) -> str:
    """A network of a stage."""
    describe = {"fit": _network, "mimic": _student}.get(identity["stage"])
    return describe(identity) if describe else f"stage {identity['stage']}"


def _other(identity: Any, record: dict[str, Any]) -> str:
    stage = identity.get("stage") if isinstance(identity, dict) else None
    return f"stage {stage}" if isinstance(stage, str) else f"record of {', '.join(map(str, record)) or 'nothing'}"


def _network(fit: Any) -> str:
    """A network of a fit stage, without what became of it."""
    labels = _option(fit["corruption"])
    return f"{_option(fit['model'])} on {_data(fit['train'])}, labels {labels}, seed {fit['seed']}"


def _student(mimic: Any) -> str:
    inputs = _data(mimic["student"])
    return (
        f"{_option(mimic['model'])} on {inputs}, {mimic['target']} labels of {_function(mimic['teacher'])}, "
        f"seed {mimic['seed']}"
    )


def _function(identity: Any) -> str:
    if "matched" in identity:
        return f"{_function(identity['matched'])}, matched"
    kind = identity["function"]
    if kind == "trained":
        return f"({_network(identity['fit'])})"
    if kind == "student":
        return f"({_student(identity['mimic'])})"
    return f"{kind}"


def _data(split: Any) -> str:
    kind = str(split["kind"]).rpartition(".")[2]
    shape = f" {list(split['shape'])}" if "shape" in split else ""
    return f"{kind}{shape} n={split['size']}"


def _option(option: Any) -> str:
    """A config object by its class and settings."""
    settings = [f"{key}={value}" for key, value in option.items() if key not in ("kind", "source")]
    return " ".join([str(option["kind"]).rpartition(".")[2], *settings])


# How entries of the kinds that this package makes are described.
KINDS: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "fit": _fit,
    "mimic": _mimic,
    "judge": _judge,
    "accuracy": _accuracy,
    "measure": _measure,
    "run": _run,
    "images": _images,
    "snapshot": _snapshot,
    "logits": _logits,
}
