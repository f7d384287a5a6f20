import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rebuttal.data import ImageFolder
from rebuttal.errors import ConfigError
from tests.command_line import command
from tests.conftest import pack, save_images
from tests.parameters import some_slow

COUNTS = {"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 2}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images", save_images(tmp_path / "images", COUNTS)


def test_pixels_and_labels_are_those_of_the_files(folder, tmp_path):
    root, pixels = folder
    images = ImageFolder(root=str(root)).read(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert images.test_labels.tolist() == [0, 1, 1]
    assert np.array_equal(images.train.numpy(), pixels[:5].transpose(0, 3, 1, 2))
    assert np.array_equal(images.test.numpy(), pixels[5:].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("prefix", ["", "a/b/"])
def test_a_tar_equals_its_folder(folder, tmp_path, prefix):
    root, _ = folder
    from_folder = ImageFolder(root=str(root)).read(tmp_path)
    archive = pack(root, tmp_path / "images.tar.xz", prefix)
    from_tar = ImageFolder(root=str(archive)).read(tmp_path)
    assert torch.equal(from_tar.train, from_folder.train)
    assert torch.equal(from_tar.test_labels, from_folder.test_labels)


def test_images_are_decoded_once_and_a_changed_file_is_noticed(folder, tmp_path, monkeypatch):
    root, _ = folder
    before = ImageFolder(root=str(root)).read(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", None)  # a second decoding would fail
        assert torch.equal(ImageFolder(root=str(root)).read(tmp_path).train, before.train)
    (root / "train/cat/0000.png").write_bytes((root / "train/cat/0001.png").read_bytes())
    after = ImageFolder(root=str(root)).read(tmp_path)
    assert after.digest != before.digest
    assert torch.equal(after.train[0], after.train[1])


def test_size_and_channels_can_be_set(folder, tmp_path):
    root, _ = folder
    images = ImageFolder(root=str(root), size=(5, 6), channels=1).read(tmp_path)
    assert images.train.shape == (5, 1, 5, 6)


def test_an_unreadable_image_is_named_in_the_error(folder, tmp_path):
    root, _ = folder
    broken = root / "train/dog/0001.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"train/dog/0001\.png is not a readable image"):
        ImageFolder(root=str(root)).read(tmp_path)


def test_images_of_several_sizes_are_rejected_unless_resized(folder, tmp_path):
    root, _ = folder
    save_images(root, {"train/elk": 1, "test/elk": 1}, size=(9, 8))
    with pytest.raises(ConfigError, match=r"dataset\.size=null: test/elk/0000\.png is 9x8, others are 8x8"):
        ImageFolder(root=str(root)).read(tmp_path)
    assert len(ImageFolder(root=str(root), size=(8, 8)).read(tmp_path).train) == 6


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/cat": 2, "test/cat": 1}, "found 1 class folders"),
        ({"train/cat": 1, "train/dog": 1}, "0 images below test/"),
        ({"train/cat": 1, "train/dog": 1, "test/fox": 1}, "test/fox has no counterpart"),
        ({"cat": 1, "dog": 1}, "found 0 class folders"),
    ],
)
def test_a_folder_without_the_expected_layout(tmp_path, counts, message):
    save_images(tmp_path / "images", counts)
    with pytest.raises(ConfigError, match=message):
        ImageFolder(root=str(tmp_path / "images")).read(tmp_path)


def test_a_missing_root_and_other_files_are_rejected(tmp_path):
    with pytest.raises(ConfigError, match=r"^dataset\.root=.*gone: no such folder or archive"):
        ImageFolder(root=str(tmp_path / "gone")).read(tmp_path)
    (tmp_path / "text.tar").write_text("not a tar")
    with pytest.raises(ConfigError, match="not a readable tar archive"):
        ImageFolder(root=str(tmp_path / "text.tar")).read(tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.channels=2: allowed: 1 \(grey\), 3 \(colour\)"):
        ImageFolder(root=str(tmp_path), channels=2).read(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_16_bits_that_uses_little_of_its_range_is_refused_unless_others_use_it(folder, tmp_path, channels):
    root, _ = folder
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for i, top in enumerate((4095, 16000)):
        Image.fromarray((values * (top / 63)).astype(np.uint16)).save(root / f"train/cat/000{i}.png")
    with pytest.raises(
        ConfigError, match=r"train/cat/0000\.png and all others of more than 8 bits use less than a quarter"
    ):
        ImageFolder(root=str(root), channels=channels).read(tmp_path)
    Image.fromarray(values * 1040).save(root / "train/dog/0000.png")
    images = ImageFolder(root=str(root), channels=channels).read(tmp_path)
    assert len(images.train[3].unique()) == 64 and images.train[0].max() == 15


def test_floats_are_refused_by_the_name_of_their_file(folder, tmp_path):
    root, _ = folder
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(root / "test/dog/0000.tif")
    with pytest.raises(ConfigError, match=r"test/dog/0000\.tif is of Pillow's mode F, for which no value is known"):
        ImageFolder(root=str(root)).read(tmp_path)


def test_sizes_are_compared_across_train_and_test(tmp_path):
    save_images(tmp_path / "images", {"train/cat": 1, "train/dog": 1}, size=(9, 9))
    save_images(tmp_path / "images", {"test/cat": 1}, size=(8, 8))
    with pytest.raises(ConfigError, match=r"dataset\.size=null: train/cat/0000\.png is 9x9, others are 8x8"):
        ImageFolder(root=str(tmp_path / "images")).read(tmp_path)


def test_on_the_command_line_bad_images_end_in_one_line(tmp_path):
    root = tmp_path / "images"
    save_images(root, {f"{split}/{name}": 40 for split in ("train", "test") for name in ("cat", "dog", "fox")})
    train = ["experiment=baseline", "model=mlp_toy", "debug=tiny", "dataset=image_folder", f"dataset.root={root}"]
    (root / "notes.txt").write_text("")
    done = command(*train, cwd=tmp_path)
    assert done.returncode == 0
    note = f"dataset.root={root}: files that are not used: 1 without an image's suffix (notes.txt)"
    assert (done.stdout + done.stderr).count(note) == 1
    (root / "train/cat/0001.png").write_text("<html>")
    done = command(*train, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    reason = "is not a readable image (its content is no image of a known kind)"
    assert done.stderr.strip().splitlines()[-1] == f"rebuttal: dataset.root={root}: train/cat/0001.png {reason}"


SECOND_JOB = """
import sys
from pathlib import Path
from rebuttal.data import ImageFolder
from rebuttal.store import sources

sources.SECONDS_TO_SETTLE = -60  # the files are new
root, cache = sys.argv[1:]
opened = []
sys.addaudithook(lambda event, facts: opened.append(str(facts[0])) if event == "open" else None)
print(ImageFolder(root=root).read(Path(cache)).train.sum().item(), sum(name.startswith(root) for name in opened))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", some_slow(["folder", "archive"], "folder"))
def test_a_second_job_opens_none_of_the_files(form, folder, tmp_path):
    root, pixels = folder
    place = root if form == "folder" else pack(root, tmp_path / "images.tar.xz")
    command = [sys.executable, "-c", SECOND_JOB, str(place), str(tmp_path / "cache")]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert [int(total) for total, _ in said] == [int(pixels[:5].sum())] * 2
    assert int(said[0][1]) >= (8 if form == "folder" else 2) and said[1][1] == "0"
