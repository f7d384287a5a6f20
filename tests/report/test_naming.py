from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rebuttal.config import CONFIG_DIR
from rebuttal.report.naming import labels_name, names, setup_name


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
