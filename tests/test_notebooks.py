"""The notebooks, executed on runs of debug size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rebuttal import api
from tests.parameters import some_slow

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


@pytest.mark.parametrize("name", some_slow(NAMES, "random_walk_analysis"))
def test_a_notebook_runs_from_top_to_bottom_and_shows_something(name, parameters, tmp_path):
    notebook = source(name)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert {line.split(" = ")[0] for line in cell.source.splitlines()} == {
        line.split(" = ")[0] for line in parameters[name].splitlines()
    }
    cell.source = parameters[name]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = {kind for c in notebook.cells for output in c.get("outputs", []) for kind in output.get("data", {})}
    assert "text/html" in kinds or "image/png" in kinds
    if name != "exploratory_analysis":
        assert "image/png" in kinds


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_kept_without_outputs(name):
    for cell in source(name).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
