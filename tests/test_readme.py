"""What the README reports is what results/ holds, and what the ledger asks."""

from pathlib import Path

import pandas as pd

from rebuttal.analysis.claims import read_claims
from rebuttal.analysis.statistics import Estimate
from rebuttal.analysis.tables import shown

ROOT = Path(__file__).parent.parent
CLAIMS = pd.read_csv(ROOT / "results/processed/claims.csv", keep_default_na=False, na_values=[""])


def test_the_verdicts_of_the_readme_are_those_of_the_study():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for row in CLAIMS.to_dict("records"):
        sign = {"at_least": "≥", "at_most": "≤"}[row["comparison"]]
        measured = shown(Estimate(row["mean"], row["low"], row["high"], row["n"]))
        cells = (row["statement"], row["verdict"], measured, f"{sign} {row['threshold']:g}", row["n"])
        assert f"| {' | '.join(map(str, cells))} |" in readme


def test_the_study_judged_the_claims_of_the_ledger():
    judged = {(row["claim"], row["statement"], row["threshold"]) for row in CLAIMS.to_dict("records")}
    assert judged == {(claim.id, claim.statement, claim.threshold) for claim in read_claims()}


def test_every_file_that_the_readme_shows_or_links_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = {part.split(")")[0] for part in text.split("](")[1:]}
    local = {link for link in links if not link.startswith(("http", "#"))}
    assert local and all((ROOT / link.split("<")[0]).exists() for link in local)
