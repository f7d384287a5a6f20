import random

import numpy as np
import pytest
import torch

from rebuttal.seeds import derive, generator, torch_stream


def test_streams_differ_by_seed_and_by_every_name():
    streams = [derive(0), derive(1), derive(0, "a"), derive(0, "a", "b"), derive(0, "b", "a"), derive(10, "a")]
    assert len(set(streams)) == len(streams)


def test_streams_are_the_same_on_every_machine():
    # printf 0/student/order | sha256sum: the first 8 bytes, less the last bit
    assert derive(0, "student", "order") == 3386437426448845237


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    for draw in (
        lambda rng, n: rng.random((n, 7), dtype=np.float32),
        lambda rng, n: rng.standard_normal((n, 7), dtype=np.float32),
        lambda rng, n: rng.integers(10, size=n),
    ):
        longer, shorter = draw(generator(3, "x"), 101), draw(generator(3, "x"), 33)
        assert np.array_equal(longer[:33], shorter)


def test_a_torch_stream_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch_stream(0, "init"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with torch_stream(0, "init"):
        assert torch.equal(torch.rand(3), inside)


def test_a_torch_stream_also_seeds_numpy_and_python_and_puts_them_back():
    def drawn():
        return torch.rand(1).item(), np.random.rand(), random.random()

    np.random.seed(1)
    random.seed(1)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    found = []
    for name in ("init", "init", "order"):
        with torch_stream(0, name):
            found.append(drawn())
    assert found[0] == found[1] and all(a != b for a, b in zip(found[0], found[2]))
    assert (np.random.rand(), random.random()) == expected


@pytest.fixture
def calls(monkeypatch):
    """What is asked of CUDA, which these tests only pretend to have: (what, value)."""
    found = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: found.append(("seed", seed)))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: found.append(("get", device)))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: found.append(("set", device)))
    return found


def test_a_torch_stream_does_not_start_cuda_and_gives_it_its_seed_if_it_starts_later(calls):
    torch.manual_seed(5)
    calls.clear()
    with torch_stream(0, "init"):
        assert calls == [("seed", derive(0, "init"))]
    assert calls[1:] == [("seed", 5)]
    assert not torch.cuda.is_initialized()


def test_a_torch_stream_keeps_the_state_of_the_current_gpu_and_of_no_other(calls, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with torch_stream(0, "init"):
        pass
    assert calls == [("get", 1), ("seed", derive(0, "init")), ("set", 1)]


def test_a_torch_stream_draws_on_the_cpu_what_torch_draws_from_its_seed():
    with torch_stream(3, "fit", "dropout"):
        inside = torch.rand(100), torch.randn(100), torch.randperm(100)
    torch.manual_seed(derive(3, "fit", "dropout"))
    assert all(torch.equal(a, b) for a, b in zip(inside, (torch.rand(100), torch.randn(100), torch.randperm(100))))
