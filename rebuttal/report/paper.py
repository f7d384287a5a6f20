"""Writes the files of a report: `raw/`, the runs; `processed/`, the results; `tables/` and `figures/` for LaTeX, and
the source of a paper that includes them; `index.html`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from rebuttal.report.charts import Chart
from rebuttal.report.draw import draw, rendered
from rebuttal.report.gather import RECORDS
from rebuttal.report.latex import escaped
from rebuttal.report.page import page
from rebuttal.report.results import Results
from rebuttal.report.tables import format_verdict
from rebuttal.report.verdicts import DECISIONS, Verdict
from rebuttal.store.files import write_text
from rebuttal.store.written import Written

MANIFEST = "files.json"
KINDS = ("pdf", "png")
OF_LISTS_OF_NAMES = {  # what every report wrote when its list was of names alone
    "index.html",
    "results.tex",
    "tables/verdicts.tex",
    *(f"raw/{name}" for name in ("runs.csv", "runs.parquet", "problems.csv")),
    *(f"processed/{name}.csv" for name in ("claims", "contrasts", "times_to_fit", "trends")),
}
ALWAYS = OF_LISTS_OF_NAMES | {"tables/regions.tex", "processed/regions.csv", RECORDS}

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
    Raises `ConfigError`, before anything is written, if a file from elsewhere is where one of the report's would be.
    """
    out = Path(out)
    files = Written(out, MANIFEST, f"--out={out}", _of_earlier_version)
    files.check(_names(results))
    contents = _data(results)
    for chart in results.all_charts:
        figure = draw(chart)
        contents |= {f"figures/{chart.name}.{kind}": rendered(figure, kind) for kind in KINDS}
    contents |= {f"tables/{table.name}.tex": table.latex().encode() for table in results.tables}
    contents["tables/verdicts.tex"] = _verdict_table(results.verdicts).encode()
    contents["tables/regions.tex"] = _region_table(results.by_region()).encode()
    contents["results.tex"] = _results_tex(results).encode()
    contents["index.html"] = page(results).encode()
    files.write(contents)
    files.remove(kept=contents)
    if not os.path.lexists(out / "main.tex"):
        write_text(out / "main.tex", MAIN_TEX)
    return out


def _data(results: Results) -> dict[str, bytes]:
    runs = results.gathered.table()
    frames = {
        "raw/runs": runs,
        "raw/problems": results.problems(),
        "processed/claims": results.claims(),
        "processed/regions": results.by_region(),
        "processed/contrasts": results.contrasts,
        "processed/times_to_fit": results.times,
        "processed/trends": results.trends,
        **{f"processed/table_{table.name}": table.numbers() for table in results.tables},
    }
    found = {f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in frames.items()}
    records = json.dumps(results.gathered.records(), separators=(",", ":"), ensure_ascii=False).encode()
    return found | {"raw/runs.parquet": runs.to_parquet(index=False), RECORDS: records}


def _names(results: Results) -> list[str]:
    """The files of this report."""
    tables = [name for t in results.tables for name in (f"tables/{t.name}.tex", f"processed/table_{t.name}.csv")]
    return [*ALWAYS, *tables, *(f"figures/{chart.name}.{kind}" for chart in results.all_charts for kind in KINDS)]


def _of_earlier_version(content: Any) -> list[str] | None:
    """The files of a report of a version whose list was of names alone."""
    if content is None:
        return []
    ours = isinstance(content, list) and all(isinstance(name, str) for name in content)
    return content if ours and set(content) >= OF_LISTS_OF_NAMES else None


def _results_tex(results: Results) -> str:
    """Return the LaTeX source that includes every table and figure, by experiment."""
    lines = ["% Written by rebuttal.report; the next report overwrites it.", r"\section{Verdicts}"]
    lines += [escaped(f"{note}.") for note in results.notes()]
    lines += _figure(results.overview) if results.overview else []
    lines += [r"\input{tables/regions}", r"\input{tables/verdicts}"]
    for experiment, heading in results.headings.items():
        tables = [table for table in results.tables if table.experiment == experiment]
        charts = [chart for chart in results.charts if chart.experiment == experiment]
        if not tables and not charts:
            continue
        lines.append(rf"\section{{{escaped(heading)}}}")
        lines += [rf"\input{{tables/{table.name}}}" for table in tables]
        for chart in charts:
            lines += _figure(chart)
        lines.append(r"\clearpage")
    return "\n".join(lines) + "\n"


def _figure(chart: Chart) -> list[str]:
    return [
        r"\begin{figure}[!htbp]\centering",
        rf"\includegraphics{{figures/{chart.name}.pdf}}",
        rf"\caption{{{escaped(chart.caption)}}}",
        rf"\label{{fig:{chart.name}}}\end{{figure}}",
    ]


def _region_table(by_region: pd.DataFrame) -> str:
    """Return the claims that are judged by region as a LaTeX table; nothing if there are none."""
    if by_region.empty:
        return ""
    found = [decision for decision in DECISIONS if by_region[decision].any()]
    table = escaped(by_region[["statement", *found]]).to_latex(
        index=False,
        longtable=True,
        column_format="p{5cm}" + f"p{{{11 / len(found):.1f}cm}}" * len(found),
        caption="Where claims hold and where not.",
    )
    return f"{{\\small\n{table}}}\n"


def _verdict_table(verdicts: list[Verdict]) -> str:
    """Return the verdicts as a LaTeX table that may span pages."""
    rows = [
        {
            "claim": v.claim.statement,
            "configuration": "; ".join(filter(None, (v.claim.region, v.name))),
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
            "supported or refuted by a test of the median, after Holm's correction over all "
            "verdicts with enough seeds for one."
        ),
    )
    return f"{{\\small\n{table}}}\n"
