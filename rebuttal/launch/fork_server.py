"""What the server of `processes` imports first, in itself only: a signal that is sent to all processes of a command or
a task is for its jobs. Without the server they would be killed before they have saved anything."""

from __future__ import annotations

import signal

from rebuttal.launch.processes import IGNORED

for number in IGNORED:
    signal.signal(number, signal.SIG_IGN)
