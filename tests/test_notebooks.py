"""The notebooks are what their texts say, and run clean on the embedded data."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

TEXTS = build.texts()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_text(path):
    assert build.belongs(path), f"make it again: python notebooks/build.py {path.name[:2]}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_installs_itself_there(path):
    cells = build.read(path).cells
    assert f"{build.COLAB}/{path.stem}.ipynb" in cells[0].source
    assert 'find_spec("jaxdeep") is None' in cells[1].source


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_shows_figures_and_no_complaints(path):
    import nbformat

    made = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    outputs = [o for cell in made.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.heavy
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch, tmp_path):
    monkeypatch.delenv("JAXDEEP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    # on as many devices as a reader has; they train long enough for some of LLVM's passes to pay
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1")
    build.execute(build.read(path))


def test_the_notebooks_are_numbered_without_gaps():
    numbers = [int(re.match(r"\d+", path.name)[0]) for path in TEXTS]
    assert numbers == list(range(1, len(numbers) + 1))
