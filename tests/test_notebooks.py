"""The notebooks, executed on runs of debug size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rebuttal import api
from tests.golden import EXPERIMENTS, overrides, save_golden_images

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
TINY = ["debug=tiny", "dataset.shape=[20]", "model=mlp_toy"]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    root = tmp_path_factory.mktemp("notebooks")
    store = f"store = {str(root / 'store')!r}"
    for seed in (0, 1):
        settings = [*TINY, f"seed={seed}", f"store={root / 'store'}"]
        api.run("sample_efficiency", settings, folder=str(root / "runs" / str(seed)))
    read = f"folders = [{str(root / 'runs')!r}]"
    run = f"overrides = ['debug=tiny']\nfolder = {str(root / 'run')!r}\n{store}"
    return {
        "toy_two_stage_demo": run,
        "exploratory_analysis": read,
        "random_walk_analysis": run.replace("/run'", "/walk'"),
        "figure_generation": f"{read}\nout = {str(root / 'figures')!r}",
    }


def source(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom_and_shows_something(name, parameters, tmp_path):
    notebook = executed(name, parameters[name], tmp_path)
    kinds = {kind for c in notebook.cells for output in c.get("outputs", []) for kind in output.get("data", {})}
    assert "text/html" in kinds or "image/png" in kinds
    if name != "exploratory_analysis":
        assert "image/png" in kinds


def executed(name, parameters, folder):
    """The notebook with its outputs, run in `folder` with other parameters than its own."""
    notebook = source(name)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert {line.split(" = ")[0] for line in cell.source.splitlines()} == {
        line.split(" = ")[0] for line in parameters.splitlines()
    }
    cell.source = parameters
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(notebook):
    """What the cells show as text, and their tables."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(o.get("text", "") for o in outputs), [
        d["text/html"] for o in outputs if (d := o.get("data", {})).get("text/html")
    ]


def of_folder(name, folder, root):
    """The parameters with which a notebook is about a folder: it reads the runs there, or runs there itself."""
    if name in ("exploratory_analysis", "figure_generation"):
        out = f"\nout = {str(root / 'figures')!r}" if name == "figure_generation" else ""
        return f"folders = [{str(folder)!r}]{out}"
    return f"overrides = ['debug=tiny']\nfolder = {str(folder)!r}\nstore = {str(root / 'store')!r}"


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Folders with tiny runs of every experiment, with a toy run, with nothing, and one that is not there."""
    root = tmp_path_factory.mktemp("mixture")
    images = save_golden_images(root / "images")
    for experiment in EXPERIMENTS:
        asked = [*overrides(experiment, images)[1:], f"store={root / 'store'}"]
        for seed in (0, 1) if experiment in ("toy", "baseline") else (0,):
            api.run(experiment, [*asked, f"seed={seed}"], folder=root / "every" / f"{experiment}_{seed}")
    api.run("toy", ["debug=tiny", f"store={root / 'store'}"], folder=root / "one" / "run")
    (root / "empty").mkdir()
    return root


ON = {  # what each notebook is run on, here
    "toy_two_stage_demo": ["every"],
    "exploratory_analysis": ["every", "one", "empty"],
    "random_walk_analysis": ["one"],
    "figure_generation": ["every", "missing"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [(name, folder) for name in NAMES for folder in ON[name]])
def test_a_notebook_works_on_any_mixture_of_runs(name, folder, mixture):
    text, tables = printed(executed(name, of_folder(name, mixture / folder, mixture), mixture))
    line = f"no finished run below {mixture / folder}; create some first, e.g. by: make toy\n"
    reads = name in ("exploratory_analysis", "figure_generation")
    assert (line in text) == (reads and folder in ("empty", "missing"))
    if name == "exploratory_analysis" and folder == "every":
        assert all(any(f">{experiment}<" in table for table in tables) for experiment in EXPERIMENTS)
        assert sum("<th>mean</th>" in table for table in tables) == len(EXPERIMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_kept_without_outputs(name):
    for cell in source(name).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
