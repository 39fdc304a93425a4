"""The notebooks are what their texts say, and run clean on the embedded data."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from helpers import hurry

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
    plainly = " --xla_cpu_use_fusion_emitters=false" if hurry.takes_plainly() else ""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1" + plainly)
    build.execute(build.read(path))


START = """
import collections, json, pathlib
import jax, numpy as np
import jaxdeep as jd

events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
train, validation, test = jd.datasets.digits()
result = jd.fit(
    jd.nn.serial(jd.nn.flatten(), jd.nn.dense(20, activation=jax.nn.relu), jd.nn.dense(10)),
    train, validation=validation, loss=jd.losses.softmax_cross_entropy,
    optimizer=jd.optimizers.adam(1e-3), epochs=2, key=jax.random.key(0), progress=False,
)
counts = [events[name] for name in ("compile_requests_use_cache", "cache_hits", "cache_misses")]
bits = [np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves(result.params)]
print(json.dumps([counts, bits, jax.config.jax_compilation_cache_dir]))
"""


@pytest.mark.slow
def test_a_notebook_that_is_started_again_compiles_nothing_and_finds_the_same(tmp_path):
    env = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    env = {name: value for name, value in env.items() if "PERSISTENT_CACHE" not in name}
    env |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    found = []
    set_up = build.read(TEXTS[0]).cells[1].source
    for setting in ({}, {}, {"JAX_ENABLE_COMPILATION_CACHE": "0"}):
        command = [sys.executable, "-c", set_up + START]
        out = subprocess.run(command, env=env | setting, capture_output=True, text=True, check=True)
        assert out.stderr == ""
        found.append(json.loads(out.stdout))
    (first, again, without), bits, folders = zip(*found)
    assert first[2] > 0
    assert again[0] == again[1] > 0
    assert again[2] == without[2] == 0
    assert bits[0] == bits[1] == bits[2]
    assert pathlib.Path(folders[0]).parent == tmp_path / ".cache" / "jaxdeep" / "compiled"


def test_the_notebooks_keep_what_they_compile_alike():
    lines = [build.read(path).cells[1].source.partition("\n\n#")[2] for path in TEXTS]
    assert "JAX_COMPILATION_CACHE_DIR" in lines[0]
    assert set(lines) == {lines[0]}


def test_the_notebooks_are_numbered_without_gaps():
    numbers = [int(re.match(r"\d+", path.name)[0]) for path in TEXTS]
    assert numbers == list(range(1, len(numbers) + 1))
