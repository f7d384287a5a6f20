import torch

from rebuttal.data.examples import Examples, _quotients, in_unit_range, look_up

EVERY = torch.arange(256, dtype=torch.uint8)


def test_the_table_of_quotients_is_the_division_on_the_cpu_bit_for_bit():
    table = _quotients(torch.device("cpu"))
    assert torch.equal(look_up(table, EVERY).view(torch.int32), in_unit_range(EVERY).view(torch.int32))
    assert torch.equal(in_unit_range(EVERY), EVERY.float().div_(255))
    assert table[0] == 0 and table[255] == 1 and (table.diff() > 0).all()


def test_a_look_up_keeps_the_shape_of_any_view():
    pixels = torch.randint(0, 256, (7, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = _quotients(torch.device("cpu"))
    for view in (pixels, pixels[:, 1:, 2:4], pixels.transpose(0, 1), pixels[0, 0, 0, 0], pixels[:0]):
        assert torch.equal(look_up(table, view), in_unit_range(view))


def test_a_table_that_evaluation_has_made_serves_training():
    _quotients.cache_clear()
    with torch.inference_mode():
        table = _quotients(torch.device("cpu"))
    weight = torch.ones(256, requires_grad=True)
    (look_up(table, EVERY) * weight).sum().backward()
    assert torch.equal(weight.grad, table)


def test_floats_are_inputs_as_they_are():
    inputs = torch.rand(5, 4)
    assert in_unit_range(inputs) is inputs


def test_their_size_counts_inputs_and_labels():
    assert Examples(torch.zeros(10, 3), torch.zeros(10, dtype=torch.long)).nbytes == 10 * 3 * 4 + 10 * 8
