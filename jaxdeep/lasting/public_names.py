"""The names under which libraries show what they define, which stay when it moves to another module."""

import functools
import importlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

# Where other libraries show functions and classes; those of jaxdeep are in its namespaces.
_NAMESPACES = {
    "jax": ("jax", "jax.nn", "jax.nn.initializers", "jax.numpy", "jax.lax", "jax.random"),
    "optax": ("optax", "optax.contrib", "optax.losses", "optax.schedules"),
    "flax": ("flax.linen", "flax.nnx"),
    "equinox": ("equinox", "equinox.nn"),
}
# What was JAX' own in earlier versions and computes the same has the name of that in what is compared:
# a run of theirs goes on.
_FORMERLY = {
    ("jaxdeep.nn.activations", "gelu"): "jax.nn.gelu",
    ("jaxdeep.nn.initializers", "orthogonal"): "jax.nn.initializers.orthogonal",
}


def name_of(module: str, qualname: str) -> str:
    """A lasting name for what a module defines: its public name, where its library has one.

    Members of a function or class go by its name. What jaxdeep does not show publicly has the name of
    its module in front.

    >>> name_of("jaxdeep.losses.regression", "mse"), name_of("mine", "mse")
    ('jaxdeep.losses.mse', 'mine:mse')
    >>> name_of("jaxdeep.schedules.curves", "exponential.<locals>.schedule")
    'jaxdeep.schedules.exponential.<locals>.schedule'
    >>> name_of("jaxdeep.optimizers.transform", "_init"), name_of("jax._src.nn.functions", "relu")
    ('jaxdeep:_init', 'jax.nn.relu')
    """
    root, (top, *inside) = module.partition(".")[0], qualname.split(".")
    shown = _FORMERLY.get((module, top))
    if shown is None and root == "jaxdeep":
        shown = _shown_around(module, top)
    # Private names of jaxdeep are not public anywhere.
    if shown is None and not (root == "jaxdeep" and top.startswith("_")):
        shown = _shown(root).get((module, top))
    if shown is not None:
        return ".".join([shown, *inside])
    return f"{root if root == 'jaxdeep' else module}:{qualname}"


def place_of(value: object) -> str | None:
    """Where a function or class is found in any process, by the name that lasts; None for nowhere.

    >>> place_of(dict), place_of(lambda x: x)
    ('builtins:dict', None)
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    reached: Any = sys.modules.get(module)
    for part in name.split("."):
        reached = getattr(reached, part, None)
    return name_of(module, name) if reached is value else None


def with_names(text: str) -> str:
    """A repr, in which what jaxdeep defines goes by the names of `name_of`.

    >>> with_names("<class 'jaxdeep.search.tables.table.Table'>")
    "<class 'jaxdeep.search.Table'>"
    """
    return _PATH.sub(lambda match: name_of(match[1], match[2]), text)


_PATH = re.compile(r"\b(jaxdeep(?:\.\w+)*)\.(\w+)")


@functools.cache
def _shown_around(module: str, name: str) -> str | None:
    """The public name of what a module of jaxdeep defines, if a package that it is in shows it.

    The names of most things are found so, without loading all of jaxdeep as `_shown` does.
    """
    parts = module.split(".")
    for package in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
        namespace = sys.modules.get(package)
        if name in getattr(namespace, "__all__", ()):
            thing = getattr(namespace, name, None)
            if getattr(thing, "__qualname__", None) == name and module in _modules_of(thing):
                return f"{package}.{name}"
    return None


@functools.cache
def _shown(root: str) -> dict[tuple[str, str], str]:
    """The public names of a library, by module and qualified name."""
    names: dict[tuple[str, str], str] = {}
    for namespace, listed in _namespaces(root):
        things = {name: getattr(namespace, name, None) for name in listed}
        qualnames = {name: getattr(thing, "__qualname__", None) for name, thing in things.items()}
        # of several names of one thing, the one that it has itself comes first
        for name in sorted(things, key=lambda name: (qualnames[name] != name, name)):
            for module in _modules_of(things[name]):
                names.setdefault((module, str(qualnames[name])), f"{namespace.__name__}.{name}")
    return names


def _modules_of(thing: Any) -> set[str]:
    """The modules of a thing: the one in its ``__module__``, and the one that its code is written in."""
    written = getattr(getattr(thing, "__wrapped__", thing), "__globals__", {}).get("__name__")
    return {m for m in (getattr(thing, "__module__", None), written) if isinstance(m, str)}


def _namespaces(root: str) -> Iterator[tuple[types.ModuleType, list[str]]]:
    """The modules in which a library shows things, and the names there."""
    if root == "jaxdeep":
        yield from _below(importlib.import_module(root))
    for name in _NAMESPACES.get(root, ()):
        try:
            module = importlib.import_module(name)
        except ImportError:  # this version of the library has no such module
            continue
        # `vars` does not call the module's `__getattr__`.
        yield module, [name for name in vars(module) if not name.startswith("_")]


def _below(module: types.ModuleType) -> Iterator[tuple[types.ModuleType, list[str]]]:
    listed: list[str] = list(module.__all__)
    yield module, listed
    for name in listed:
        inner = getattr(module, name, None)
        if isinstance(inner, types.ModuleType) and inner.__name__ == f"{module.__name__}.{name}":
            yield from _below(inner)
