"""The files of a report: `raw/`, the runs; `processed/`, what was worked out; `tables/` and `figures/` for LaTeX, and
the source of a paper that includes them; `index.html`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rebuttal.analysis.claims import Verdict
from rebuttal.analysis.contents import EXPERIMENTS
from rebuttal.analysis.draw import draw, save
from rebuttal.analysis.latex import escaped
from rebuttal.analysis.page import page
from rebuttal.analysis.results import Results
from rebuttal.analysis.tables import shown

MANIFEST = "files.json"

MAIN = r"""\documentclass{article}
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
% This file is yours: it is written once, and no later report changes it. results.tex is written by each report.
\input{results}
\end{document}
"""


def write(results: Results, out: str | Path) -> Path:
    """Leave all files of a report in `out`. Those of an earlier report that this one does not have are removed;
    `main.tex`, and what no report wrote, is never touched."""
    out = Path(out)
    written = _Files(out)
    runs = results.gathered.table()
    written.csv("raw/runs.csv", runs)
    runs.to_parquet(written.path("raw/runs.parquet"), index=False)
    written.csv("raw/problems.csv", results.problems())
    written.csv("processed/claims.csv", results.claims())
    written.csv("processed/contrasts.csv", results.contrasts)
    written.csv("processed/times_to_fit.csv", results.times)
    written.csv("processed/trends.csv", results.trends)
    for table in results.tables:
        written.csv(f"processed/table_{table.name}.csv", table.numbers())
        written.text(f"tables/{table.name}.tex", table.latex())
    for chart in results.charts:
        figure = draw(chart)
        for ending in ("pdf", "png"):
            save(figure, written.path(f"figures/{chart.name}.{ending}"))
    written.text("tables/verdicts.tex", _verdicts(results.verdicts))
    written.text("results.tex", _body(results))
    written.text("index.html", page(results))
    if not (out / "main.tex").exists():
        (out / "main.tex").write_text(MAIN, encoding="utf-8")
    written.close()
    return out


class _Files:
    """Where the files of a report go, and which there are."""

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

    def close(self) -> None:
        """Remove what only the report before had, and leave the list of files for the next one."""
        manifest = self.out / MANIFEST
        before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else []
        for name in set(before) - set(self.names):
            stale = (self.out / name).resolve()
            if stale.is_relative_to(self.out.resolve()):
                stale.unlink(missing_ok=True)
        manifest.write_text(json.dumps(sorted(self.names), indent=1) + "\n", encoding="utf-8")


def _body(results: Results) -> str:
    """The LaTeX that includes every table and figure, experiment by experiment."""
    lines = ["% Written by rebuttal.report; the next report overwrites it.", r"\section{Verdicts}"]
    lines += [escaped(f"{note}.") for note in results.notes()] + [r"\input{tables/verdicts}"]
    for experiment, heading in EXPERIMENTS.items():
        tables = [table for table in results.tables if table.experiment == experiment]
        charts = [chart for chart in results.charts if chart.experiment == experiment]
        if not tables and not charts:
            continue
        lines.append(rf"\section{{{escaped(heading)}}}")
        lines += [rf"\input{{tables/{table.name}}}" for table in tables]
        for chart in charts:
            lines += [
                r"\begin{figure}[!htbp]\centering",
                rf"\includegraphics{{figures/{chart.name}.pdf}}",
                rf"\caption{{{escaped(f'{chart.title} Mean over seeds and 95 % interval.')}}}",
                rf"\label{{fig:{chart.name}}}\end{{figure}}",
            ]
        lines.append(r"\clearpage")
    return "\n".join(lines) + "\n"


def _verdicts(verdicts: list[Verdict]) -> str:
    """The ledger as a table over pages."""
    rows = [
        {
            "claim": v.claim.statement,
            "on": v.name,
            "verdict": v.verdict,
            "mean": shown(v.estimate),
            "claimed": v.claimed,
            "n": len(v.values),
        }
        for v in verdicts
    ]
    table = escaped(pd.DataFrame(rows)).to_latex(
        index=False,
        longtable=True,
        column_format="p{5.2cm}p{3.6cm}lrlr",
        caption=escaped(
            "The claims on trial. Mean over seeds ± half the 95 % t-interval; supported or refuted where the whole "
            "interval lies on one side of what is claimed, after Holm's correction over the table."
        ),
    )
    return f"{{\\small\n{table}}}\n"
