"""Record the golden trajectories anew: see `tests.golden`."""

import tempfile
from pathlib import Path

from tests.golden import record

with tempfile.TemporaryDirectory() as folder:
    record(Path(folder))
