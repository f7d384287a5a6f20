"""What is wrong with a user's own code is said in one line: which module is missing, in which file and line."""

import importlib
import sys

import pytest

from rebuttal.config import build
from rebuttal.errors import ConfigError, as_one_line

FILE = "{own}/{name}.py, line"
CANNOT = "no such class or function can be imported: "
BROKEN = {
    "missing": ("x = 1\nimport einops_not_there\n", FILE + " 2: imports einops_not_there, which is not installed"),
    "part": ("import scipy.not_there\n", FILE + " 1: imports scipy.not_there, which is not installed"),
    "through": ("import {own}.missing\n", "{own}/missing.py, line 2: imports einops_not_there, which is not installed"),
    "mistyped": ("from {own}.layrs import A\n", FILE + " 1: imports {own}.layrs, which is not there"),
    "syntax": ("x = 1\ndef f(:\n", FILE + " 2: SyntaxError: invalid syntax"),
    "indented": ("def f():\nreturn 1\n", FILE + " 2: IndentationError: expected an indented block"),
    "raises": ("def f():\n    return 1 / 0\n\n\nx = f()\n", FILE + " 2: ZeroDivisionError: division by zero"),
    "library": ("import json\n\njson.loads('x')\n", FILE + " 3: JSONDecodeError: Expecting value"),
    "exits": ("import sys\nsys.exit(3)\n", FILE + " 2: SystemExit: 3"),
    "silent": ("assert False\n", FILE + " 1: AssertionError"),
    "circular": ("from {own}.circular import B\n", FILE + " 1: ImportError: cannot import name 'B'"),
    "other": ("class Wode:\n    pass\n", CANNOT + "{own}.other has no Wide; nearest: Wode"),
    "empty": ("", CANNOT + "{own}.empty has no Wide"),
    "nowhere": (None, CANNOT + "no module {own}.nowhere"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own_code")
    name = "own_broken_code"
    (folder / name).mkdir()
    for module, (text, _) in BROKEN.items():
        if text is not None:
            (folder / name / f"{module}.py").write_text(text.replace("{own}", name))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder, name
    sys.path.remove(str(folder))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_code_is_one_line(name, own, monkeypatch):
    folder, package = own
    monkeypatch.chdir(folder)
    expected = BROKEN[name][1].format(own=package, name=name)
    with pytest.raises(ConfigError) as error:
        build({"_target_": f"{package}.{name}.Wide"}, "model", [package])
    line = as_one_line(error.value)
    assert line.startswith(f"model._target_={package}.{name}.Wide: {expected}") and "\n" not in line


def test_a_package_that_is_nowhere_is_named():
    with pytest.raises(ConfigError, match=f"^model._target_=no_package_of.mine.Wide: {CANNOT}no module no_package_of$"):
        build({"_target_": "no_package_of.mine.Wide"}, "model", ["no_package_of"])


def test_what_is_imported_on_first_use_is_named_too(tmp_path, monkeypatch):
    """In a constructor, and while a run goes on."""
    (tmp_path / "own_late.py").write_text(
        "class Wide:\n    def __init__(self):\n        import einops_not_there\n\n\n"
        "def late():\n    import einops_not_there\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = "own_late.py, line {}: imports einops_not_there, which is not installed"
    with pytest.raises(ConfigError, match=f"^model: {said.format(3)}$"):
        build({"_target_": "own_late.Wide"}, "model", ["own_late"])
    with pytest.raises(ModuleNotFoundError) as error:
        importlib.import_module("own_late").late()
    assert as_one_line(error.value) == said.format(7)
    with pytest.raises(ModuleNotFoundError) as error:
        importlib.import_module("einops_not_there")


def test_a_class_whose_settings_could_not_be_hashed_is_refused_and_what_to_write_is_said(tmp_path, monkeypatch):
    (tmp_path / "own_plain.py").write_text(
        "from dataclasses import dataclass\nfrom rebuttal.config import checked\n\n\n"
        "class Plain:\n    def __init__(self, width=1):\n        self.width = width\n\n\n"
        "@dataclass\nclass Thawed:\n    width: int = 1\n\n\n"
        "@dataclass(frozen=True)\nclass Frozen:\n    width: int = 1\n\n\n"
        "@checked\nclass Checked:\n    width: int = 1\n\n\n"
        "def made(width=1):\n    return Plain(width)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def built(name, key="model"):
        return build({"_target_": f"own_plain.{name}", "width": 2}, key, ["own_plain"])

    for name, kind in (("Plain", "Plain"), ("Thawed", "Thawed"), ("made", "Plain")):
        with pytest.raises(ConfigError) as error:
            built(name)
        assert str(error.value) == (
            f"model._target_=own_plain.{kind}: two with other settings could not be distinguished in the store; "
            f"allowed: a frozen dataclass; write @checked above class {kind} (from rebuttal.config import checked), "
            "and its settings as annotated fields"
        )
    assert built("Frozen").width == built("Checked").width == built("Plain", "tracker").width == 2
