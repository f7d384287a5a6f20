"""Reports over many runs: verdicts on the claims, tables, charts, an HTML page and a LaTeX paper.

`python -m rebuttal.report` reads runs and trains nothing."""
