import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rebuttal.config import CONFIG_DIR
from rebuttal.report.naming import dataset_name, labels_name, model_name, names, option_name, setup_name


def config(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)


def test_a_setup_is_named_by_its_options():
    assert (
        setup_name(config("model=mlp_toy", "dataset.shape=[100]")) == "mlp_toy, uniform_noise, 100, n = 1,000, K = 10"
    )
    walk = config("experiment=random_walk", "model=resnet18")
    assert setup_name(walk) == "resnet18, random_walk, 3×8×8, n = 500, K = 10"
    images = config("experiment=baseline", "dataset=image_folder", "dataset.root=x", "dataset.train_size=5000")
    assert setup_name(images, 7) == "resnet18, image_folder, n = 5,000, K = 7"
    assert setup_name(config("model.hidden=[7]")).startswith("mlp, hidden=[7], ")


def test_labels_are_named_by_their_corruption():
    named = {
        "none": "true labels",
        "random": "random labels",
        "permuted": "permuted labels",
        "partial": "50% random labels",
    }
    for corruption, name in named.items():
        half = ["corruption.fraction=0.5"] if corruption == "partial" else []
        assert labels_name(config("experiment=baseline", f"corruption={corruption}", *half)) == name
    for fraction, name in (
        (0.001, "0.1% random labels"),
        (0.125, "12.5% random labels"),
        (0.996, "99.6% random labels"),
    ):
        assert (
            labels_name(config("experiment=baseline", "corruption=partial", f"corruption.fraction={fraction}")) == name
        )
    images = ["experiment=baseline", "corruption=partial", "corruption.fraction=1"]
    assert labels_name(config(*images)) == "random labels"
    for dataset in ("uniform_noise", "gaussian_noise", "random_walk"):  # they have no true labels
        assert labels_name(config(f"dataset={dataset}")) == "random labels"


def test_names_have_only_the_settings_that_differ():
    base = config("experiment=two_stage")
    slow = config("experiment=two_stage", "training.lr=0.5")
    other = config("experiment=two_stage", "model=mlp_1x512")
    assert names([base, slow, other]) == [
        "mlp, uniform_noise, 3×32×32, n = 1,000, K = 10, training.lr = 0.001",
        "mlp, uniform_noise, 3×32×32, n = 1,000, K = 10, training.lr = 0.5",
        "mlp_1x512, uniform_noise, 3×32×32, n = 1,000, K = 10",
    ]
    student = config("experiment=two_stage", "stages.student.temperature=9")
    assert "stages.student.temperature = 9" in names([base, student])[1]
    true, random = (config("experiment=baseline", f"corruption={labels}") for labels in ("none", "random"))
    assert [name.rpartition(", ")[2] for name in names([true, random])] == ["true labels", "random labels"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=mlp_toy"], "mlp_toy"),
        (["model=mlp"], "mlp"),
        (["model=mlp", "model.hidden=[20]"], "mlp, hidden=[20]"),
        (["model=mlp_toy", "model.dropout=0.1"], "mlp_toy, dropout=0.1"),
        (["model=vgg11", "model.batch_norm=false"], "vgg11, batch_norm=false"),
        (["model=torchvision", "model.name=resnet50"], "torchvision resnet50"),
        (["model=torchvision", "model.name=resnet50", "model.stem=own"], "torchvision resnet50, stem=own"),
        (["model=module", "model.target=mine.nets:Wide", "model.arguments={depth:3}"],
         "module mine.nets:Wide, arguments={depth:3}"),
    ],
)  # fmt: skip
def test_a_model_is_named_by_its_option_and_what_was_changed(overrides, name):
    assert model_name(config(*overrides)) == name


def test_a_dataset_of_a_file_is_named_by_it_without_its_folder():
    assert dataset_name(config("dataset=arrays", "dataset.path=/home/me/data/digits.npz")) == "arrays digits.npz"
    assert dataset_name(config("dataset=cifar10", "dataset.root=/big/cifar")) == "cifar10"
    assert dataset_name(config("dataset=image_folder", "dataset.root=/big/images.tar")) == "image_folder"
    assert dataset_name({"dataset": {"_target_": "mine.data.Rings", "path": "/a/b", "noise": 3}}) == "Rings"


def test_files_that_differ_are_named_by_what_differs_in_their_paths():
    one, two, three = (
        config("experiment=baseline", "dataset=image_folder", f"dataset.root={root}")
        for root in ("/a/birds/v1", "/a/birds/v2", "/a/cats/v2")
    )
    assert names([one, two])[0].endswith("dataset.root = v1")
    assert [name.rpartition(" = ")[2] for name in names([one, two, three])] == ["birds/v1", "birds/v2", "cats/v2"]


def test_options_that_differ_are_named_and_not_described():
    adam, sgd = (config("experiment=two_stage", f"training/optimizer={name}") for name in ("adam", "sgd"))
    assert [name.partition("K = 10, ")[2] for name in names([adam, sgd])] == [
        "training.optimizer = adam",
        "training.optimizer = sgd",
    ]
    other = config("experiment=two_stage", "model@stages.student.model=mlp_1x512")
    named = names([config("experiment=two_stage"), other])
    assert [name.partition("K = 10, ")[2] for name in named] == [
        "stages.student.model = none",
        "stages.student.model = mlp_1x512",
    ]


def test_an_own_option_has_its_name_also_when_it_builds_on_another(tmp_path):
    for group, name, text in (
        ("model", "wide", "_target_: mine.Wide\nwidth: 9\n"),
        ("model", "narrow", "defaults: [mlp, _self_]\nhidden: [3]\n"),
        ("dataset", "rings", "_target_: mine.Rings\nshape: ${shape}\n"),
    ):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / f"{name}.yaml").write_text(text)
    places = (tmp_path,)
    wide = {"_target_": "mine.Wide", "width": 9}
    assert option_name("model", wide, places) == "wide" and option_name("model", wide) == "Wide"
    assert option_name("model", wide | {"width": 8}, places) == "wide, width=8"
    narrow = {"_target_": "rebuttal.models.MLP", "hidden": [3], "dropout": 0.0}
    assert option_name("model", narrow, places) == "narrow" and option_name("model", narrow) == "mlp, hidden=[3]"
    assert dataset_name({"dataset": {"_target_": "mine.Rings", "shape": [2]}}, places) == "rings"
