import logging

import pytest

from rebuttal.progress import console


@pytest.mark.parametrize(("seconds", "told"), [(25, ["fit: 3 of 8", "fit: 6 of 8"]), (1, [])])
def test_off_a_terminal_a_long_loop_logs_once_a_minute(seconds, told, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    seen = []
    for item in console.track(range(8), "fit"):
        seen.append(item)
        clock[0] += seconds
    assert seen == list(range(8))
    assert [record.message for record in caplog.records] == told
