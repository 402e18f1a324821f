"""The notebooks are stored without outputs, and run; those of real recordings where these are."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

# sizes that numbers in the text need, and running does not; `make notebooks` takes those of the notebooks
SMALLER = {
    "samples: 512": "samples: 256",
    '"random": 99': '"random": 19',
    "tail(12)": "tail(4)",
    '"channels": list(range(48))': '"channels": list(range(12))',
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# part of a notebook's name → what it reads of the real data
OF_DATA = {"nwb": "recordings/nwb/zheng2022_sub-4_mtl.nwb", "disparity": "recordings/manning2024", "_it": "it92"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_no_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_sizes_are_those_of_the_notebooks() -> None:
    sources = "".join(cell.source for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells)
    assert not [size for size in SMALLER if size not in sources]


# jupyter's own packages leave sockets to the garbage collector
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, recordings in OF_DATA.items():
        if part in path.stem:
            folder = request.getfixturevalue("data").resolve()
            if not (folder / recordings).exists():
                pytest.skip(f"no {folder / recordings}")
            monkeypatch.setenv("NEUROPROBE_DATA", str(folder))
    notebook = nbformat.read(path, as_version=4)
    if os.environ.get("NEUROPROBE_NOTEBOOKS") != "whole":
        for cell in notebook.cells:
            for size, smaller in SMALLER.items():
                cell.source = cell.source.replace(size, smaller)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.get("data", {}).get("text/html", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert sum("data:image/png;base64" in page for page in shown) >= 2
