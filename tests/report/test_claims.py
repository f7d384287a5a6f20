import re
from pathlib import Path

import pytest

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.report.claims import Claim, read_claims

ENTRY = {
    "id": "x",
    "statement": "s",
    "source": "t",
    "experiment": "e",
    "value": "v",
    "comparison": "at_least",
    "threshold": "1",
    "command": "c",
}


def entry(**changes: str) -> str:
    return "- {" + ", ".join(f"{key}: {value}" for key, value in (ENTRY | changes).items()) + "}\n"


def ledger(path: Path, text: str) -> Path:
    file = path / "claims.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_ledger_is_valid_and_its_ids_are_unique():
    names = [claim.name for claim in read_claims()]
    assert "smoother_than_hash" in names and len(names) == len(set(names))


def test_the_threshold_is_written_into_the_statement(tmp_path):
    (claim,) = read_claims(ledger(tmp_path, entry(statement='"at least {threshold}, {percent}"', threshold="0.145")))
    assert claim.statement == "at least 0.145, 14.5 %"


@pytest.mark.parametrize("claim", read_claims(), ids=lambda claim: claim.name)
def test_a_statement_says_what_is_tested(claim: Claim):
    """Its numbers are the threshold or parts of metric names, and its conditions on labels and fit are in the scope."""
    known = {f"{claim.threshold:g}", f"{100 * claim.threshold:g}"} | set(re.findall(r"[\d.]+", " ".join(claim.metrics)))
    bare = re.sub(r"2-D|n1", "", claim.statement)
    assert set(re.findall(r"-?\d+(?:\.\d+)?", bare)) <= known
    assert not re.search(r"\b(two|three|five|eight|nine|ten|half|most)\b", claim.statement)  # numbers in digits
    if claim.statement.startswith(("Fitted to", "A network that fits", "A student of a network fitted")):
        assert claim.fitted
    for labels in ("random", "true"):
        if f"Fitted to {labels} labels" in claim.statement or f"of {labels} labels" in claim.statement:
            assert claim.labels == labels or claim.against is not None
    if "convolutional" in claim.statement:
        assert set(claim.models) == {"resnet18", "vgg11", "airbench"}
    assert all((CONFIG_DIR / "model" / f"{name}.yaml").exists() for name in claim.models)
    assert (CONFIG_DIR / "experiment" / f"{claim.experiment}.yaml").exists()


def test_an_entry_with_each_gives_a_claim_per_value(tmp_path):
    text = entry(value='"m/{n}"', id='"c_{n}"', statement='"about {words}"', each="{n: {a: first, b: second}}")
    claims = read_claims(ledger(tmp_path, text))
    assert [(c.id, c.value, c.statement) for c in claims] == [
        ("c_a", "m/a", "about first"),
        ("c_b", "m/b", "about second"),
    ]


def test_an_entry_with_regions_gives_a_claim_per_region_with_keys_of_its_own(tmp_path):
    regions = "{few: {where: {r: [0, 2]}}, many: {where: {r: [5, 9]}, experiment: f, value: w}}"
    added = read_claims(ledger(tmp_path, entry(where="{k: [3, 3], r: [0, 9]}", settings="{a: 1}", regions=regions)))
    assert [one.where for one in added] == [{"k": (3, 3), "r": (0, 2)}, {"k": (3, 3), "r": (5, 9)}]
    assert [one.settings for one in added] == [{"a": 1}, {"a": 1}]
    claims = read_claims(ledger(tmp_path, entry(statement='"{percent}"', threshold="0.5", regions=regions)))
    assert [(c.id, c.name, c.statement, c.experiment, c.value, c.where) for c in claims] == [
        ("x", "x: few", "50 %", "e", "v", {"r": (0.0, 2.0)}),
        ("x", "x: many", "50 %", "f", "w", {"r": (5.0, 9.0)}),
    ]


def test_each_value_is_judged_in_each_region(tmp_path):
    many = {"each": "{n: {p: one, q: two}}", "regions": '{here: {value: "{n}/a"}, there: {value: "{n}/b"}}'}
    claims = read_claims(ledger(tmp_path, entry(id='"{n}"', statement='"{words}"', **many)))
    assert sorted((c.name, c.value, c.statement) for c in claims) == [
        ("p: here", "p/a", "one"),
        ("p: there", "p/b", "one"),
        ("q: here", "q/a", "two"),
        ("q: there", "q/b", "two"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"claims=.*claims\.yaml: empty; allowed: a list of claims"),
        ("# only a comment\n", r"claims=.*: empty; allowed: a list of claims"),
        ("[]", r"claims=.*: empty"),
        ("id: x\n", r"claims=.*: holds a dict; allowed: a list of claims"),
        ("5\n", r"claims=.*: holds a int"),
        ("- {id: x, statement: y\n- z", r"claims=.*: not YAML, line 2, column 4: expected "),
        ("- id: x\n   statement: y", r"claims=.*: not YAML, line 2, column 13: "),
        ("- !!python/object/apply:os.system [true]", r"claims=.*: not YAML, line 1, column 3: "),
        (
            "- id: x\n  value: a\n  id: y\n",
            r"claims=.*claims\.yaml: not YAML, line 3, column 3: the key id is there ",
        ),
        (
            "- {id: x,\n   id: x}\n",
            r"claims=.*: not YAML, line 2, column 4: the key id is there already, in line 1; ",
        ),
        (entry(where="{m: [0, 1], m: [1, 2]}"), r"claims=.*: not YAML, line 1, column \d+: the key m is there already"),
        (entry(each="{n: {a: b, 'a': c}}"), r"claims=.*: not YAML, line 1, column \d+: the key a is there already"),
        ("- {id: 2001-99-99}", r"claims=.*: month must be in 1\.\.12; allowed: a UTF-8 file with a list of claims"),
        ("[" * 2000, r"claims=.*: maximum recursion depth exceeded"),
        (
            entry(where="{m: [5, 1]}"),
            r"claims\[0\]\.where\.m=\[5\.0, 1\.0\]: no number is in it; allowed: the lower one",
        ),
        (entry(statement='"{treshold} %"'), r"claims\[0\]\.statement: \{treshold\} stands for nothing; allowed: \{thr"),
        (entry(source="' '"), r"claims\[0\]\.source: empty; allowed: a text"),
        (entry(fit_target="99"), r"claims\[0\]\.fit_target=99: of an accuracy; allowed: above 0, at most 1"),
        (entry(against="m/p", over="m/q"), r"claims\[0\]\.over=m/q: a rank correlation has none; allowed: null"),
        (entry(against="m/p", threshold="2"), r"claims\[0\]\.threshold=2: a rank correlation; allowed: -1 to 1"),
        (
            entry(over_lower_bound="m/q"),
            r"claims\[0\]\.over_lower_bound=m/q: of nothing; allowed: null, or beside over",
        ),
        (entry(threshold="1" + "0" * 400), r"claims\[0\]\.threshold=inf: input should be a finite number"),
        ("- x\n", r"claims\[0\]='x': allowed: a claim, with the keys"),
        ("- [a]\n", r"claims\[0\]=\['a'\]: allowed: a claim"),
        ("-\n", r"claims\[0\]=None: allowed: a claim"),
        ("- {1: x}\n", r"claims\[0\]\.1: allowed: names of keys"),
        ("- {true: x}\n", r"claims\[0\]\.True: allowed: names of keys"),
        ("- {id: x, statment: y}", r"claims\[0\]\.statement is missing"),
        (entry(minuss="v"), r"claims\[0\]\.minuss=v: unknown key; allowed: id, "),
        (entry(threshold="85 %"), r"claims\[0\]\.threshold=85 %: "),
        (entry(threshold="true"), r"claims\[0\]\.threshold=True: "),
        (entry(threshold=".nan"), r"claims\[0\]\.threshold=nan: "),
        (entry(fitted="v"), r"claims\[0\]\.fitted=v: "),
        (entry(fitted="[1]"), r"claims\[0\]\.fitted\.0=1: "),
        (entry(labels="true"), r"claims\[0\]\.labels=True: "),
        (entry(where="[0, 1]"), r"claims\[0\]\.where="),
        (entry(where="{m: [0]}"), r"claims\[0\]\.where\.m"),
        (entry(where="{m: [low, high]}"), r"claims\[0\]\.where\.m\.0=low: "),
        (entry(comparison="above"), r"claims\[0\]\.comparison=above: "),
        (entry(each="{n: {1: one}}"), r"claims\[0\]\.each\.n: 1: 'one': allowed: text; quote numbers"),
        (entry(each="{n: {on: word}}"), r"claims\[0\]\.each\.n: True: 'word': allowed: text"),
        (entry(each="{null: {a: b}}"), r"claims\[0\]\.each=\{None: .*allowed: one name with its values"),
        (entry(each="{n: {a: 1}}"), r"claims\[0\]\.each\.n: 'a': 1: allowed: text"),
        (entry(each="{n: {}}"), r"claims\[0\]\.each="),
        (entry(each="[a, b]"), r"claims\[0\]\.each=\['a', 'b'\]: allowed: one name"),
        (entry(each="{n: {a: b}, m: {c: d}}"), r"claims\[0\]\.each="),
        (entry() * 2, r"claims: id=x: used twice; allowed: unique ids"),
        (entry(region="a") * 2, r"claims: id=x: a: used twice; allowed: unique ids"),
        (
            entry(region="a") + entry(region="b", statement="t"),
            r"claims: id=x: b: 't'; allowed: the statement of x: a,",
        ),
        (entry(regions="{a: {value: w}}"), r"claims\[0\]\.regions=.*: allowed: two regions or more with their keys"),
        (entry(regions="[a, b]"), r"claims\[0\]\.regions=\['a', 'b'\]: allowed: two regions or more"),
        (entry(regions="{a: w, b: {}}"), r"claims\[0\]\.regions=.*: allowed: two regions or more"),
        (entry(regions="{1: {}, b: {}}"), r"claims\[0\]\.regions=.*: allowed: two regions or more"),
        (entry(regions="{a: {id: y}, b: {}}"), r"claims\[0\]\.regions\.a\.id: allowed: keys other than id, statement"),
        (entry(regions="{a: {1: y}, b: {}}"), r"claims\[0\]\.regions\.a\.1: allowed: keys other than id"),
        (entry(regions="{a: {valu: y}, b: {}}"), r"claims\[0\]\.valu=y: unknown key; allowed: id, "),
    ],
)
def test_a_file_that_is_no_ledger_is_one_line(text, message, tmp_path):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        read_claims(ledger(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_what_is_merged_is_no_key_that_is_there_twice(tmp_path):
    claim = entry().strip().removeprefix("- ")
    text = f"- &a {claim}\n- {{<<: *a, id: y, value: other}}\n"
    assert [(one.id, one.value) for one in read_claims(ledger(tmp_path, text))][1] == ("y", "other")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"- {id: \xe9}")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError, match=r"^claims=.*; allowed: a UTF-8 file with a list of claims$"):
            read_claims(path)


def test_a_region_that_names_a_number_of_classes_is_of_that_many():
    of_classes = [(claim, named) for claim in read_claims() if (named := re.match(r"K = ([\d,]+)", claim.region))]
    assert len(of_classes) >= 20
    for claim, named in of_classes:
        classes = int(named[1].replace(",", ""))
        assert claim.where["teacher/classes"] == (classes, classes), claim.name


def test_a_claim_about_a_tenth_of_the_inputs_is_of_sizes_whose_ratio_is_ten():
    for claim in (claim for claim in read_claims() if claim.id == "ten_times_fewer_inputs"):
        sizes = [int(part) for part in claim.value.split("_") if part.isdigit()]  # of the teacher's, and the student's
        where = claim.where
        teacher = sizes[0] if len(sizes) == 2 else where["teacher/train_size"][0]
        student = sizes[-1] if sizes else where["student_fresh/student_size"][0]
        assert round(teacher / student) == 10, claim.name
