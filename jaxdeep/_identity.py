"""Keys that tell whether two computations are the same, without running or tracing them.

A compiled program may be used again for another model, loss or optimizer only if these do exactly what
the first ones did. `key_of` makes keys that are equal only in this case:

* Values (numbers, names, arrays, containers of such) are compared by value and type.
* A layer or an optimizer of jaxdeep is compared by its description, which ``_identity_()`` returns.
* A closure made by a function of JAX, optax, Flax or jaxdeep is compared by the ``def`` it comes from
  and the values it closes over, so that ``optax.chain`` of equal transformations is equal.
* A function, class or object of the user's is equal only to itself. The values that it closes over,
  holds and refers to, in its own module and in others of the user's, must also be the same as before, so
  that after a constant was changed in a notebook, a function that uses it has another key.

A wrong match would be a silent wrong answer, while a missed one only costs a compilation. Therefore a
value that is not understood makes a key that equals no other. Keys hold users' objects weakly and keep
neither data nor parameters alive.
"""

import dataclasses
import dis
import functools
import hashlib
import itertools
import sys
import types
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LIBRARIES = frozenset({"jaxdeep", "jax", "optax", "flax", "chex", "numpy", "equinox"})
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_BY_VALUE = (jax.sharding.Sharding, jax.sharding.Mesh, jax.ShapeDtypeStruct)
_MADE_OF: dict[type, tuple[str, ...]] = {  # kinds that are compared by these attributes
    functools.partial: ("func", "args", "keywords"),
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget",),
}
_BASIC = ("builtins", "typing", "abc")  # modules whose classes say nothing of their objects
_MOST = 20_000  # values that a key may consist of, since a user's object may hold a whole data set


class Key:
    """The hashable description of a computation, equal to another only if both compute the same.

    A key that is not `usable` equals nothing but itself.
    """

    __slots__ = ("_hash", "_objects", "_parts", "usable")

    def __init__(self, parts: Hashable, objects: tuple[Any, ...], usable: bool) -> None:
        self._parts, self._objects, self.usable = parts, objects, usable
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            isinstance(other, Key)
            and self.usable
            and other.usable
            and self._hash == other._hash
            and self._parts == other._parts
        )

    def replaced(self, old: "Key", new: "Key") -> "Key | None":
        """The same key with `new` in place of `old`; None for a key that was not made of `old`."""
        if not (self.usable and old.usable and new.usable and isinstance(self._parts, tuple)):
            return None
        if old._parts not in self._parts:
            return None
        parts = tuple(new._parts if part == old._parts else part for part in self._parts)
        return Key(parts, (*self._objects, *new._objects), usable=True)

    @property
    def is_alive(self) -> bool:
        """Whether all users' objects in the key still exist; if not, no other key can equal it."""
        return all(reference() is not None for reference in self._objects)


class _Object:
    """A weak reference to an object, equal only to references to the same object while it lives."""

    __slots__ = ("_reference", "_word")

    def __init__(self, thing: Any) -> None:
        self._reference, self._word = weakref.ref(thing), id(thing)

    def __call__(self) -> Any:
        return self._reference()

    def __hash__(self) -> int:
        return self._word

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, _Object):
            return False
        mine = self._reference()
        return mine is not None and mine is other._reference()


_TUPLE = _Object(tuple)
_FREQUENT = frozenset({tuple, dict, types.FunctionType})  # kinds that need fewer questions


class _NotUnderstood(Exception):
    """Raised for a value that cannot be compared with another one."""


def key_of(*values: Any, numbers: bool = False) -> Key:
    """The key of a computation that is described by these values.

    Args:
      values: what it depends on besides its arguments.
      numbers: whether hyperparameters that an optimizer's state starts from count; a compiled program is
        given them as arguments.

    >>> import optax, jaxdeep as jd
    >>> key_of(optax.adam(0.1)) == key_of(optax.adam(0.1)), key_of(1) == key_of(1.0)
    (True, False)
    >>> key_of(lambda x: x) == key_of(lambda x: x)
    False
    """
    walk = _Walk(numbers)
    try:
        parts: Hashable = tuple(map(walk, values))
        hash(parts)
    except (_NotUnderstood, RecursionError, TypeError):
        return Key((), (), usable=False)
    return Key(parts, tuple(walk.objects), usable=True)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values have equal keys.

    >>> is_same(1, 1), is_same(1, True), is_same(0.0, -0.0), is_same([1], [1]), is_same(1, [1])
    (True, False, False, True, False)
    """
    if isinstance(one, _PLAIN) and isinstance(other, _PLAIN):
        return _plain(one) == _plain(other)
    return key_of(one) == key_of(other)


def _plain(value: Any) -> Hashable:
    """A plain value with its type: 0.0 and -0.0, 1 and True, and NaN are told apart by type and text."""
    return type(value), repr(value) if isinstance(value, (float, complex)) else value


class _Walk:
    """A walk over values and everything they hold.

    An object that is met again becomes a reference to its first place, so that cycles end.
    """

    def __init__(self, numbers: bool = False) -> None:
        self.objects: list[_Object] = []
        self._numbers = numbers
        self._seen: dict[int, tuple[int, Any]] = {}
        self._modules: set[tuple[int, frozenset[str]]] = set()
        self._count = 0

    def __call__(self, value: Any) -> Hashable:
        self._count += 1
        if self._count > _MOST:
            raise _NotUnderstood
        if isinstance(value, _PLAIN):
            return _plain(value)
        if type(value) not in _FREQUENT:
            if isinstance(value, np.dtype) or _names_dtype(value):
                return "dtype", jnp.dtype(value).name  # jnp.float32, np.float32 and the dtype are one
            if isinstance(value, type) and not _is_users(value.__module__):
                return self._itself(value)
            if isinstance(value, (np.ndarray, np.generic, jax.Array)):
                return _array(value)
            if isinstance(value, Key):
                if not value.usable:
                    raise _NotUnderstood
                self.objects += value._objects
                return value._parts
        if id(value) in self._seen:
            return "again", self._seen[id(value)][0]
        # the value is kept alive, so that its id is not used again
        self._seen[id(value)] = len(self._seen), value
        return self._parts(value)

    def _parts(self, value: Any) -> Hashable:
        if type(value) is tuple:
            return _TUPLE, *map(self, value)
        if type(value) is types.FunctionType:
            return self._function(value)
        describe = getattr(type(value), "_identity_", None)
        if not self._numbers:
            describe = getattr(type(value), "_program_identity_", describe)
        if describe is not None and (parts := describe(value)) is not None:
            return type(value).__qualname__, self(parts)
        if isinstance(value, tuple):
            return self._itself(type(value)), *map(self, value)
        if isinstance(value, list):
            return list, *map(self._element, value)
        if isinstance(value, (types.MappingProxyType, dict)):
            return "mapping", *((self(name), self(item)) for name, item in value.items())
        if isinstance(value, (set, frozenset)):
            return type(value), frozenset(map(self, value))
        if isinstance(value, _BY_VALUE):
            return type(value), value
        for kind, attributes in _MADE_OF.items():
            if isinstance(value, kind):
                return kind, *(self(getattr(value, name)) for name in attributes)
        if isinstance(value, types.ModuleType):
            return self._module(value, frozenset())
        if isinstance(value, type):
            above: Any = type(value)
            bases = (*value.__mro__, *above.__mro__)
            return self._itself(value), self(_shared(b for b in bases if _is_users(b.__module__)))
        return self._object(value)

    def _element(self, value: Any) -> Hashable:
        """An element of a list. A tracer in it was left by an earlier trace, and means nothing now."""
        if isinstance(value, jax.core.Tracer):
            return "tracer", value.shape, str(value.dtype)
        return self(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        remembered = self._remembered(function)
        if _library(function.__globals__.get("__name__")):
            return "made by", self._itself(function.__code__), *remembered
        held = self(function.__dict__) if function.__dict__ else None
        return self._itself(function), *remembered, held, *self._globals(function)

    def _remembered(self, function: types.FunctionType) -> tuple[Hashable, ...]:
        """What a function closes over, and its defaults."""
        parts: list[Hashable] = []
        names = _names(function.__code__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                contents = cell.cell_contents
            except ValueError:  # an empty cell: a name that is not bound yet
                parts.append("empty")
            else:
                parts.append(self._named(contents, names, name, function.__code__))
        return *parts, self(function.__defaults__), self(function.__kwdefaults__)

    def _globals(self, function: types.FunctionType) -> Iterator[Hashable]:
        """The module variables that a user's function, or one defined in it, refers to."""
        names = _names(function.__code__)
        for name in sorted(names):
            if name in function.__globals__:
                value = function.__globals__[name]
                yield name, self._named(value, names, name, function.__code__)
            elif name in sys.modules:  # imported inside the function
                yield name, self._module(sys.modules[name], names)

    def _named(
        self, value: Any, names: frozenset[str], name: str, code: types.CodeType | None = None
    ) -> Hashable:
        """A value that code with these names refers to by `name`."""
        if not isinstance(value, types.ModuleType):
            return self(value)
        if code is not None and _is_users(value.__name__) and name in used_whole(code):
            raise _NotUnderstood  # what is taken from it, once it is handed on, is not known
        return self._module(value, names)

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> Hashable:
        """A module; of the user's, what code with these names may take from it."""
        if not _is_users(module.__name__):
            return "module", module.__name__
        if not names:
            raise _NotUnderstood
        if (id(module), names) in self._modules:
            return "again", module.__name__
        self._modules.add((id(module), names))
        taken = sorted(names & vars(module).keys())
        return (
            "module",
            module.__name__,
            *((name, self._named(vars(module)[name], names, name)) for name in taken),
        )

    def _object(self, value: Any) -> Hashable:
        """An object of no kind that is known here: itself, and what it and its classes hold."""
        wrapped = getattr(value, "__wrapped__", None)  # of jax.jit and jax.custom_jvp
        if wrapped is not None:
            module = getattr(wrapped, "__globals__", {})
            if _library(module.get("__name__")) and not getattr(wrapped, "__closure__", None):
                return self._itself(value)
            return self._itself(value), self(wrapped)
        if _library(type(value).__module__) and not dataclasses.is_dataclass(value):
            return self._itself(value)
        above = [base for base in type(type(value)).__mro__ if _is_users(base.__module__)]
        bases = [*(base for base in type(value).__mro__ if base.__module__ not in _BASIC), *above]
        shared = _shared(base for base in bases if not _library(base.__module__))
        return self._itself(value), self(getattr(value, "__dict__", {}) | _slots(value) | shared)

    def _itself(self, thing: Any) -> Hashable:
        try:
            reference = _Object(thing)
        except TypeError:
            if isinstance(thing, (types.BuiltinFunctionType, np.ufunc, types.CodeType)):
                return id(thing)  # it belongs to a module and is never freed
            raise _NotUnderstood from None
        self.objects.append(reference)
        return reference


def _names_dtype(value: Any) -> bool:
    """Whether a value is a type of NumPy's or JAX' that stands for a dtype, such as jnp.float32."""
    if not isinstance(value, type):
        return False
    known = _library(value.__module__) and isinstance(getattr(value, "dtype", None), np.dtype)
    return known or issubclass(value, np.generic)


def _shared(bases: Iterable[type]) -> dict[str, Any]:
    """What classes hold for their objects."""
    return {
        f"{base.__qualname__}.{name}": thing
        for base in bases
        for name, thing in vars(base).items()
        if name == "__call__" or not (name.startswith("__") or _describes(name, thing))
    }


def _describes(name: str, thing: Any) -> bool:
    """Whether an attribute of a class says only where its objects have a value."""
    is_place = isinstance(thing, types.MemberDescriptorType) or type(thing).__name__ == "_tuplegetter"
    return is_place or name == "_abc_impl"


def _slots(value: Any) -> dict[str, Any]:
    """What an object holds in ``__slots__``."""
    return {
        name: getattr(value, name)
        for base in type(value).__mro__
        for name, thing in vars(base).items()
        if isinstance(thing, types.MemberDescriptorType) and hasattr(value, name)
    }


@functools.cache
def _is_users(module: Any) -> bool:
    """Whether a module is neither of a library that is known here nor of Python's own."""
    name = str(module).split(".", 1)[0]
    return name not in _LIBRARIES and name not in sys.stdlib_module_names


def _library(module: Any) -> bool:
    return isinstance(module, str) and module.split(".", 1)[0] in _LIBRARIES


def _names(code: types.CodeType) -> frozenset[str]:
    """The names of globals and attributes that code, and the functions made inside it, refer to."""
    names = frozenset(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


@functools.lru_cache(maxsize=1024)
def used_whole(code: types.CodeType) -> frozenset[str]:
    """The names that code, or a function made inside it, uses otherwise than to take an attribute."""
    steps = [*dis.get_instructions(code)]
    loads = [(step, after) for step, after in itertools.pairwise(steps) if step.opname in _LOADS]
    found = frozenset(s.argval for s, after in loads if after.opname not in ("LOAD_ATTR", "LOAD_METHOD"))
    return found.union(*(used_whole(c) for c in code.co_consts if isinstance(c, types.CodeType)))


_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")


def _array(array: Any) -> Hashable:
    """The type, shape and a hash of the values of an array."""
    if isinstance(array, jax.core.Tracer):
        raise _NotUnderstood
    dtype, weak = array.dtype, getattr(array, "weak_type", False)
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    if values.dtype.hasobject:
        raise _NotUnderstood
    kind = "jax" if isinstance(array, jax.Array) else "numpy"
    return kind, str(dtype), weak, values.shape, hashlib.sha256(values.tobytes()).hexdigest()
