"""The package as a whole: what importing it costs, and what it promises."""

import importlib
import importlib.util
import inspect
import itertools
import pathlib
import subprocess
import sys
import tomllib

import pytest
from packaging import requirements, version

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


@pytest.mark.heavy
def test_importing_starts_no_backend():
    code = (
        "import jaxdeep as jd; jd.fit; from jax._src import xla_bridge; print(len(xla_bridge._backends))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "0"


def _house():
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = _house()


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


def test_every_import_runs_down_and_none_in_a_circle():
    assert house.faults(house.imports()) == []


@pytest.mark.heavy
def test_the_picture_of_the_house_is_that_of_its_imports():
    """If not: `make house`, and look at it."""
    assert house.drawn() == house.arrows(house.imports())


@pytest.mark.heavy
def test_the_picture_is_drawn_with_every_room(tmp_path):
    pairs = house.arrows(house.imports())
    house.draw(pairs, tmp_path / "house.svg")
    assert house.drawn(tmp_path / "house.svg") == pairs
    text = (tmp_path / "house.svg").read_text()
    assert all(f">{name}</text>" in text for pair in pairs for name in pair)


ABOVE = {
    "at the top": "from jaxdeep.fitting import fit",
    "as a module": "import jaxdeep.fitting.fit as f",
    "in a function": "def g():\n    from jaxdeep import fitting",
    "in a method": "class A:\n    def g(self):\n        import jaxdeep.fitting",
    "for type checkers": "import typing\nif typing.TYPE_CHECKING:\n    from jaxdeep.fitting import fit",
    "relatively": "from ..fitting import fit",
    "relatively, as a module": "from .. import fitting",
    "by a name in quotes": "import importlib\nA = 'jaxdeep.fitting.fit'\nimportlib.import_module(A)",
    "through the face": "import jaxdeep as jd",
    "from its own row": "from jaxdeep.optimizers import adam",
    "from a new room": "from jaxdeep.cellar import wine",
}


@pytest.mark.parametrize("text", ABOVE.values(), ids=ABOVE)
def test_an_arrow_that_runs_up_is_seen(text, tmp_path):
    files = {
        "__init__.py": "",
        "tree.py": '"""Says jaxdeep.fitting, and imports nothing."""',
        "nn/__init__.py": "from jaxdeep.nn.linear import dense",
        "nn/linear.py": "from jaxdeep import tree",
        "optimizers/__init__.py": "",
        "fitting/__init__.py": "",
        "fitting/fit.py": "import jax\nfrom jaxdeep.nn import dense",
    }
    if "cellar" in text:
        files["cellar.py"] = ""
    package = tmp_path / "jaxdeep"
    for name, content in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    if "cellar" not in text:
        assert house.faults(house.imports(tmp_path)) == []
    with (package / "nn/linear.py").open("a") as file:
        file.write(f"\n{text}\n")
    assert house.faults(house.imports(tmp_path))


def test_a_circle_within_a_room_is_seen(tmp_path):
    (tmp_path / "jaxdeep/nn").mkdir(parents=True)
    (tmp_path / "jaxdeep/nn/conv.py").write_text("from jaxdeep.nn.linear import dense")
    (tmp_path / "jaxdeep/nn/linear.py").write_text("def f():\n    from jaxdeep.nn import conv")
    (fault,) = house.faults(house.imports(tmp_path))
    assert fault.startswith("circle: jaxdeep.nn.")


def pinned(name):
    lines = (ROOT / name).read_text().splitlines()
    return [requirements.Requirement(line) for line in lines]


# What these bring is in no recorded set: exact versions, or what does not go with the newest of others.
OWN = {"bench", "onnx", "docs"}


def wanted():
    """What the package and its extras ask for, without those that bring versions of their own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in OWN}
    for line in [*project["dependencies"], *itertools.chain(*extras.values())]:
        requirement = requirements.Requirement(line)
        if requirement.name != "jaxdeep":
            yield requirement


def test_recorded_versions_are_allowed_and_complete():
    found = {}
    for pin in pinned("constraints.txt"):
        found.setdefault(pin.name.lower(), []).append(next(iter(pin.specifier)).version)
    for requirement in wanted():
        versions = found[requirement.name.lower()]  # else: make constraints
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    assert not {"torch", "keras"} & set(found)


def test_the_oldest_versions_are_the_lower_bounds():
    found = {pin.name.lower(): pin.specifier for pin in pinned("constraints-oldest.txt")}
    tools = {"ruff", "mypy", "pre-commit"}  # of the extra `dev`, which the oldest set is without
    for requirement in wanted():
        if requirement.name not in tools:
            (bound,) = requirement.specifier
            pin = version.Version(
                next(iter(found[requirement.name.lower()])).version
            )  # else: make constraints
            assert (
                pin.release[: len(version.Version(bound.version).release)]
                == version.Version(bound.version).release
            )
    assert str(found["jax"]) == "==0.7.2"
    assert str(found["flax"]) == "==0.11.2"


def test_the_face_refuses_other_names():
    with pytest.raises(AttributeError, match="module 'jaxdeep' has no attribute 'optimisers'"):
        jd.optimisers  # noqa: B018
    assert jd.fit is importlib.import_module("jaxdeep.fitting.fit").fit


def test_the_version_is_the_packages():
    assert f'version = "{jd.__version__}"' in (ROOT / "pyproject.toml").read_text()
