"""What code refers to, read from its instructions without running it."""

import dis
import functools
import importlib.util
import itertools
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any

_NOT_STEPS = frozenset({"CACHE", "EXTENDED_ARG"})
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")

# Names by which code takes values from where nobody looks: files, the environment, texts that are run.
ELSEWHERE = frozenset(
    {
        *("globals", "environ", "getenv", "argv", "eval", "exec", "import_module", "__import__"),
        *("open", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "read_text", "read_bytes"),
    }
)
# What says of a function or class where it was written, how it is shown, or what it is made from.
ABOUT = frozenset(
    {
        "__module__",
        "__name__",
        "__qualname__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__type_params__",
        "__wrapped__",
        "__firstlineno__",
        "__static_attributes__",
        "__parameters__",
        "__orig_bases__",
        "__match_args__",
        "__abstractmethods__",
        "_abc_impl",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__signature__",
        "__slotnames__",
    }
)


def inside(codes: Iterable[types.CodeType]) -> Iterator[types.CodeType]:
    """Code, and that of the functions and classes made inside it."""
    for code in codes:
        yield code
        yield from inside(c for c in code.co_consts if isinstance(c, types.CodeType))


@functools.lru_cache(maxsize=1024)
def names_in(code: types.CodeType) -> frozenset[str]:
    """The names of globals and attributes that code, and the functions made inside it, refer to."""
    return frozenset(name for inner in inside([code]) for name in inner.co_names)


@functools.lru_cache(maxsize=1024)
def globals_in(code: types.CodeType) -> frozenset[str]:
    """The names of globals that code, and the functions made inside it, refer to."""
    steps = (step for inner in inside([code]) for step in _steps(inner))
    return frozenset(str(name) for step, name in steps if step in _GLOBALS)


@functools.lru_cache(maxsize=1024)
def attributes_in(code: types.CodeType) -> frozenset[tuple[str, str]]:
    """The pairs of a variable or attribute and the attribute that is taken from it.

    >>> sorted(attributes_in((lambda: a.b.c).__code__))
    [('a', 'b'), ('b', 'c')]
    """
    return frozenset(
        (str(name), str(attribute))
        for inner in inside([code])
        for (step, name), (after, attribute) in itertools.pairwise(_steps(inner))
        if step.startswith("LOAD_") and after in _ATTRIBUTES
    )


@functools.lru_cache(maxsize=1024)
def used_whole(code: types.CodeType) -> frozenset[str]:
    """The names that code, or a function made inside it, uses otherwise than to take an attribute.

    They are names of variables and of attributes. One whose ``__dict__`` is taken is used whole too.

    >>> sorted(used_whole((lambda a: a.b.c + a.d.__dict__["e"]).__code__))
    ['__dict__', 'c', 'd', 'e']
    """
    names = set[str]()
    for inner in inside([code]):
        cells = {*inner.co_cellvars, *inner.co_freevars}
        for (step, name), (after, attribute) in itertools.pairwise(_steps(inner)):
            is_handed_on = step.startswith(("LOAD_CLOSURE", "LOAD_FAST")) and name in cells
            is_asked = after in _ATTRIBUTES and not str(attribute).startswith("__")
            if step.startswith("LOAD_") and isinstance(name, str) and not (is_handed_on or is_asked):
                names.add(name)
    return frozenset(names)


def imports(function: types.FunctionType) -> Iterator[tuple[str, str, str | None]]:
    """What a function imports where it runs: a variable, its module, and what is taken from that.

    >>> def function():
    ...     import os.path as path
    ...     from json import dumps
    >>> list(imports(function))
    [('path', 'os.path', None), ('dumps', 'json', 'dumps')]
    """
    package = function.__globals__.get("__package__") or ""
    for variable, level, module, taken in _imports(function.__code__):
        try:
            yield variable, importlib.util.resolve_name("." * level + module, package), taken
        except ImportError:  # of no package, as its own import will say
            yield variable, "." * level + module, taken


@functools.lru_cache(maxsize=1024)
def _imports(code: types.CodeType) -> tuple[tuple[str, int, str, str | None], ...]:
    """Variables, how far the module is above the package, its name, and what is taken from it."""
    imported: list[tuple[str, int, str, str | None]] = []
    for inner in inside([code]):
        steps = _steps(inner)
        for i, (step, module) in enumerate(steps):
            if step != "IMPORT_NAME":
                continue
            (_, level), (_, names) = steps[i - 2 : i]
            stores = (str(name) for step, name in steps[i:] if step.startswith("STORE_"))
            if names is not None:  # from module import names
                imported += [(variable, level, module, name) for name, variable in zip(names, stores)]
            elif steps[i + 1][0] == "IMPORT_FROM":  # import package.module as variable
                imported.append((next(stores), level, module, None))
            else:  # import package.module, which binds the package
                imported += [(module, level, module, None)]
                imported += [(next(stores), level, module.partition(".")[0], None)]
    return tuple(imported)


def _steps(code: types.CodeType) -> list[tuple[str, Any]]:
    """The names and arguments of instructions, one for each of those that Python joins in pairs."""
    steps: list[tuple[str, Any]] = []
    for step in dis.get_instructions(code):
        if isinstance(step.argval, tuple) and "FAST" in step.opname:
            steps += zip(re.findall("(?:LOAD|STORE)_FAST", step.opname), step.argval)
        elif step.opname not in _NOT_STEPS:
            steps.append((step.opname, step.argval))
    return steps
