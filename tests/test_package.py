"""The package as a whole: what importing it costs, and what it promises."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import jaxdeep as jd

ROOT = pathlib.Path(__file__).parent.parent


def test_importing_loads_nothing_beyond_jax_and_optax():
    code = (
        "import sys, jax, optax; before = set(sys.modules); import jaxdeep as jd; "
        "jd.fit, [getattr(jd, name) for name in dir(jd)]; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - {'jaxdeep'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(out.stdout.split()) - set(sys.stdlib_module_names) == set()


def test_importing_starts_no_backend():
    code = (
        "import jaxdeep as jd; jd.fit; from jax._src import xla_bridge; print(len(xla_bridge._backends))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "0"


def modules():
    for info in pkgutil.walk_packages(jd.__path__, "jaxdeep."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def test_every_public_function_and_class_is_documented_with_an_example():
    namespaces = (
        jd,
        jd.nn,
        jd.nn.initializers,
        jd.optimizers,
        jd.schedules,
        jd.losses,
        jd.metrics,
        jd.train,
        jd.tree,
        jd.uncertainty,
        jd.transfer,
        jd.saving,
        jd.compress,
        jd.diagnostics,
        jd.preprocessing,
        jd.adapters,
        jd.regularizers,
    )
    for namespace in (*namespaces, jd.datasets):
        for name, thing in vars(namespace).items():
            if name.startswith("_") or not getattr(thing, "__module__", "").startswith(
                namespace.__name__
            ):
                continue
            if inspect.isfunction(thing):
                doc = inspect.getdoc(thing) or ""
                downloads = name == "fashion_mnist"
                assert ">>>" in doc or downloads, f"{namespace.__name__}.{name} has no example"
            elif inspect.isclass(thing):
                assert inspect.getdoc(thing), name


def test_who_imports_whom():
    """Floors: tree and schedules below, optimizers and nn strangers, leaves imported by none."""
    imports = {}
    for module in modules():
        source = pathlib.Path(module.__file__).read_text()
        lines = [line.split() for line in source.splitlines() if line.startswith("from jaxdeep")]
        found = {f"{words[1]}.{words[3]}" if words[1] == "jaxdeep" else words[1] for words in lines}
        imports[module.__name__] = found
    imports.pop("jaxdeep", None)
    for name, found in imports.items():
        if name in ("jaxdeep.tree", "jaxdeep.schedules"):
            assert found <= {"jaxdeep._checks"}, name
        if name.startswith("jaxdeep.optimizers"):
            assert not any(f.startswith(("jaxdeep.nn", "jaxdeep.train")) for f in found), name
        if name.startswith("jaxdeep.nn"):
            assert not any(f.startswith(("jaxdeep.optimizers", "jaxdeep.train")) for f in found), name
        if name.startswith("jaxdeep.train"):
            assert not any(f.startswith("jaxdeep.nn") for f in found), name
        if not name.startswith(("jaxdeep.cli", "jaxdeep.__main__")):
            leaves = ("jaxdeep.datasets", "jaxdeep.plotting", "jaxdeep.__main__", "jaxdeep.cli")
            assert not any(f.startswith(leaves) for f in found), name


def test_the_face_shows_its_namespaces_and_refuses_others():
    assert {
        "nn",
        "optimizers",
        "schedules",
        "train",
        "tree",
        "losses",
        "metrics",
        "datasets",
        "fit",
    } <= set(dir(jd))
    with pytest.raises(AttributeError, match="module 'jaxdeep' has no attribute 'optimisers'"):
        jd.optimisers  # noqa: B018
    assert jd.fit is jd.train.fit.fit


def test_the_version_is_the_packages():
    assert f'version = "{jd.__version__}"' in (ROOT / "pyproject.toml").read_text()
