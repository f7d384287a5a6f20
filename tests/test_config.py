import math
from dataclasses import field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer
from packaging.version import Version
from pydantic import PositiveInt
from torch import nn

from rebuttal.config import CONFIG_DIR, at_home, build, checked, composing, construct
from rebuttal.data import NoiseLike, RandomLabels, UniformNoise
from rebuttal.data.labels import random_labels, true_labels
from rebuttal.errors import ConfigError, as_one_line
from rebuttal.measures import GradientNorms
from rebuttal.models import MLP
from rebuttal.stages import Fit
from rebuttal.store.identity import describe


@checked
class Sample:
    size: PositiveInt
    shape: tuple[int, ...] = (1,)
    share: float = 0.5
    path: str = ""


def test_build_makes_nested_objects_from_the_leaves_up():
    node = {"_target_": f"{__name__}.Pair", "left": {"_target_": f"{__name__}.Sample", "size": 2, "shape": [3, 4]}}
    assert build(node, "pair", ["tests"]) == Pair(left=Sample(size=2, shape=(3, 4)))


@checked
class Pair:
    left: Sample


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "a.b.size=0: input should be greater than 0"),
        (
            {"size": "3"},
            "a.b.size=3: input should be a valid integer; it is text here, because it stands in quotation marks: write "
            "it without them",
        ),
        ({"size": True}, "a.b.size=True: input should be a valid integer"),
        ({"size": 1e4}, "a.b.size=10000.0: input should be a valid integer; write 10000"),
        ({"size": 2.5}, "a.b.size=2.5: input should be a valid integer"),
        ({"size": 1, "shape": [3, 8.0]}, "a.b.shape.1=8.0: input should be a valid integer; write 8"),
        ({"size": 1, "shape": 8}, "a.b.shape=8: input should be a list; write 'a.b.shape=[8]'"),
        ({"size": 1, "shape": "3"}, "a.b.shape=3: input should be a list; write 'a.b.shape=[3]'"),
        ({"size": "None"}, "a.b.size=None: input should be a valid integer; none is called null here"),
        ({"size": 1, "share": "none"}, "a.b.share=none: input should be a valid number; none is called null here"),
        ({"size": 1, "path": 2024}, "a.b.path=2024: input should be a valid string; write 'a.b.path=\"2024\"'"),
        ({"size": 1, "path": True}, "a.b.path=True: input should be a valid string; write 'a.b.path=\"True\"'"),
        ({"size": 1, "sise": 2}, "a.b.sise=2: unknown key; allowed: size, shape, share, path"),
        ({"size": 1, "share": math.inf}, "a.b.share=inf: input should be a finite number"),
        ({"size": 1, "share": math.nan}, "a.b.share=nan: input should be a finite number"),
        ({}, "a.b.size is missing; it has no default"),
    ],
)
def test_what_is_wrong_is_told_with_key_value_and_what_is_allowed(arguments, message):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"{__name__}.Sample", **arguments}, "a.b", ["tests"])
    assert str(caught.value) == message


@checked
class Unhashable:
    sizes: list[int] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    place: Path | None = None
    options: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sizes": [3, 4]},
            "a.sizes=[3, 4]: Unhashable.sizes is annotated with a list; allowed: tuple[int, ...], or a tuple of other "
            "values",
        ),
        (
            {"sizes": 3},
            "a.sizes=3: Unhashable.sizes is annotated with a list; allowed: tuple[int, ...], or a tuple of other "
            "values",
        ),
        (
            {"names": ["b"]},
            "a.names=['b']: Unhashable.names is annotated with a set; allowed: tuple[int, ...], or a tuple of other "
            "values",
        ),
        (
            {"place": "b/c"},
            "a.place=b/c: Unhashable.place is annotated with a Path; allowed: str, which the class makes a Path where "
            "it uses it",
        ),
        (
            {"options": {1: 2}},
            "a.options: it has the key 1, which is no text; allowed: keys in quotation marks in a file, +a.options.1=… "
            "on the command line",
        ),
    ],
)
def test_a_field_that_no_config_can_set_is_named_with_what_to_annotate(arguments, message):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"{__name__}.Unhashable", **arguments}, "a", ["tests"])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("target", "key", "arguments", "message"),
    [
        (
            "rebuttal.data.labels.true_labels",
            "stages.teacher.corruption",
            {"fraction": 0.9},
            "stages.teacher.corruption.fraction=0.9: unknown key; the chosen option of stages.teacher.corruption has "
            "none; allowed with corruption=partial",
        ),
        (
            "rebuttal.training.Cosine",
            "stages.student.training.schedule",
            {"final": 0.5},
            "stages.student.training.schedule.final=0.5: unknown key; the chosen option of "
            "stages.student.training.schedule has none; allowed with training/schedule=triangular",
        ),
        (
            "rebuttal.data.labels.true_labels",
            "corruption",
            {"nix": 1},
            "corruption.nix=1: unknown key; the chosen option of corruption has none",
        ),
    ],
)
def test_a_key_of_an_option_without_any_is_named_with_the_options_that_have_it(target, key, arguments, message):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": target, **arguments}, key)
    assert str(caught.value) == message


@pytest.mark.parametrize("target", ["nowhere.Nothing", "rebuttal.models.Nothing", "plain", 3])
def test_an_unknown_target_is_named(target):
    with pytest.raises(ConfigError, match=rf"^model\._target_={target}: "):
        build({"_target_": target}, "model")


SMALL = MLP(hidden=(3,))
NOT_ONE = [None, 3, "mlp", (), {}, RandomLabels(fraction=0.5), SMALL]


@pytest.mark.parametrize("value", [*NOT_ONE, GradientNorms()])
def test_a_field_for_an_option_of_a_group_holds_nothing_else(value):
    with pytest.raises(
        ConfigError, match=r"^dataset\.like=.*: allowed: an option of the group dataset(; choose one first: .*)?$"
    ):
        construct(NoiseLike, {"like": value, "kind": "uniform"}, "dataset")


def test_a_method_of_the_same_name_is_not_yet_the_same_thing(recipe):
    parts = {"dataset": UniformNoise(shape=(2,)), "training": recipe(), "seed": 0}
    fit = construct(Fit, {"model": SMALL, "corruption": RandomLabels(fraction=0.5), **parts}, "fit")
    with pytest.raises(ConfigError, match=r"^fit\.model=.*: allowed: an option of the group model$"):
        construct(Fit, {"model": fit, "corruption": RandomLabels(fraction=0.5), **parts}, "fit")
    with pytest.raises(ConfigError, match=r"^fit\.corruption=.*: allowed: an option of the group corruption$"):
        construct(Fit, {"model": SMALL, "corruption": GradientNorms(), **parts}, "fit")


def test_folders_at_home():
    home = str(Path.home())
    config = {"store": "~/a b", "stages": [{"root": "~/é"}], "name": "a~/b", "seed": 0}
    found = {"store": f"{home}/a b", "stages": [{"root": f"{home}/é"}], "name": "a~/b", "seed": 0}
    assert at_home(config) == found


def test_composing_leaves_hydra_as_it_was(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 3\n")
    base, resolvers = version.getbase(), dict(BaseContainer._resolvers)
    try:
        initialize_config_dir(str(tmp_path), version_base="1.2")
        OmegaConf.register_new_resolver("now", lambda pattern: "then", replace=True)
        instance, callers = GlobalHydra.instance(), GlobalHydra.instance().hydra
        with pytest.raises(KeyError), composing():
            assert compose("train", ["seed=3"]).seed == 3
            raise KeyError
        assert GlobalHydra.instance() is instance and instance.hydra is callers
        assert version.getbase() == Version("1.2")
        assert compose("mine").a == 3
        assert OmegaConf.create({"a": "${now:%Y}"}).a == "then"
    finally:
        GlobalHydra.instance().clear()
        version.VersionBase.instance().version_base = base
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)


def test_equal_meaning_has_equal_identity():
    assert describe(RandomLabels(fraction=1)) == describe(RandomLabels(fraction=1.0)) == describe(random_labels())
    assert describe(RandomLabels(fraction=0.0)) == describe(true_labels())
    assert describe(RandomLabels(fraction=0.5)) != describe(RandomLabels(fraction=0.25))


def test_what_is_no_dataclass_has_no_identity():
    with pytest.raises(
        ConfigError, match=r"^_target_=torch\.nn\.modules\.linear\.Identity: .*; allowed: a frozen dataclass; "
    ):
        describe((Sample(size=1), nn.Identity()))


def test_sizes_of_other_splits_are_not_part_of_a_split():
    small, large = UniformNoise(student_size=10), UniformNoise(student_size=20)
    assert small.identity("train") == large.identity("train")
    assert small.identity("student") != large.identity("student")
    assert small.identity("train") != small.identity("test")


@pytest.mark.parametrize("experiment", [path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml")])
def test_a_study_has_a_folder_for_each_experiment_and_asks_for_less(experiment):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        usual = compose("train", [f"experiment={experiment}"])
        study = compose("train", [f"experiment={experiment}", "size=study"], return_hydra_config=True)
    assert study.hydra.sweep.dir == f"outputs/study/{experiment}"
    assert study.measuring.probes < usual.measuring.probes
    assert set(study.stages) == set(usual.stages)
    for name, fewer in (("sample_efficiency", "repeats"), ("thinning", "repeats")):
        if name in study.stages:
            assert study.stages[name][fewer] < usual.stages[name][fewer]


def test_a_value_of_many_lines_is_told_in_one_that_can_be_read():
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"{__name__}.Sample", "size": "many\nlines\n" * 1000}, "a", ["tests"])
    line = as_one_line(caught.value)
    assert line.startswith("a.size=many; lines; many") and line.endswith("input should be a valid integer")
    assert "\n" not in line and len(line) < 1100


def test_a_number_that_cannot_be_counted_to_is_named():
    with pytest.raises(ConfigError, match=r"^a\.shape\[1\]=9223372036854775808: allowed: whole numbers below 2\^63$"):
        build({"size": 1, "shape": [2**63 - 1, 2**63]}, "a")


STRANGE = ["os.system", "builtins.eval", "subprocess.run", "torch.load", "torch.hub.load", "rebuttal.files.write_text"]
THROUGH = [
    "torch.nn.init.uniform_",
    "torch.nn.modules.module.torch",
    "rebuttal.functions.networks.copy",
    "rebuttal.data.noise.np",
]


@pytest.mark.parametrize("target", [*STRANGE, "rebuttal.train.main", "rebuttalx.data.Noise", "torch.nnx.Linear"])
def test_a_config_cannot_name_what_is_not_for_configs(target):
    with pytest.raises(ConfigError, match=rf"^model\._target_={target}: allowed: .*packages=\[name\]$"):
        build({"_target_": target}, "model")


IMPORTED_INSIDE = ["rebuttal.functions.hash.generator", "rebuttal.training.evaluation.EVALUATION_BATCH"]


@pytest.mark.parametrize("target", [*THROUGH, *IMPORTED_INSIDE])
def test_nor_what_a_module_for_configs_has_only_imported(target):
    with pytest.raises(ConfigError, match=rf"^model\._target_={target}: is not a class or function of "):
        build({"_target_": target}, "model")


@pytest.mark.parametrize("wrong", [{"in_features": -2, "out_features": 3}, {"in_features": 2, "out_features": 10**20}])
def test_what_a_module_of_torch_objects_to_is_told(wrong):
    with pytest.raises(ConfigError, match=r"^x"):
        build({"_target_": "torch.nn.Linear", **wrong}, "x")


def test_modules_of_torch_and_listed_packages_may_be_named():
    assert build({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}, "x").out_features == 3
    node = {"_target_": f"{__name__}.Sample", "size": 2, "shape": [3]}
    with pytest.raises(ConfigError, match="packages="):
        build(node, "x")
    assert build(node, "x", ["tests"]).size == 2
    with pytest.raises(ConfigError, match="is not a class or function of tests"):
        build({"_target_": f"{__name__}.pytest"}, "x", ["tests"])
