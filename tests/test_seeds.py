import numpy as np
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
