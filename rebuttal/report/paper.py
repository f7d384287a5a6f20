"""Writes the files of a report: `raw/`, the runs; `processed/`, the results; `tables/` and `figures/` for LaTeX, and
the source of a paper that includes them; `index.html`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rebuttal.report.charts import Chart
from rebuttal.report.contents import EXPERIMENTS
from rebuttal.report.draw import draw, save
from rebuttal.report.latex import escaped
from rebuttal.report.page import page
from rebuttal.report.results import Results
from rebuttal.report.tables import format_verdict
from rebuttal.report.verdicts import Verdict

MANIFEST = "files.json"

MAIN_TEX = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx,longtable,url}
\usepackage[a4paper,margin=1.8cm]{geometry}
\title{Do networks that fit random labels learn smooth, learnable functions?}
\author{}
\AtBeginDocument{\setlength{\LTcapwidth}{\textwidth}}
\date{\today}
\begin{document}
\maketitle
% Edit this file freely: reports never overwrite it. Every report overwrites results.tex.
\input{results}
\end{document}
"""


def write_report(results: Results, out: str | Path) -> Path:
    """Write all files of a report to `out`, and return `out` as a path.

    Files that only an earlier report wrote are removed. An existing `main.tex` and files from elsewhere are kept.
    """
    out = Path(out)
    files = _Files(out)
    _write_data(results, files)
    for chart in [*([results.overview] if results.overview else []), *results.charts]:
        figure = draw(chart)
        for suffix in ("pdf", "png"):
            save(figure, files.path(f"figures/{chart.name}.{suffix}"))
    for table in results.tables:
        files.text(f"tables/{table.name}.tex", table.latex())
    files.text("tables/verdicts.tex", _verdict_table(results.verdicts))
    files.text("results.tex", _results_tex(results))
    files.text("index.html", page(results))
    if not (out / "main.tex").exists():
        (out / "main.tex").write_text(MAIN_TEX, encoding="utf-8")
    files.finish()
    return out


def _write_data(results: Results, files: _Files) -> None:
    runs = results.gathered.table()
    files.csv("raw/runs.csv", runs)
    runs.to_parquet(files.path("raw/runs.parquet"), index=False)
    files.csv("raw/problems.csv", results.problems())
    files.csv("processed/claims.csv", results.claims())
    files.csv("processed/contrasts.csv", results.contrasts)
    files.csv("processed/times_to_fit.csv", results.times)
    files.csv("processed/trends.csv", results.trends)
    for table in results.tables:
        files.csv(f"processed/table_{table.name}.csv", table.numbers())


class _Files:
    """Writes files below the report's folder and keeps a list of them, which `finish` saves."""

    def __init__(self, out: Path):
        self.out = out
        self.names: list[str] = []

    def path(self, name: str) -> Path:
        self.names.append(name)
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def text(self, name: str, content: str) -> None:
        self.path(name).write_text(content, encoding="utf-8")

    def csv(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_csv(self.path(name), index=False)

    def finish(self) -> None:
        """Remove the files that only the previous report wrote, and save the list of files for the next one."""
        manifest = self.out / MANIFEST
        previous = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else []
        for name in set(previous) - set(self.names):
            stale = (self.out / name).resolve()
            if stale.is_relative_to(self.out.resolve()):
                stale.unlink(missing_ok=True)
        manifest.write_text(json.dumps(sorted(self.names), indent=1) + "\n", encoding="utf-8")


def _results_tex(results: Results) -> str:
    """Return the LaTeX source that includes every table and figure, by experiment."""
    lines = ["% Written by rebuttal.report; the next report overwrites it.", r"\section{Verdicts}"]
    lines += [escaped(f"{note}.") for note in results.notes()]
    lines += _figure(results.overview, "") if results.overview else []
    lines += [r"\input{tables/verdicts}"]
    others = dict.fromkeys(table.experiment for table in results.tables if table.experiment not in EXPERIMENTS)
    for experiment, heading in (EXPERIMENTS | {name: name for name in others}).items():
        tables = [table for table in results.tables if table.experiment == experiment]
        charts = [chart for chart in results.charts if chart.experiment == experiment]
        if not tables and not charts:
            continue
        lines.append(rf"\section{{{escaped(heading)}}}")
        lines += [rf"\input{{tables/{table.name}}}" for table in tables]
        for chart in charts:
            lines += _figure(chart, " Mean over seeds and 95 % interval, where there are two seeds or more.")
        lines.append(r"\clearpage")
    return "\n".join(lines) + "\n"


def _figure(chart: Chart, note: str) -> list[str]:
    return [
        r"\begin{figure}[!htbp]\centering",
        rf"\includegraphics{{figures/{chart.name}.pdf}}",
        rf"\caption{{{escaped(f'{chart.title}{note}')}}}",
        rf"\label{{fig:{chart.name}}}\end{{figure}}",
    ]


def _verdict_table(verdicts: list[Verdict]) -> str:
    """Return the verdicts as a LaTeX table that may span pages."""
    rows = [
        {
            "claim": v.claim.statement,
            "configuration": v.name,
            "verdict": v.verdict,
            "median": format_verdict(v),
            "claimed": v.claimed,
            "n": v.n,
        }
        for v in verdicts
    ]
    table = escaped(pd.DataFrame(rows)).to_latex(
        index=False,
        longtable=True,
        column_format="p{5.2cm}p{3.6cm}lrlr",
        caption=escaped(
            "The claims on trial. Median over seeds with its 95 % interval (94 % for five seeds; fewer are listed); "
            "supported or refuted by a test of the median, after Holm's correction over the table."
        ),
    )
    return f"{{\\small\n{table}}}\n"
