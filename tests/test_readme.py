"""The README and the guide are true: their Python runs, top to bottom, and their commands exist."""

import fnmatch
import inspect
import pathlib
import re

import pytest

import jaxdeep as jd

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


GUIDE = (ROOT / "docs" / "guide.md").read_text()


def run(text, name):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    return names


@pytest.mark.heavy
def test_the_python_of_the_readme_runs_and_prints_what_it_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(TEXT, "README.md")
    assert names["result"].history["val_accuracy"][-1] > 0.95
    printed = capsys.readouterr().out.split("\n")
    said = re.search(r"```text\n(.*?)```", TEXT, re.DOTALL)[1].split("\n")
    # words, not digits: another processor may round otherwise
    assert [re.sub(r"[\d.]+", "", line) for line in printed] == [
        re.sub(r"[\d.]+", "", line) for line in said
    ]


@pytest.mark.heavy
def test_the_python_of_the_guide_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    names = run(GUIDE, "guide.md")
    assert names["prediction"].mean.shape[1] == 10
    assert "(10,)" in capsys.readouterr().out


BATCHES = (ROOT / "docs" / "batches.md").read_text()
OF_LIBRARIES = re.findall(r"```py\n(import ([\w.]+).*?)```", BATCHES, re.DOTALL)


@pytest.mark.heavy
def test_the_python_of_the_page_on_batches_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(BATCHES, "batches.md")["result"].history["loss"][-1] < 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("block", "library"), OF_LIBRARIES, ids=[name for _, name in OF_LIBRARIES])
def test_recipes_for_the_loaders_of_other_libraries_run_and_go_on(block, library, tmp_path, monkeypatch):
    if not getattr(pytest.importorskip(library), "__file__", None):  # a folder of that name
        pytest.skip(f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    names = run(BATCHES, "batches.md")
    exec(compile(block, library, "exec"), names)
    first, names["usual"] = names["result"], names["usual"] | {"epochs": 3}
    exec(compile(block, library, "exec"), names)
    assert names["result"].history["loss"][:2].tolist() == first.history["loss"].tolist()
    assert len(names["result"].history["loss"]) == 3


@pytest.mark.heavy
@pytest.mark.parametrize("page", ["models.md", "optax.md"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run((ROOT / "docs" / page).read_text(), page)
    if page == "optax.md":
        updates, _ = names["tx"].update({"a": 2.0}, names["tx"].init({"a": 1.0}))
        assert updates == {"a": -0.2}
    else:
        assert names["variables"]["params"].keys() == {"layers_0", "layers_2"}


PRODUCTION = (ROOT / "docs" / "production.md").read_text()
RUNTIMES = re.findall(r"```py\n(import (\w+).*?)```", PRODUCTION, re.DOTALL)


@pytest.mark.heavy
def test_the_python_of_the_page_on_production_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(PRODUCTION, "production.md")["y"].shape == (64, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("block", "library"), RUNTIMES, ids=["onnx", "saved_model", "litert"])
def test_recipes_for_other_runtimes_give_what_the_model_gives(block, library, tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx" if library == "onnxruntime" else library)
    monkeypatch.chdir(tmp_path)
    names = run(PRODUCTION, "production.md")
    exec(compile(block, library, "exec"), names)  # which compares


def test_every_public_function_is_in_the_guide():
    rows = re.findall(r"^\| (`jd\.[^|]*) \| (.*) \|$", GUIDE, re.MULTILINE)
    listed = {space: text for spaces, text in rows for space in re.findall(r"`jd\.(\w+)`", spaces)}
    for space in jd.__all__:
        if not inspect.ismodule(namespace := getattr(jd, space)):
            assert f"`jd.{space}`" in GUIDE, space
            continue
        words = [word.replace("…", "*") for word in re.findall(r"`([\w…]+)`", listed[space])]
        for name in namespace.__all__:
            if inspect.isfunction(getattr(namespace, name)):
                found = any(fnmatch.fnmatchcase(name, word) for word in words)
                assert found, f"{space}.{name}"


def test_the_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert targets >= {"demo", "test", "lint", "types", "test-slow", "bench", "notebooks"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_files_that_are_linked_to_exist():
    for folder, text in ((ROOT, TEXT), (ROOT / "docs", GUIDE)):
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / link).exists(), link
