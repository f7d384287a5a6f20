"""A user's own code is part of what it made."""

import importlib
import sys
import textwrap

import pytest
import torch

from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.stages import Fit
from rebuttal.stages.session import Session
from rebuttal.store.identity import describe

NETS = """
    from dataclasses import dataclass
    from torch import nn
    from mine.parts import act

    @dataclass(frozen=True)
    class Wide:
        width: int = 8

        def network(self, shape, classes):
            return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], self.width), act(), nn.Linear(self.width, classes))
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of a package `mine`, and import it afresh."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").touch()

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"mine/{name}.py").write_text(textwrap.dedent(source))
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("mine.nets")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions may have one time stamp and size


@pytest.mark.parametrize("changed", ["nets", "parts"])
def test_a_model_whose_code_has_changed_is_trained_again_and_that_is_logged(package, changed, recipe, session, caplog):
    sources = {"nets": NETS, "parts": "from torch.nn import ReLU as act"}
    other = {
        "nets": NETS.replace("width: int = 8", "width: int = 8  # units"),
        "parts": "from torch.nn import Sigmoid as act",
    }

    def network(mine, session):
        data = UniformNoise(shape=(6,), train_size=30, test_size=30)
        stage = Fit(model=mine.Wide(), dataset=data, corruption=random_labels(), training=recipe(), seed=0)
        return stage.network(session), session.store.made

    _, made = network(package(**sources), session)
    assert len(made) == 1 and "code has changed" not in caplog.text
    _, made = network(package(**sources), Session(session.settings))
    assert made == []
    trained, made = network(package(**sources | {changed: other[changed]}), Session(session.settings))
    assert len(made) == 1 and "your code has changed since this was last computed" in caplog.text
    if changed == "parts":
        assert any(isinstance(module, torch.nn.Sigmoid) for module in trained.modules())


def test_code_that_a_class_does_not_use_is_no_part_of_it(package):
    sources = {"nets": NETS, "parts": "from torch.nn import ReLU as act", "plots": "x = 1"}
    before = describe(package(**sources).Wide())
    assert describe(package(**sources | {"plots": "x = 2"}).Wide()) == before
    assert before["kind"] == "mine.nets.Wide"


def test_it_is_the_same_whatever_else_of_the_package_was_imported(package):
    """A module that nobody uses; one that only a function imports, before and after it was called."""
    late = NETS.replace("def network(self, shape, classes):", "def network(self, shape, classes):\n            "
                        "from .late import extra")  # fmt: skip
    sources = {"nets": late, "parts": "from torch.nn import ReLU as act", "late": "extra = 1", "plots": "x = 1"}
    mine = package(**sources)
    before = describe(mine.Wide())
    importlib.import_module("mine.plots")
    assert describe(mine.Wide()) == before
    mine.Wide().network((6,), 2)
    assert "mine.late" in sys.modules and describe(mine.Wide()) == before
    assert describe(package(**sources | {"late": "extra = 2"}).Wide()) != before


@pytest.mark.parametrize(
    "line", ["import mine.parts", "from mine import parts", "from . import parts", "from .parts import act as other"]
)
def test_whatever_way_a_module_is_imported_it_is_part_of_it(package, line):
    sources = {"nets": NETS.replace("from mine.parts import act", f"act = print\n    {line}")}
    one, other = (describe(package(**sources, parts=f"act = {n}").Wide()) for n in (1, 2))
    assert one != other


def test_a_package_beside_is_part_of_it_and_one_that_is_installed_is_not(package, tmp_path, monkeypatch):
    """Also if only a function imports it, before and after."""
    late = NETS.replace("def network(self, shape, classes):", "def network(self, shape, classes):\n            "
                        "import other_packages_lib.late")  # fmt: skip
    lines = "from torch.nn import ReLU as act\nimport beside_lib\nimport beside_module\nimport other_packages_lib"
    found = []
    for change in ("", "beside_lib/deep.py", "beside_module.py", "elsewhere/site-packages/other_packages_lib/late.py"):
        files = {"beside_lib/__init__.py": "from . import deep", "beside_lib/deep.py": "", "beside_module.py": ""}
        others = "elsewhere/site-packages/other_packages_lib"
        files |= {f"{others}/__init__.py": "", f"{others}/late.py": ""}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + f"\nx = {len(name)}" * (name == change))
        monkeypatch.syspath_prepend(tmp_path / "elsewhere/site-packages")
        for name in [name for name in sys.modules if name.startswith(("beside_", "other_packages_lib"))]:
            monkeypatch.delitem(sys.modules, name)
        mine = package(nets=late, parts=lines)
        found.append(describe(mine.Wide())["source"])
        mine.Wide().network((6,), 2)
        assert describe(mine.Wide())["source"] == found[-1]
    assert len(set(found)) == 3 and found[0] == found[3]


def test_code_that_changes_while_a_process_has_it_is_the_code_that_it_has(package, tmp_path, caplog):
    sources = {"nets": NETS, "parts": "from torch.nn import ReLU as act"}
    mine = package(**sources)
    before = describe(mine.Wide())
    changed = textwrap.dedent(NETS.replace("width: int = 8", "width: int = 9"))
    (tmp_path / "mine/nets.py").write_text(changed)
    assert describe(mine.Wide()) == before
    assert "mine.nets has changed since this process imported it, and goes on as it was" in caplog.text
    again = importlib.reload(mine)
    after = describe(again.Wide())
    assert after["width"] == 9 and after["source"] != before["source"]
    assert describe(package(**sources | {"nets": changed}).Wide()) == after


def test_classes_of_one_name_in_two_modules_differ(package):
    mine = package(nets=NETS, parts="from torch.nn import ReLU as act", others=NETS)
    others = importlib.import_module("mine.others")
    assert describe(mine.Wide()) != describe(others.Wide())
