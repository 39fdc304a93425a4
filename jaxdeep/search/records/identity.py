"""What a row of a sweep is, in words that are the same in another process.

Keys of compiled programs (`jaxdeep._identity`) know objects by where they are in memory. A journal needs
what lasts: values, the names of functions, and checksums of what functions are made of. A function of a
library has the name under which it is shown, `jaxdeep.losses.mse`, in whatever module it is written; one
of the user's is its module and name.
"""

import dataclasses
import dis
import functools
import hashlib
import json
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep.fitting.description import lasting
from jaxdeep.optimizers.identity import Init, numbers_of
from jaxdeep.optimizers.scalars import Hyper
from jaxdeep.search.records.public_names import name_of, with_names

Json: TypeAlias = Any  # what `json.dumps` takes

_LIBRARIES = frozenset({"jaxdeep", "jax", "jaxlib", "optax", "flax", "chex", "numpy", "equinox"})
_DEEPEST = 40  # functions within functions


def words_of(name: str, value: object) -> Json:
    """A value of a point as JSON that is equal for equal values only, whatever the process.

    Args:
      name: the hyperparameter, for errors.
      value: a number, a text, None, an array, a function or class with a name, a dtype, a layer or an
        optimizer of jaxdeep, or containers of such.

    Raises:
      ValueError: something that has no name in another process, such as a lambda.

    >>> words_of("width", (8, 16.0)), words_of("activation", jax.nn.relu)
    (['tuple', 8, 16.0], {'name': 'jax.nn.relu'})
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return {"array": array_digest(value)}
    if isinstance(value, optax.GradientTransformation):
        return {"optimizer": [text_of(value), numbers_of(value)]}
    if isinstance(value, (list, tuple)):
        fields = value._asdict() if hasattr(value, "_asdict") else None
        items = [words_of(name, item) for item in value]
        return [type(value).__name__, *items] if fields is None else {type(value).__name__: items}
    if isinstance(value, Mapping):
        return ["dict", *([words_of(name, k), words_of(name, v)] for k, v in value.items())]
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, functools.partial):
        return {"partial": [words_of(name, part) for part in (value.func, value.args, value.keywords)]}
    if hasattr(type(value), "_identity_"):
        return {type(value).__qualname__: text_of(value)}
    if (place := _place(value)) is not None:
        return {"name": place}
    raise ValueError(
        f"{name} must have values that a journal can name when the sweep has a checkpoint=: numbers, "
        f"words, arrays, or functions of a module by their name; got {value!r}"
    )


def digest_of(description: Json) -> str:
    """A short checksum of JSON.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def text_of(value: object) -> str:
    """A text that tells what an option of a run is from what it would be after a change.

    It is the value's `repr` without addresses, and a checksum of what the functions in it are made of:
    their code and the plain values that they close over. Of jaxdeep's optimizers the numbers do not
    count (`jaxdeep.optimizers.identity.numbers_of` has them).

    >>> import jaxdeep as jd
    >>> text_of(0.5), text_of(jd.optimizers.sgd(0.1)) == text_of(jd.optimizers.sgd(0.2))
    ('0.5', True)
    """
    text = with_names(lasting(repr(value)))
    parts = list(_made_of(value, set(), _DEEPEST))
    return f"{text} #{digest_of(parts)}" if any(parts) else text


def array_digest(array: Any) -> str:
    """The dtype, shape and a checksum of the values of an array, as text."""
    dtype = array.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    contents = repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
    return f"{dtype}{list(values.shape)} {hashlib.blake2b(contents, digest_size=10).hexdigest()}"


def _place(value: object) -> str | None:
    """Where a function or class is found in any process: its module and name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or name is None or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return name_of(module, name) if found is value else None


def _made_of(value: Any, seen: set[int], depth: int) -> Iterator[Json]:
    """What the functions in a value are made of. What is not understood says nothing."""
    if depth == 0 or id(value) in seen:
        return
    if isinstance(value, Hyper):  # a tuple, whose number may be one that does not count
        value = value._identity_()
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _made_of(item, seen, depth - 1)
    elif isinstance(value, (dict, types.MappingProxyType)):
        for item in value.values():
            yield from _made_of(item, seen, depth - 1)
    elif isinstance(value, (np.ndarray, jax.Array)):
        yield from _plain(value)
    elif isinstance(value, functools.partial):
        yield from _plain((value.args, value.keywords))
        yield from _made_of((value.args, value.keywords, value.func), seen, depth - 1)
    elif isinstance(value, types.MethodType):
        yield from _made_of(value.__func__, seen, depth - 1)
        names, _ = _names_in(getattr(value.__func__, "__code__", _made_of.__code__))
        yield from _held(value.__self__, names, seen, depth - 1)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen | {id(value)}, depth)
    elif callable(wrapped := getattr(value, "__wrapped__", None)):
        yield from _made_of(wrapped, seen | {id(value)}, depth - 1)
    elif isinstance(value, Init):  # its numbers are told apart from what it is (`numbers_of`)
        yield from _plain(value.settings)
        yield list(value.hypers)
        held = [hyper.value for hyper in value.hypers.values() if callable(hyper.value)]
        parts = value.function, value.settings, held
        yield from _made_of(parts, seen | {id(value)}, depth - 1)
    elif (describe := getattr(type(value), "_identity_", None)) is not None:
        parts = describe(value)
        yield from _plain(parts)
        yield from _made_of(parts, seen | {id(value)}, depth - 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        yield from _made_of(fields, seen | {id(value)}, depth - 1)
    elif callable(value) and hasattr(type(value).__call__, "__code__"):  # an object with __call__
        names, _ = _names_in(type(value).__call__.__code__)
        yield from _held(value, names, seen, depth - 1)


def _function(function: types.FunctionType, seen: set[int], depth: int) -> Iterator[Json]:
    code = function.__code__
    is_library = _is_library(function.__module__)
    yield name_of(function.__module__, function.__qualname__) if is_library else _code(code)
    names, changed = _names_in(code)
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            contents = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if name not in changed:  # a counter says nothing of what is computed
            yield from _held(contents, names, seen, depth)
    if is_library:
        return
    yield from _plain((function.__defaults__, function.__kwdefaults__))
    for name in sorted(names & function.__globals__.keys()):
        if name not in changed:
            yield from _held(function.__globals__[name], names, seen, depth)


def _held(value: Any, names: frozenset[str], seen: set[int], depth: int) -> Iterator[Json]:
    """What a value says that a function of the user's refers to, which also uses these names."""
    if depth == 0 or id(value) in seen:
        return
    if isinstance(value, (list, set)):  # what a function adds to says nothing of what it computes
        if not names & _CHANGING:
            yield from _plain(tuple(value) if isinstance(value, list) else sorted(map(repr, value)))
        return
    yield from _plain(value)
    yield from _made_of(value, seen, depth - 1)
    if isinstance(value, types.ModuleType):
        if (
            not _is_library(value.__name__)
            and value.__name__.split(".")[0] not in sys.stdlib_module_names
        ):
            for name in sorted(names & vars(value).keys()):
                yield from _held(vars(value)[name], names, seen | {id(value)}, depth - 1)
        return
    kind = value if isinstance(value, type) else type(value)
    if _is_library(kind.__module__) or kind.__module__.split(".")[0] in sys.stdlib_module_names - {
        "types",
        "__main__",
    }:
        return
    inside = {id(value), *seen}
    for base in (c for c in kind.__mro__ if not _is_library(c.__module__) and c is not object):
        for name, held in vars(base).items():
            if name == "__call__" or (name in names and not name.startswith("__")):
                yield from _held(getattr(held, "__func__", held), names, inside, depth - 1)
    if not isinstance(value, type) and not names & _CHANGING:
        for _, held in sorted(getattr(value, "__dict__", {}).items()):
            yield from _held(held, names, inside, depth - 1)


# Names of methods that change what they belong to.
_CHANGING = frozenset({"append", "extend", "insert", "add", "update", "pop", "setdefault", "clear"})


def _is_library(module: object) -> bool:
    return str(module).split(".", 1)[0] in _LIBRARIES


def _names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names that code and the functions inside it refer to, and those that they bind anew."""
    names = frozenset(code.co_names)
    changed = frozenset(i.argval for i in dis.get_instructions(code) if i.opname in _BINDING)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner, rebound = _names_in(constant)
            names, changed = names | inner, changed | rebound
    return names, changed


_BINDING = ("STORE_GLOBAL", "STORE_DEREF", "STORE_NAME")


def _plain(value: Any) -> Iterator[Json]:
    """A value that does not change while a program runs, if it is one."""
    if isinstance(value, Hyper):
        value = value._identity_()
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        yield repr(value)
    elif isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.memmap):
        yield array_digest(value)
    elif isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        yield array_digest(value) if value.is_fully_addressable else str(value.shape)
    elif isinstance(value, (tuple, list, dict, types.MappingProxyType)):
        for item in value if isinstance(value, (tuple, list)) else value.values():
            yield from _plain(item)


def _code(code: types.CodeType) -> Json:
    constants = [_constant(c) for c in code.co_consts]
    if code.co_consts and isinstance(code.co_consts[0], str):
        constants = constants[1:]  # a docstring
    return [hashlib.blake2b(code.co_code, digest_size=8).hexdigest(), constants, list(code.co_names)]


def _constant(constant: object) -> Json:
    if isinstance(constant, types.CodeType):
        return _code(constant)
    if isinstance(constant, frozenset):  # whose order is another in each process
        return sorted(map(repr, constant))
    return repr(constant)
