"""The package as a whole: what importing it costs, and what it promises."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import jaxdeep as jd

ROOT = pathlib.Path(__file__).parents[1]


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


NAMESPACES = [
    "jaxdeep",
    *(f"jaxdeep.{name}" for name in jd.__all__ if inspect.ismodule(getattr(jd, name))),
    "jaxdeep.nn.activations",
    "jaxdeep.nn.initializers",
]


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_shows_its_public_names_and_no_others(name):
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)
    for public in module.__all__:
        thing = getattr(module, public)
        assert not public.startswith("_")
        assert not inspect.ismodule(thing) or thing.__name__ in NAMESPACES, public
    given: dict = {}
    exec(f"from {name} import *", given)
    assert {public: given[public] for public in module.__all__} == {
        public: getattr(module, public) for public in module.__all__
    }
    assert set(given) - set(module.__all__) == {"__builtins__"}


def test_parts_of_a_namespace_that_it_does_not_show_are_still_modules():
    assert inspect.ismodule(importlib.import_module("jaxdeep.fitting.fit"))
    assert inspect.ismodule(importlib.import_module("jaxdeep.saving.files"))
    assert not hasattr(jd.train, "RunState")
    assert not hasattr(jd.saving, "save")


def test_every_public_function_and_class_is_documented_with_an_example():
    for namespace in map(importlib.import_module, NAMESPACES):
        for name in namespace.__all__:
            thing = getattr(namespace, name)
            if not getattr(thing, "__module__", "").startswith("jaxdeep"):
                continue  # JAX' own
            doc = inspect.getdoc(thing) or ""
            if inspect.isfunction(thing):
                downloads = name == "fashion_mnist"
                assert ">>>" in doc or downloads, f"{namespace.__name__}.{name} has no example"
            elif inspect.isclass(thing):
                assert doc, name


@pytest.mark.parametrize("kind", [jd.train.Table, jd.nn.Model])
def test_every_method_is_documented_with_an_example(kind):
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert ">>>" in (inspect.getdoc(method) or ""), f"{kind.__name__}.{name} has no example"


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
        if name.startswith(("jaxdeep.tree", "jaxdeep.schedules")):
            assert all(f.startswith(("jaxdeep._checks", "jaxdeep.schedules")) for f in found), name
        if name.startswith("jaxdeep.optimizers"):
            assert not any(f.startswith(("jaxdeep.nn", "jaxdeep.train")) for f in found), name
        if name.startswith("jaxdeep.nn"):
            assert not any(f.startswith(("jaxdeep.optimizers", "jaxdeep.train")) for f in found), name
        if name.startswith("jaxdeep.train"):
            assert not any(f.startswith("jaxdeep.nn") for f in found), name
        if not name.startswith(("jaxdeep.cli", "jaxdeep.__main__")):
            leaves = ("jaxdeep.datasets", "jaxdeep.plotting", "jaxdeep.__main__", "jaxdeep.cli")
            assert not any(f.startswith(leaves) for f in found), name


def test_the_face_refuses_other_names():
    with pytest.raises(AttributeError, match="module 'jaxdeep' has no attribute 'optimisers'"):
        jd.optimisers  # noqa: B018
    assert jd.fit is importlib.import_module("jaxdeep.fitting.fit").fit


def test_the_version_is_the_packages():
    assert f'version = "{jd.__version__}"' in (ROOT / "pyproject.toml").read_text()
