import pytest
import torch

from rebuttal.device import _operations, configured, float32_arithmetic, machine

BACKENDS = torch.backends


@pytest.fixture(autouse=True)
def _flags():
    """Leave torch's flags as they were."""
    before = [operation.fp32_precision for operation in _operations()]
    yield
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    for operation, precision in zip(_operations(), before):
        operation.fp32_precision = precision


def flags():
    single = [operation.fp32_precision for operation in _operations()]
    return torch.get_float32_matmul_precision(), BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cudnn.allow_tf32, single


def by_legacy_flags():
    BACKENDS.cuda.matmul.allow_tf32 = BACKENDS.cudnn.allow_tf32 = True


def by_bfloat16():
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize("choose", [lambda: None, by_legacy_flags, by_bfloat16])
def test_a_run_computes_in_float32_and_leaves_the_flags_as_they_were(choose):
    choose()
    before, threads = flags(), torch.get_num_threads()
    with configured("cpu", 1):
        assert flags()[:3] == ("highest", False, False)
        assert set(flags()[3]) <= {"ieee"}
    assert flags() == before and torch.get_num_threads() == threads


@pytest.mark.parametrize("choose", [lambda: None, by_legacy_flags, by_bfloat16])
def test_tf32_is_for_gpus_only_and_for_the_block_only(choose):
    choose()
    before = flags()
    with configured("cpu", None):
        outside = flags()
        with pytest.raises(ZeroDivisionError), float32_arithmetic(tf32=True):
            assert flags()[1:3] == (True, True)
            assert flags()[3] in ([], ["tf32"] * 3 + ["ieee"] * 3)
            raise ZeroDivisionError
        assert flags() == outside
    assert flags() == before


@pytest.mark.skipif(not _operations(), reason="this torch has no flags of single operations")
@pytest.mark.parametrize("operation", range(3))
def test_flags_of_single_operations_are_overruled_and_restored_too(operation):
    """After which torch refuses to read the others."""
    _operations()[operation].fp32_precision = "ieee" if operation else "tf32"
    before = [operation.fp32_precision for operation in _operations()]
    with configured("cpu", None):
        assert flags()[:3] == ("highest", False, False)
        assert set(flags()[3]) == {"ieee"}
    assert [operation.fp32_precision for operation in _operations()] == before


@pytest.mark.skipif(not _operations(), reason="this torch has no flags of single operations")
def test_the_flag_of_all_operations_is_overruled_too():
    before = BACKENDS.fp32_precision
    BACKENDS.fp32_precision = "tf32"
    try:
        with float32_arithmetic():
            assert set(flags()[3]) == {"ieee"}
    finally:
        BACKENDS.fp32_precision = before


def test_float32_is_bit_for_bit_what_torch_computes_by_default_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    images, kernels = torch.randn(8, 3, 16, 16, generator=generator), torch.randn(5, 3, 3, 3, generator=generator)
    x, w = torch.randn(300, 200, generator=generator), torch.randn(200, 100, generator=generator)
    expected = x @ w, torch.conv2d(images, kernels)
    with configured("cpu", None):
        plain = x @ w, torch.conv2d(images, kernels)
        with float32_arithmetic(tf32=True):
            tf32 = x @ w, torch.conv2d(images, kernels)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(expected, plain, tf32))


def test_to_describe_the_machine_does_not_start_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: pytest.fail("CUDA was started"))
    assert machine()["gpu"] is None
