"""What README.md and docs/verdicts.md report is what results/ holds, and what the ledger asks."""

from pathlib import Path

import pandas as pd

from rebuttal.report.claims import read_claims

ROOT = Path(__file__).parent.parent
CLAIMS = pd.read_csv(ROOT / "results/processed/claims.csv", keep_default_na=False, na_values=[""])


def rows(page: str) -> list[str]:
    return [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]


def test_the_verdicts_of_the_documentation_are_those_of_the_study():
    expected = []
    for row in CLAIMS.to_dict("records"):
        sign = {"at_least": "≥", "at_most": "≤"}[row["comparison"]]
        scope = "; ".join(row[name] for name in ("region", "configuration", "remarks") if isinstance(row[name], str))
        claimed = f"{sign} {row['threshold']:g}"
        cells = (row["statement"], row["verdict"], row["measured"], claimed, row["n"], scope or "–")
        expected.append(f"| {' | '.join(map(str, cells))} |")
    table = rows("docs/verdicts.md")
    begin = table.index("| claim | verdict | measured | claimed | seeds | model, data, n, K |") + 1
    assert table[begin : begin + len(expected)] == expected


def test_the_verdicts_by_region_of_the_documentation_are_those_of_the_study():
    regions = pd.read_csv(ROOT / "results/processed/regions.csv", keep_default_na=False)
    decisions = ("supported", "refuted", "inconclusive", "not run")
    expected = [
        f"| {' | '.join([row['statement'], *(row[d] or '–' for d in decisions)])} |"
        for row in regions.to_dict("records")
    ]
    table = rows("docs/verdicts.md")
    begin = table.index(f"| claim | {' | '.join(f'{d} where' for d in decisions)} |") + 1
    assert expected and table[begin : begin + len(expected)] == expected


def test_the_short_verdicts_of_the_readme_are_among_them():
    places = CLAIMS["configuration"].fillna("–")
    known = set(zip(places, CLAIMS["verdict"], CLAIMS["measured"]))
    table = rows("README.md")
    shown = [
        row.strip("| ").split(" | ")
        for row in table[table.index("| claim | model, data, n, K | verdict | measured |") + 1 :]
    ]
    assert shown
    for _, scope, verdict, values in shown:
        assert all((scope, verdict, value) in known for value in values.split("; "))


def test_the_verdicts_are_counted_right():
    count = CLAIMS["verdict"].value_counts()
    said = f"{count['supported']} claims supported, {count['refuted']} refuted, {count['inconclusive']} inconclusive"
    said += f", {count['not run']} not run"
    for page in ("README.md", "docs/verdicts.md"):
        assert said in " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert f"All {len(CLAIMS)} claims" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_study_judged_the_claims_of_the_ledger():
    judged = {
        (row["claim"], row["region"] if isinstance(row["region"], str) else "", row["statement"], row["threshold"])
        for row in CLAIMS.to_dict("records")
    }
    assert judged == {(claim.id, claim.region, claim.statement, claim.threshold) for claim in read_claims()}


def test_every_file_that_the_readme_shows_or_links_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = {part.split(")")[0] for part in text.split("](")[1:]}
    local = {link for link in links if not link.startswith(("http", "#"))}
    assert local and all((ROOT / link.split("<")[0]).exists() for link in local)
