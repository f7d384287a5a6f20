"""Batches that memory cannot hold. On the CPU the allocator is made to fail by a limit on the address space."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.data import UniformNoise
from rebuttal.errors import ConfigError, TrainingError, as_one_line, out_of_memory
from rebuttal.models import MLP
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.stages.networks import new_network
from rebuttal.training import SGD
from rebuttal.training.evaluation import predict
from rebuttal.training.loop import Support, train

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Narrow(nn.Module):
    """A network for which more than `most` examples at a time are too many."""

    def __init__(self, most, *layers):
        super().__init__()
        self.most = most
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.body(x)


def layers():
    torch.manual_seed(0)
    return nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)


def fit(network, recipe, in_pieces):
    chance = np.random.default_rng(0)
    history = train(network, X, Y, F.cross_entropy, recipe, chance, None, "fit", Support(in_pieces=in_pieces))
    return [row["loss"] for row in history]


@pytest.mark.parametrize("most", [47, 16, 5])
def test_in_pieces_the_gradients_and_so_the_weights_are_those_of_the_whole_batch(recipe, most):
    settings = recipe(optimizer=SGD(), lr=0.1, epochs=5, batch_size=48)
    whole, pieces = Narrow(96, *layers()).double(), Narrow(most, *layers()).double()
    global X
    before, X = X, X.double()
    try:
        losses, again = fit(whole, settings, False), fit(pieces, settings, True)
    finally:
        X = before
    assert again == pytest.approx(losses, rel=1e-6)  # the losses are kept in single precision
    for ours, theirs in zip(pieces.parameters(), whole.parameters()):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_out_of_memory_names_the_batch_size_and_the_way_out(recipe):
    with pytest.raises(TrainingError) as caught:
        fit(Narrow(10, *layers()), recipe(batch_size=48), in_pieces=False)
    assert str(caught.value) == (
        "fit: out of memory; training.batch_size=48: try a smaller one, or batch_size=auto, which gives the same "
        "results in smaller pieces"
    )
    with pytest.raises(TrainingError, match="batch-norm needs the whole batch at once"):
        fit(Narrow(10, nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), recipe(batch_size=48), in_pieces=True)
    with pytest.raises(TrainingError, match="dropout draws other masks for pieces of a batch"):
        fit(Narrow(10, nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 2)), recipe(batch_size=48), in_pieces=True)
    with pytest.raises(TrainingError, match=r"training\.batch_size=48: try a smaller one$"):
        fit(Narrow(0, *layers()), recipe(batch_size=48), in_pieces=True)


def test_another_error_is_not_taken_for_it(recipe):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        fit(nn.Sequential(nn.Linear(6, 2), Broken()), recipe(), in_pieces=True)


def test_prediction_takes_as_many_at_a_time_as_memory_allows():
    network = Narrow(100, *copy.deepcopy(layers())).eval()
    x = torch.randn(3000, 6)
    assert torch.allclose(predict(network, x), network.body(x))


LIMITED = """
import resource, sys
import numpy, pandas, scipy.stats, torch, matplotlib.pyplot
import rebuttal.functions, rebuttal.runs.execute, rebuttal.figures.training
from rebuttal import train
torch.zeros(8) @ torch.zeros(8)
numpy.ones((64, 64)) @ numpy.ones((64, 64))  # OpenBLAS takes its buffers at first use, and dies without
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(float(sys.argv.pop(1)) * 2**20),) * 2)
train.main()
"""
# A batch of 60,000 by 512 is 123 MB, which the four layers and their ReLUs keep eight times. How much of the address
# space a process has to spare when it begins is not the same each time; the limit is far from both sides.
WIDE = ["experiment=baseline", "dataset=uniform_noise", "dataset.shape=[10]", "dataset.train_size=60000"]
WIDE += ["dataset.test_size=100", "model=mlp", "model.hidden=[512,512,512,512]", "training=adam", "training.epochs=1"]
WIDE += ["training.batch_size=60000", "device=cpu"]


def limited(mebibytes, *overrides, cwd):
    asked = [sys.executable, "-c", LIMITED, str(mebibytes), *overrides]
    own = os.environ | {"MALLOC_ARENA_MAX": "1"}  # a thread's own arena would take of the address space by chance
    return subprocess.run(asked, cwd=cwd, env=own, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_real_run_that_runs_out_of_memory_says_so_and_gets_through_in_pieces(tmp_path):
    done = limited(600, *WIDE, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("rebuttal: fit: out of memory; training.batch_size=60000: try a smaller one, or ")
    assert len(done.stderr.splitlines()) == 1
    through = limited(600, *WIDE, "batch_size=auto", cwd=tmp_path)
    assert through.returncode == 0, through.stderr
    assert "out of memory; batches are processed in" in through.stdout


@pytest.mark.parametrize(
    "said", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
)
def test_cuda_has_several_words_for_it(said):
    assert out_of_memory(RuntimeError(said)) and not out_of_memory(RuntimeError("CUDA error: misaligned address"))


def test_memory_elsewhere_is_told_in_one_line():
    assert as_one_line(MemoryError()).startswith("out of memory: try smaller training.batch_size")
    assert as_one_line(RuntimeError("x")) is None


@pytest.mark.parametrize(
    ("size", "key"),
    [
        ({"train_size": 10**11}, "dataset.train_size=100000000000"),
        ({"shape": (10**6, 10**6)}, "dataset.train_size=10000"),
    ],
)
def test_inputs_that_would_fill_the_machine_are_refused_before_one_is_drawn(size, key):
    with pytest.raises(ConfigError, match=rf"^{key}: the inputs take .* GiB; allowed: at most this machine's "):
        UniformNoise(**size).examples("train", 0)


def test_weights_that_would_fill_the_machine_are_refused_before_one_is_drawn(recipe):
    with pytest.raises(
        ConfigError, match=r"^model: its weights take 3\.7.*e\+09 GiB; allowed: at most this machine's "
    ):
        new_network(MLP(hidden=(10**9, 10**9)), CropAndNormalise(), UniformNoise(shape=(6,)), 0, "fit")
