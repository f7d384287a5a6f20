import signal

import pytest

from rebuttal import signals
from rebuttal.signals import signals_deferred


def test_of_two_warnings_both_arrive_the_one_that_requeues_first():
    heard = []
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.signal(number, lambda number, frame: heard.append(number)) for number in numbers]
    try:
        with signals_deferred() as deferred:
            for number in numbers:
                signal.raise_signal(number)
            assert deferred and not heard
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    assert heard == [signal.SIGUSR2, signal.SIGTERM] and not deferred


def test_of_two_ctrl_c_the_second_is_not_deferred(monkeypatch):
    reached = []
    monkeypatch.setattr(signals, "PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt), signals_deferred() as deferred:
        signal.raise_signal(signal.SIGINT)
        reached.append(bool(deferred))
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_ctrl_c_that_a_wrapper_passes_on_again_at_once_is_one():
    reached = []
    with pytest.raises(KeyboardInterrupt), signals_deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("the end")
    assert reached == ["the end"]


def test_handlers_are_as_they_were():
    before = signal.getsignal(signal.SIGTERM)
    with signals_deferred() as deferred:
        assert not deferred and signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
