"""What values and functions are made of, as text that is the same in another process.

Whatever a function may compute with counts: its code, its defaults, what it closes over, the variables
of its module that it refers to, and what these hold in turn. A value that it only writes to, such as a
list of calls, does not (`jaxdeep.lasting.written_only`). What has no description that lasts is
refused, since two such values could be taken for one.
"""

import collections
import contextvars
import copyreg
import dataclasses
import functools
import hashlib
import importlib
import logging
import re
import threading
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._code import ABOUT, globals_in, imports, names_in, used_whole
from jaxdeep._identity import MADE_OF, OF_C, is_of_attributes, of_class, taken_from
from jaxdeep.lasting.code import code_parts, digest, which
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.lasting.kinds import is_library, is_linen, is_scalar_type, tensor
from jaxdeep.lasting.public_names import name_of, place_of
from jaxdeep.lasting.written_only import rebound, written_only
from jaxdeep.optimizers.identity import Init

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented))
_SILENT = (
    type(threading.Lock()),
    type(threading.RLock()),
    logging.Logger,
)  # no result depends on these
_BY_REPR = (jax.sharding.Sharding, jax.sharding.Mesh, jax.ShapeDtypeStruct, jax.Device)
_ADAPTERS = "jaxdeep.adapters."  # whose functions hold the first parameters of modules
_ADDED_TO: tuple[type, ...] = (
    *(list, set, dict, collections.deque, collections.Counter, collections.defaultdict),
    *(int, float),
)
_ARRAYS = (np.ndarray, np.memmap, np.ma.MaskedArray)
_NEW = vars(copyreg)["__newobj__"]
_BY_TYPE: Any = functools.singledispatch(len)  # whose code is that of all that keep functions by type


def made_of(value: object, name: str = "value", *, strict: bool = True) -> str:
    """The description of a value; of jaxdeep's optimizers the numbers do not count.

    Args:
      value: any.
      name: what it is, for errors.
      strict: otherwise what is not known counts by its type alone, and the first parameters that a
        module of another library holds do not count.

    Raises:
      ValueError: something in it whose contents are not known.

    >>> import optax
    >>> made_of({"a": (1, jax.nn.relu)})
    "{'a': (1, jax.nn.relu)}"
    >>> made_of(optax.cosine_decay_schedule(0.1, 9)) == made_of(optax.cosine_decay_schedule(0.1, 90))
    False
    """
    try:
        walk = _Walk(strict=strict)
        text = walk(value)
        if unread := written_only(walk.codes):
            text = _Walk(unread, strict)(value)
    except _Unknown as error:
        thing, holder = error.args
        raise ValueError(
            f"{name} must be made of what a journal can describe when there is a checkpoint=, so that a "
            f"change of it is noticed: numbers, texts, arrays, functions, and containers and objects of "
            f"such; {holder} holds {_shortened(repr(thing))}"
        ) from None
    except RecursionError:
        raise ValueError(
            f"{name} is nested too deeply for a journal to describe it: {_shortened(repr(value))}"
        ) from None
    return text


def array_digest(array: Any) -> str:
    """The dtype, shape and a checksum of the values of an array, as text."""
    if isinstance(array, np.ma.MaskedArray):
        return f"masked {' '.join(map(array_digest, (array.data, array.mask, array.fill_value)))}"
    dtype = array.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    contents = repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
    return f"{dtype}{list(values.shape)} {hashlib.blake2b(contents, digest_size=10).hexdigest()}"


class _Unknown(Exception):
    """Raised with a value that is not understood, and the name of what holds it."""


class _Walk:
    """A walk over a value and everything it holds.

    An object that is met again becomes a reference to its first place, so that cycles end.

    Args:
      unread: names of variables and attributes that are only written to.
      strict: as in `made_of`.

    Attributes:
      codes: the code of the user's functions that were met.
    """

    def __init__(self, unread: frozenset[str] = frozenset(), strict: bool = True) -> None:
        self.codes: list[types.CodeType] = []
        self._unread, self._strict, self._holder = unread, strict, "it"
        self._begins = False  # whether it is in what holds first parameters
        self._seen: dict[object, tuple[int, object]] = {}

    def __call__(self, value: Any) -> str:
        if type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, np.dtype) or is_scalar_type(value):
            return f"dtype({jnp.dtype(value).name})"
        if type(value) in _ARRAYS or isinstance(value, (np.generic, jax.Array)):
            return self._array(value)
        if (array := tensor(value)) is not None:
            return f"{value.dtype} {self._array(array)}"
        if isinstance(value, OF_C):
            owner = getattr(value, "__self__", None)
            holder = "" if owner is None or isinstance(owner, types.ModuleType) else f"{self(owner)}."
            return f"{holder}{getattr(value, '__module__', None) or ''}:{value.__qualname__}"
        if isinstance(value, types.ModuleType):
            return self._module(value, None, frozenset())
        if isinstance(value, type) and is_library(value.__module__):
            return name_of(value.__module__, value.__qualname__)
        if type(value) is tuple:
            return f"({self._items(value)})"
        return self._numbered(id(value), value, self._parts)

    def _numbered(self, key: object, value: Any, parts: Any, *args: Any) -> str:
        if key in self._seen:
            return f"again {self._seen[key][0]}"
        # the value is kept alive, so that its id is not used again
        self._seen[key] = len(self._seen), value
        return str(parts(value, *args))

    def _parts(self, value: Any) -> str:
        # An optimizer's numbers are described apart from its function (`numbers_of`).
        if isinstance(value, Init):
            driven = {name: h.value for name, h in value.hypers.items() if not h.stays}
            return f"{self(value.function)}{self(value.settings)}{[*value.hypers]}{self(driven)}"
        describe = of_class(value, "_identity_")
        if describe is not None and (parts := describe(value)) is not None:
            return f"{type(value).__qualname__}{self(parts)}"
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, (tuple, list)):
            fields = getattr(value, "_fields", None)
            inside = self._items(value) if fields is None else self._named(dict(zip(fields, value)))
            return self._of_type(value, (tuple, list), f"[{inside}]")
        if isinstance(value, (dict, types.MappingProxyType)):
            inside = ", ".join(f"{self(name)}: {self._under(name, v)}" for name, v in value.items())
            return self._of_type(value, (dict, types.MappingProxyType), f"{{{inside}}}")
        if isinstance(value, (set, frozenset)):
            return self._of_type(value, (), f"{{{', '.join(sorted(map(self._apart, value)))}}}")
        if isinstance(value, np.ndarray):
            return self._of_type(value, (), self._array(value))
        for kind, attributes in MADE_OF.items():
            if isinstance(value, kind):
                inside = self._items(getattr(value, name) for name in attributes)
                return self._of_type(value, (kind,), f"{kind.__name__}({inside})")
        if isinstance(value, type):
            return self._class(value)
        return self._object(value)

    def _items(self, values: Iterable[Any]) -> str:
        return ", ".join(map(self, values))

    def _apart(self, value: Any) -> str:
        """A member of a set, whose order is another in each process, as if nothing were met before."""
        walk = _Walk(self._unread, self._strict)
        walk.codes, walk._begins = self.codes, self._begins
        return walk(value)

    def _named(self, values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name}={self._under(name, value)}" for name, value in values.items())

    def _under(self, name: object, value: Any) -> str:
        """The text of a value; errors name it by its path, which ends with this name."""
        outer, self._holder = self._holder, f"{self._holder}.{name}"
        text = self(value)
        self._holder = outer
        return text

    def _of_type(self, value: Any, plain: tuple[type, ...], text: str) -> str:
        """The text of a container; a subclass adds its type and its attributes."""
        if type(value) in plain:
            return text
        return f"{self(type(value))}{text}{self._state(value)}"

    def _array(self, array: Any) -> str:
        if isinstance(array, jax.core.Tracer):  # left by an earlier trace, it means nothing now
            return f"tracer {array.aval}"
        unknown = isinstance(array, jax.Array) and not array.is_fully_addressable
        if unknown or self._begins:
            return f"{array.dtype}{array.shape}"
        if isinstance(array, np.memmap):
            return f"{array.dtype}{array.shape} {fingerprint([array])['0'] if array.ndim else array}"
        if getattr(array.dtype, "hasobject", False):
            return f"array{list(array.shape)}{self(array.tolist())}"
        return f"array({array_digest(array)})"

    # --- functions and modules ------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> str:
        outer, self._holder = self._holder, function.__qualname__
        try:
            if function.__code__ is _BY_TYPE.__code__:
                return f"singledispatch({self(dict(vars(function)['registry']))})"
            if is_library(function.__module__):
                return self._function_of_library(function)
            code = function.__code__
            self.codes.append(code)
            parts = [
                f"{function.__qualname__}, code {digest(code_parts(code))}",
                ", ".join(self._variables(function)),
                self((function.__defaults__, function.__kwdefaults__)),
                self._named(_rest(function.__dict__)),
                *(self(v) for name, v in function.__dict__.items() if name == "__wrapped__"),
            ]
            return f"function({'; '.join(parts)})"
        finally:
            self._holder = outer

    def _function_of_library(self, function: types.FunctionType) -> str:
        """The name of a library's function; a closure adds the values that it closes over."""
        name = name_of(function.__module__, function.__qualname__)
        if "<" not in function.__qualname__:
            return name
        numbers = rebound(function.__code__)  # optax makes floats of integers when it is traced
        held = {
            cell: float(v) if cell in numbers and type(v) is int else v
            for cell, v in self._closed_over(function)
        }
        begins = self._begins
        self._begins |= not self._strict and function.__module__.startswith(_ADAPTERS)
        defaults = [value for value in (function.__defaults__, function.__kwdefaults__) if value]
        inside = self._named(held)
        also = "".join(f"; {self(value)}" for value in (*defaults, _rest(function.__dict__)) if value)
        text = f"{name}{which(function)}({inside}{also})"
        self._begins = begins
        return text

    def _closed_over(self, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                contents = cell.cell_contents
            except ValueError:  # the variable has no value yet
                continue
            yield name, contents

    def _is_unread(self, name: str, value: Any) -> bool:
        """Whether code only writes to this value, which is of a type such as a list or a dict."""
        return name in self._unread and type(value) in _ADDED_TO

    def _variables(self, function: types.FunctionType) -> Iterator[str]:
        """What a function closes over, what it refers to in its module, and what it imports."""
        code, known = function.__code__, function.__globals__
        names, whole = names_in(code), used_whole(code)
        held = [
            *self._closed_over(function),
            *((n, known[n]) for n in sorted(globals_in(code) & known.keys())),
        ]
        for name, value in held:
            if not self._is_unread(name, value):
                yield f"{name}={self._global(name, value, names, whole)}"
        for name, module, taken in imports(function):
            if is_library(module):
                yield f"{name}={module}{f'.{taken}' if taken else ''}"
            else:
                yield f"{name}={self._imported(name, module, taken, names, whole)}"

    def _imported(self, name: str, module: str, taken: str | None, *of_code: frozenset[str]) -> str:
        """The text of what a function imports in its body; the import is done here, to look inside."""
        try:
            value = taken_from(importlib.import_module(module), taken)
        except Exception:  # of any kind, which the function itself will raise
            return "absent"
        return self._global(name, value, *of_code)

    def _global(self, name: str, value: Any, names: frozenset[str], whole: frozenset[str]) -> str:
        """A value that code calls `name`, which refers to these names, and to some as a whole."""
        if not isinstance(value, types.ModuleType):
            return self._under(name, value)
        return self._module(value, *((None, frozenset()) if name in whole else (names, whole)))

    def _module(
        self, module: types.ModuleType, names: frozenset[str] | None, whole: frozenset[str]
    ) -> str:
        """The text of a module: a library's name, or what code with these names may read in it."""
        if is_library(module.__name__):
            return module.__name__
        return self._numbered((id(module), names, whole), module, self._taken, names, whole)

    def _taken(
        self, module: types.ModuleType, names: frozenset[str] | None, whole: frozenset[str]
    ) -> str:
        contents = vars(module)
        if names is None:  # all that modules in it have counts too
            names = whole = frozenset(name for name in contents if not name.startswith("__"))
        texts = (
            f"{name}={self._global(name, value, names, whole)}"
            for name in sorted((names | {"__getattr__"}) & contents.keys())
            if not self._is_unread(name, value := contents[name])
        )
        return f"{module.__name__}({', '.join(texts)})"

    # --- classes and objects --------------------------------------------------------------------------

    def _class(self, kind: type) -> str:
        name = name_of(kind.__module__, kind.__qualname__)
        bases = [base for base in kind.__mro__ if not is_library(base.__module__)]
        inside = [
            f"{base.__qualname__}.{key}={self._under(key, thing)}"
            for base in bases
            for key, thing in sorted(vars(base).items())
            if key not in ABOUT
            and not isinstance(thing, (types.MemberDescriptorType, types.GetSetDescriptorType))
        ]
        if not is_library(type(kind).__module__):
            inside.append(f"of {self(type(kind))}")
        return f"{name}({', '.join(inside)})" if inside else name

    def _object(self, value: Any) -> str:
        kind = type(value)
        if isinstance(value, _SILENT) or kind is object:  # a plain object() holds nothing
            return kind.__name__
        if value is np.random.mtrand._rand:
            return "numpy.random"  # the global generator, from which frozen distributions of SciPy draw
        if isinstance(value, contextvars.ContextVar):
            return f"ContextVar({value.name}, {self(value.get(None))})"
        place = place_of(value)
        if place is not None and is_library(value.__module__):
            return place
        of_library = is_library(kind.__module__)
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped) and of_library:  # functions under jax.jit and jax.custom_jvp
            more = _rest(getattr(value, "__dict__", {}))
            return f"{kind.__name__}({self(wrapped)}, {self._named(more)})"
        if isinstance(value, (np.ufunc, *_BY_REPR)):
            return self._repr(value)
        if dataclasses.is_dataclass(value) and (of_library or is_linen(kind)):
            fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
            return f"{self(kind)}({self._named(fields)})"
        if not of_library and ((state := self._state(value)) or is_of_attributes(kind)):
            return f"{self(kind)}{state}"
        try:
            reduce = copyreg.dispatch_table.get(kind, lambda value: value.__reduce_ex__(4))
            parts = reduce(value)  # the parts by which pickle would rebuild the value
        except Exception:  # of many kinds, for what cannot be pickled
            if not str(kind.__module__).startswith("jax"):
                return self._not_known(value)
            return self._repr(value)
        if isinstance(parts, str):
            return f"{kind.__module__}:{parts}"
        made, args, state, *items = (*parts, None, None, None)[:5]
        if made is _NEW and args == (kind,):
            made, args = None, ()
        items = [list(part) for part in items if part is not None]
        return f"{self(kind)}({self((made, args, state, *items))})"

    def _state(self, value: Any) -> str:
        """What an object of the user's holds, by name."""
        slots = {
            name: getattr(value, name)
            for base in type(value).__mro__
            for name, thing in vars(base).items()
            if isinstance(thing, types.MemberDescriptorType) and hasattr(value, name)
        }
        held = slots | getattr(value, "__dict__", {})
        held = {
            name: held[name]
            for name in sorted(held)
            if not self._is_unread(name, held[name])
            and not isinstance(getattr(type(value), name, None), functools.cached_property)
        }
        return f"({self._named(held)})" if held else ""

    def _not_known(self, value: Any) -> str:
        if self._strict:
            raise _Unknown(value, self._holder)
        return f"a {type(value).__qualname__}"

    def _repr(self, value: Any) -> str:
        """The repr of a value, which is refused if it shows an address in memory instead."""
        text = repr(value)
        if re.search(r"\bat 0x[0-9a-fA-F]+", text):
            return self._not_known(value)
        return text


def _rest(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in ABOUT}


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
