"""The `map` stage: where a student learns its teacher's function, and where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from rebuttal.config import checked
from rebuttal.rounding import percent
from rebuttal.stages.factors import with_factor
from rebuttal.stages.regions import REGIONS, border, holds, logistic, region
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome
from rebuttal.stages.variants import Learner, check_increasing, repeated, with_ends, with_sizes
from rebuttal.statistics import interval_metrics, interval_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Value = int | float | str

MEANS = ("agreement", "kappa")  # metrics of a cell, with intervals
CELLS = {name: f"cells_{name.replace(' ', '_')}" for name in REGIONS}  # metrics that count cells, by region
BORDER = tuple(f"border_{name}" for name in ("constant", "r", "r_n1", "all", "at_r"))
SHOWN = ("r", "train_agreement", "unseen_memorised_agreement", "majority_agreement")  # further columns of the table


@dataclass(frozen=True)
class Cell:
    """A point of the map. `line`: the factor and its value; none in the plane. `other`: which of the other students it
    is, if it is not the map's own."""

    n1: int
    n2: int
    line: tuple[str, Value] | None = None
    other: str | None = None

    @property
    def prefix(self) -> str:
        line = "" if self.line is None else f"{self.line[0]}_{self.line[1]}_"
        return line if self.other is None else f"{self.other}_{line}"

    def metric(self, what: str) -> str:
        return f"{self.prefix}{what}_{self.n1}_{self.n2}"


@dataclass(frozen=True)
class Observation:
    """One student of a cell: its `metrics`, how many of its labels its teacher fitted, and the `features` of the border
    model: the logarithms of r, n1, K, d and width, and the depth."""

    metrics: Metrics
    teacher_accuracy: float
    features: tuple[float, ...]

    @property
    def holds(self) -> bool:
        return holds(self.metrics)


@checked
class Map:
    """Repeat `student` and its teacher in the cells of a map, with `repeats` seeds: the student's own, and seeds
    derived from it.

    The plane: every n1 in `train_sizes` with every n2 in `student_sizes`. The lines: for every factor in `factors` and
    each of its values (see `rebuttal.stages.factors`) other than that of the plane, every n2 at every n1 in
    `line_train_sizes`. A cell where kappa is not above that of each of the `controls` with the same n2 and factor, at
    the first of these n1, counts as not learnt. Students in `beside` are there to look at, with every n2 at these n1.

    Metrics, for each cell: `agreement_<n1>_<n2>` and `kappa_<n1>_<n2>`, means over seeds with 95 % t-intervals, and
    `region_<n1>_<n2>`, the number of its region in `rebuttal.stages.regions.REGIONS`, from 0; in a line these names
    begin with `<factor>_<value>_`, before which stands the name of another student. `cells_<region>`: how many cells
    there are, without those of other students. `border_<features>`: of how many held-out cells, whose teacher fits,
    a model of these features says rightly whether the thesis holds: `constant`, `r`, `r_n1`, and `all` (r, n1, K, d,
    width, depth); `border_at_r`, the r from which it holds by the model of r alone. The stage's table has a row for
    each cell.
    """

    student: Learner
    train_sizes: Sizes
    student_sizes: Sizes
    line_train_sizes: Sizes
    factors: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]]
    controls: dict[str, Learner]
    beside: dict[str, Learner]
    repeats: PositiveInt
    fit_target: Annotated[float, Field(gt=0, le=1)]

    def check(self, session: Session) -> None:
        sizes = {name: getattr(self, name) for name in ("train_sizes", "student_sizes", "line_train_sizes")}
        check_increasing(**sizes)
        for cell in self._cells():
            self._student(cell, 0).check(session)

    def identity(self, session: Session) -> list[Any]:
        return [student.identity(session) for student in self.needs(session)]

    def needs(self, session: Session) -> list[Learner]:
        return [self._student(cell, repeat) for cell in self._cells() for repeat in range(self.repeats)]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        cells = self._cells()
        return [
            *with_ends(cell.metric(what) for cell in cells for what in MEANS),
            *(cell.metric("region") for cell in cells),
            *CELLS.values(),
            *BORDER,
        ]

    def run(self, session: Session) -> Outcome:
        seen = self._observed(session)
        rows = {cell: self._row(cell, seen) for cell in seen}
        metrics: Metrics = {}
        for cell, row in rows.items():
            for what in MEANS:
                values = [one.metrics[what] for one in seen[cell]]
                metrics |= interval_metrics(cell.metric(what), interval_of(values))
            metrics[cell.metric("region")] = row["region"]
        own = [row for cell, row in rows.items() if cell.other is None]
        metrics |= {name: sum(row["region"] == number for row in own) for number, name in enumerate(CELLS.values())}
        metrics |= _border(seen, self.fit_target)
        table = {f"{cell.prefix}{cell.n1}_{cell.n2}": row for cell, row in rows.items()}
        return Outcome(metrics, words=_words(metrics), table=table)

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import maps

        seen = self._observed(session)
        return {"map": maps.plane_and_lines({cell: self._row(cell, seen) for cell in seen}, REGIONS)}

    def _cells(self) -> list[Cell]:
        cells = [Cell(n1, n2) for n1 in self.train_sizes for n2 in self.student_sizes]
        every = [(name, value) for name, values in self.factors.items() for value in dict.fromkeys(values)]
        lines = [line for line in every if with_factor(self.student, *line) != self.student]
        cells += [Cell(n1, n2, line) for line in lines for n1 in self.line_train_sizes for n2 in self.student_sizes]
        for name in self.controls:
            at = [(self.line_train_sizes[0], n2) for n2 in self.student_sizes]
            cells += [Cell(n1, n2, line, name) for line in (None, *lines) for n1, n2 in at]
        for name in self.beside:
            cells += [Cell(n1, n2, None, name) for n1 in self.line_train_sizes for n2 in self.student_sizes]
        return cells

    def _student(self, cell: Cell, repeat: int) -> Learner:
        student = self.student if cell.other is None else (self.controls | self.beside)[cell.other]
        if cell.line is not None:
            student = with_factor(student, *cell.line)
        return with_sizes(repeated(student, repeat), cell.n1, cell.n2)

    def _observed(self, session: Session) -> dict[Cell, list[Observation]]:
        """Return what was seen in each cell, one a seed."""
        return {
            cell: [_observe(self._student(cell, repeat), cell, session) for repeat in range(self.repeats)]
            for cell in self._cells()
        }

    def _row(self, cell: Cell, seen: dict[Cell, list[Observation]]) -> dict[str, float | None]:
        """Return the cell's row of the table: means over seeds, None where one is undefined."""
        found = [one.metrics for one in seen[cell]]
        row = {what: interval_of([m.get(what) for m in found])[0] for what in (*MEANS, *SHOWN, "converged")}
        fitted = [one.teacher_accuracy for one in seen[cell]]
        controls = [one.metrics["kappa"] or 0.0 for control in self._controls(cell) for one in seen[control]]
        number = REGIONS.index(region(found, [f >= self.fit_target for f in fitted], controls))
        return row | {"teacher_train_accuracy": float(np.mean(fitted)), "region": number}

    def _controls(self, cell: Cell) -> list[Cell]:
        """The cells of the controls that a cell is to be above."""
        if cell.other is not None:
            return []
        return [Cell(self.line_train_sizes[0], cell.n2, cell.line, name) for name in self.controls]


def _observe(student: Learner, cell: Cell, session: Session) -> Observation:
    metrics, teacher = student.run(session).metrics, student.teacher
    fit, source = teacher.fit, session.open(teacher.fit.dataset)
    # A control's teacher has nothing to fit.
    accuracy = fit.run(session).metrics["train_accuracy"] if teacher.fitted else 1.0
    hidden = getattr(fit.model, "hidden", ()) or (1,)
    sizes = (metrics["r"] or 1.0, cell.n1, source.classes, float(np.prod(source.shape)), hidden[0])
    return Observation(metrics, accuracy, (*np.log(sizes).tolist(), float(len(hidden))))


def _border(seen: dict[Cell, list[Observation]], fit_target: float) -> Metrics:
    """How well models of several features say where the thesis holds, on cells that they have not seen."""
    of_cells = [found for cell, found in seen.items() if cell.other is None]
    rows = [(i, one) for i, found in enumerate(of_cells) for one in found if one.teacher_accuracy >= fit_target]
    if not rows:
        return dict.fromkeys(BORDER)
    groups = np.array([i for i, _ in rows])
    features = np.array([one.features for _, one in rows])
    held = np.array([one.holds for _, one in rows])
    used: dict[str, list[int]] = {"constant": [], "r": [0], "r_n1": [0, 1], "all": list(range(features.shape[1]))}
    metrics: Metrics = {f"border_{name}": border(features[:, of], held, groups) for name, of in used.items()}
    constant, slope = logistic(features[:, :1], held)
    metrics["border_at_r"] = float(np.exp(-constant / slope)) if 0 < held.mean() < 1 and slope > 0 else None
    return metrics


def _words(m: Metrics) -> str:
    counts = ", ".join(f"{name} in {m[metric]}" for name, metric in CELLS.items())
    words = f"cells of the map: {counts}"
    if m["border_at_r"] is not None:
        words += (
            f"; r alone says of {percent(m['border_r'])} of held-out cells rightly whether the thesis holds (the more "
            f"frequent answer: {percent(m['border_constant'])}), from r = {m['border_at_r']:.2g}; with n1 "
            f"{percent(m['border_r_n1'])}, with K, d, width and depth {percent(m['border_all'])}"
        )
    return words
