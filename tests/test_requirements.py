"""The lists of exact versions against the ranges of pyproject.toml."""

import re
from collections import defaultdict
from itertools import product

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.command_line import ROOT

tomllib = pytest.importorskip("tomllib")  # of Python 3.11
SYSTEMS = [
    {
        **{"python_version": v, "python_full_version": f"{v}.9"},
        **{"sys_platform": s, "platform_system": p, "platform_machine": m},
    }
    for v, (s, p, m) in product(
        ("3.10", "3.11", "3.12", "3.13"),
        (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")),
    )
]


def asked(system):
    """What pyproject.toml asks for, to build, use, develop and test on a system, by name."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    named = [extra for line in extras["dev"] for extra in Requirement(line).extras]
    lines = [*content["build-system"]["requires"], *content["project"]["dependencies"], *extras["dev"]]
    found = map(Requirement, [*lines, *(line for extra in named for line in extras[extra])])
    here = {**default_environment(), **system}
    wanted = (r for r in found if r.name != content["project"]["name"])
    return {canonicalize_name(r.name): r for r in wanted if r.marker is None or r.marker.evaluate(here)}


def pinned(name):
    """The requirements of a list, each with its hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text())
    entries = [entry for entry in entries if not entry.startswith("#")]
    return [(Requirement(e.split("\\")[0].strip()), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", e)) for e in entries]


def versions(name, system):
    """The versions that a list installs on a system."""
    found = defaultdict(list)
    for requirement, _ in pinned(name):
        if requirement.marker is None or requirement.marker.evaluate({**default_environment(), **system}):
            (exact,) = requirement.specifier
            assert exact.operator == "=="
            found[canonicalize_name(requirement.name)].append(exact.version)
    return found


@pytest.mark.parametrize("name", ["lock.txt", "oldest.txt"])
def test_every_file_of_a_list_has_its_hashes(name):
    assert len(pinned(name)) > 100
    assert [requirement for requirement, hashes in pinned(name) if not hashes] == []


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: f"{s['python_version']}-{s['platform_machine']}")
@pytest.mark.parametrize("name", ["lock.txt", "oldest.txt"])
def test_a_list_has_one_version_of_everything_that_is_asked_for_within_its_range(name, system):
    found = versions(name, system)
    assert {name: v for name, v in found.items() if len(v) != 1} == {}
    assert set(asked(system)) <= set(found)
    for name, requirement in asked(system).items():
        assert requirement.specifier.contains(found[name][0], prereleases=True), (name, found[name])


@pytest.mark.parametrize("system", SYSTEMS[:1], ids=["3.10"])
def test_the_oldest_versions_are_the_lower_bounds(system):
    found = versions("oldest.txt", system)
    for name, requirement in asked(system).items():
        lower = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
        if lower:
            assert Version(found[name][0]) == lower[0], name
