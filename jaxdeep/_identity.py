"""Keys that tell whether two computations are the same, without running or tracing them.

A compiled program may be used again for another model, loss or optimizer only if these do exactly what
the first ones did. `key_of` makes keys that are equal only in this case:

* Values (numbers, names, arrays, containers of such) are compared by value and type.
* A layer or an optimizer of jaxdeep is compared by its description, which ``_identity_()`` returns.
* A closure made by a function of JAX, optax, Flax or jaxdeep is compared by the ``def`` it comes from
  and the values it closes over, so that ``optax.chain`` of equal transformations is equal.
* A function, class or object of the user's is equal only to itself, a function while it has the code
  that it had. The values that it closes over, holds and refers to, in its own module and in others of
  the user's, must also be the same as before, so that after a constant was changed in a notebook, a
  function that uses it has another key. A number or container of a class of the user's is what it
  contains, and all that its class holds.

A wrong match would be a silent wrong answer, while a missed one only costs a compilation. Therefore a
value that is not understood makes a key that equals no other. Keys hold users' objects weakly and keep
neither data nor parameters alive.
"""

import functools
import hashlib
import os
import sys
import types
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Generic

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._code import ABOUT, ELSEWHERE, attributes_in, globals_in, imports, names_in, used_whole

_LIBRARIES = frozenset({"jaxdeep", "jax", "jaxlib", "optax", "flax", "chex", "numpy", "equinox"})
JITTED: Any = type(jax.jit(lambda: None))
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented))
_BY_VALUE = (jax.sharding.Sharding, jax.sharding.Mesh, jax.ShapeDtypeStruct)
MADE_OF: dict[type, tuple[str, ...]] = {  # kinds that are compared by these attributes
    functools.partial: ("func", "args", "keywords"),
    functools.cached_property: ("func",),
    types.MethodType: ("__func__", "__self__"),
    np.vectorize: ("pyfunc", "otypes", "excluded", "signature"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget",),
}
# modules whose functions give something else each time
_HIDDEN = frozenset({"numpy.random", "random", "secrets", "time"})
OF_C = (  # functions and methods of classes that are written in C
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
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
_BARE = frozenset({tuple, list, dict, types.MappingProxyType, set, frozenset})  # which hold nothing else


class _NotUnderstood(Exception):
    """Raised for a value that cannot be compared with another one."""


def key_of(*values: Any, numbers: bool = False, arguments: frozenset[int] | None = None) -> Key:
    """The key of a computation that is described by these values.

    A compiled program is given the hyperparameters that an optimizer's state starts from as arguments.
    They count only where code refers to a name ``init``, and so may begin an optimizer inside of the
    program, which makes them its constants.

    Args:
      values: what it depends on besides its arguments.
      numbers: whether such hyperparameters count in any case.
      arguments: the ids of the objects whose hyperparameters are arguments; those of all others count.

    >>> import optax, jaxdeep as jd
    >>> key_of(optax.adam(0.1)) == key_of(optax.adam(0.1)), key_of(1) == key_of(1.0)
    (True, False)
    >>> key_of(lambda x: x) == key_of(lambda x: x)
    False
    """
    walk = _Walk(numbers, arguments)
    try:
        parts: Hashable = tuple(map(walk, values))
        hash(parts)
    except Exception:  # of many kinds: what users' objects hold is found by asking them
        return Key((), (), usable=False)
    if walk.leaves_out and walk.begins and arguments is None:
        return key_of(*values, numbers=True)
    return Key(parts, tuple(walk.objects), usable=True)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values have equal keys.

    >>> is_same(1, 1), is_same(1, True), is_same(0.0, -0.0), is_same([1], [1]), is_same(1, [1])
    (True, False, False, True, False)
    """
    if type(one) in _PLAIN and type(other) in _PLAIN:
        return _plain(one) == _plain(other)
    return key_of(one) == key_of(other)


def _plain(value: Any) -> Hashable:
    """A plain value with its type: 0.0 and -0.0, 1 and True, and NaN are told apart by type and text."""
    return type(value), repr(value) if isinstance(value, (float, complex)) else value


class _Walk:
    """A walk over values and everything they hold.

    An object that is met again becomes a reference to its first place, so that cycles end.
    """

    def __init__(self, numbers: bool = False, arguments: frozenset[int] | None = None) -> None:
        self.objects: list[_Object] = []
        self.leaves_out = False  # hyperparameters of an optimizer
        self.begins = False  # whether there is code that may call an optimizer's init
        self._numbers, self._arguments = numbers, arguments
        self._seen: dict[int, tuple[int, Any]] = {}
        self._modules: set[tuple[int, frozenset[str], frozenset[str]]] = set()
        self._count = 0

    def __call__(self, value: Any) -> Hashable:
        self._count += 1
        if self._count > _MOST:
            raise _NotUnderstood
        if type(value) in _PLAIN:
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
            return (_TUPLE, *map(self, value))
        if type(value) is types.FunctionType:
            return self._function(value)
        describe = of_class(value, "_identity_")
        if not self._numbers and (self._arguments is None or id(value) in self._arguments):
            without_numbers = of_class(value, "_program_identity_")
            self.leaves_out |= without_numbers is not None
            describe = without_numbers or describe
        if describe is not None and (parts := describe(value)) is not None:
            return type(value).__qualname__, self(parts)
        if isinstance(value, types.ModuleType):
            return self._module(value, frozenset(), frozenset())
        if isinstance(value, type):
            above: Any = type(value)
            return self._itself(value), self(_shared((*value.__mro__, *above.__mro__)))
        contents, kind = self._contents(value), type(value)
        if contents is None:
            return self._object(value)
        if isinstance(value, tuple) and not _is_users(kind.__module__):
            return self._itself(kind), contents
        if kind in _BARE or kind in MADE_OF or _library(kind.__module__):
            return contents
        return self._itself(kind), contents, self._held(value)

    def _contents(self, value: Any) -> Any:
        """What a value of a known kind contains; None for another one."""
        if isinstance(value, tuple):
            return tuple, *map(self, value)
        if isinstance(value, list):
            return list, *map(self._element, value)
        if isinstance(value, (types.MappingProxyType, dict)):
            return "mapping", *((self(name), self(item)) for name, item in value.items())
        if isinstance(value, (set, frozenset)):
            return "set", frozenset(map(self, value))
        if isinstance(value, _BY_VALUE):
            return type(value), value
        for kind, attributes in MADE_OF.items():
            if isinstance(value, kind):
                return kind, *(self(getattr(value, name)) for name in attributes)
        for kind in _PLAIN:
            if isinstance(value, kind):
                text: Any = kind.__repr__  # that of the class itself, which shows all of the value
                return kind, text(value)
        return None

    def _element(self, value: Any) -> Hashable:
        """An element of a list. A tracer in it was left by an earlier trace, and means nothing now."""
        if isinstance(value, jax.core.Tracer):
            return "tracer", value.shape, str(value.dtype)
        return self(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        self.begins |= "init" in names_in(function.__code__)
        remembered = self._remembered(function)
        if not _is_users(function.__globals__.get("__name__")):
            return "made by", self._itself(function.__code__), *remembered
        if ELSEWHERE & names_in(function.__code__):
            raise _NotUnderstood
        held = self(function.__dict__) if function.__dict__ else None
        # the code of a function may be replaced in place, as IPython's %autoreload 2 does
        its_code = self._itself(function), self._itself(function.__code__)
        return *its_code, *remembered, held, *self._globals(function)

    def _remembered(self, function: types.FunctionType) -> tuple[Hashable, ...]:
        """What a function closes over, and its defaults."""
        parts: list[Hashable] = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                contents = cell.cell_contents
            except ValueError:  # an empty cell: a name that is not bound yet
                parts.append("empty")
            else:
                parts.append(self._variable(function.__code__, name, contents))
        return *parts, self(function.__defaults__), self(function.__kwdefaults__)

    def _globals(self, function: types.FunctionType) -> Iterator[Hashable]:
        """The variables of its module that a user's function refers to, and what it imports itself."""
        for name in sorted(globals_in(function.__code__) & function.__globals__.keys()):
            yield name, self._variable(function.__code__, name, function.__globals__[name])
        for name, module, taken in imports(function):
            if not _is_users(module):
                is_asked = (name, "random") in attributes_in(function.__code__)
                if {module, f"{module}.{taken}", f"{module}.random" if is_asked else ""} & _HIDDEN:
                    raise _NotUnderstood
                yield module, taken
                continue
            if (loaded := sys.modules.get(module)) is None:
                raise _NotUnderstood
            yield name, self._variable(function.__code__, name, taken_from(loaded, taken))

    def _variable(self, code: types.CodeType, name: str, value: Any) -> Hashable:
        # an init that code holds by itself may be called by any name
        self.begins |= of_class(value, "_program_identity_") is not None
        if isinstance(value, types.ModuleType) and (name, "random") in attributes_in(code):
            self._refuse_hidden(getattr(value, "random", None))
        return self._named(name, value, names_in(code), used_whole(code))

    def _named(self, name: str, value: Any, names: frozenset[str], whole: frozenset[str]) -> Hashable:
        """A value that code calls `name`, which refers to these names, and to some as a whole."""
        if not isinstance(value, types.ModuleType):
            return self(value)
        # what is taken from a module that is handed on is not known
        return self._module(value, frozenset() if name in whole else names, whole)

    def _module(
        self, module: types.ModuleType, names: frozenset[str], whole: frozenset[str]
    ) -> Hashable:
        """A module; what code with these names may take from it, of a library the functions."""
        self._refuse_hidden(module)
        if not _is_users(module.__name__):
            return "module", module.__name__, *self._functions_of(module, names)
        if not names:
            raise _NotUnderstood
        if (id(module), names, whole) in self._modules:
            return "again", module.__name__
        self._modules.add((id(module), names, whole))
        members = vars(module)
        taken = sorted((names | {"__getattr__"}) & members.keys())
        parts = ((name, self._named(name, members[name], names, whole)) for name in taken)
        return "module", module.__name__, *parts

    def _functions_of(self, module: types.ModuleType, names: frozenset[str]) -> Iterator[Hashable]:
        """The functions of a library's module with these names, one of which may be replaced."""
        if (id(module), names, frozenset()) in self._modules:
            return
        self._modules.add((id(module), names, frozenset()))
        members = vars(module)
        for name in sorted(names & members.keys()):
            if isinstance(member := members[name], types.ModuleType):
                yield name, *self._functions_of(member, names)
            elif isinstance(member, (types.FunctionType, JITTED)):
                yield name, self._itself(member)

    def _refuse_hidden(self, module: Any) -> None:
        """Refuse a module whose functions give something else each time, such as random numbers."""
        if isinstance(module, types.ModuleType) and module.__name__ in _HIDDEN:
            raise _NotUnderstood

    def _object(self, value: Any) -> Hashable:
        """An object of no kind that is known here: itself, and what it and its classes hold."""
        kind = type(value)
        if isinstance(value, OF_C):
            owner = getattr(value, "__self__", None)
            is_method = owner is not None and not isinstance(owner, types.ModuleType)
            return self._itself(value), self(owner) if is_method else None
        wrapped = None if _is_users(kind.__module__) else getattr(value, "__wrapped__", None)
        if wrapped is not None:  # of jax.jit and jax.custom_jvp
            module = getattr(wrapped, "__globals__", {})
            if _library(module.get("__name__")) and not getattr(wrapped, "__closure__", None):
                return self._itself(value)
            held = {name: v for name, v in vars(value).items() if name[0] != "_"}
            return self._itself(value), self(wrapped), self(held)
        if _is_nnx(kind) or (isinstance(value, np.ufunc) and not _is_known(value)):
            raise _NotUnderstood
        if is_of_attributes(kind):
            return self._itself(value), self._held(value)
        if not _library(kind.__module__):
            raise _NotUnderstood
        return self._itself(value)

    def _held(self, value: Any) -> Hashable:
        """What an object holds, and what its classes hold for it."""
        kind = type(value)
        shared = _shared((*kind.__mro__, *type(kind).__mro__))
        return self(getattr(value, "__dict__", {}) | _slots(value) | shared)

    def _itself(self, thing: Any) -> Hashable:
        try:
            reference = _Object(thing)
        except TypeError:
            if isinstance(thing, (*OF_C, np.ufunc, types.CodeType)):
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
    """What classes of the user's hold for their objects."""
    return {
        f"{place}.{name}": thing
        for place, base in enumerate(bases)
        if _is_users(base.__module__)
        for name, thing in vars(base).items()
        if not (name in ABOUT or _is_place(thing))
    }


def _is_place(thing: Any) -> bool:
    """Whether an attribute of a class says only where its objects have a value."""
    return isinstance(thing, _PLACES) or type(thing).__name__ == "_tuplegetter"


_PLACES = (types.MemberDescriptorType, types.GetSetDescriptorType)


def is_of_attributes(kind: type) -> bool:
    """Whether all that objects of a class hold is in attributes, since no base is written in C."""
    return not any(any(_is_of_c(base)) for base in kind.__mro__ if base not in (object, Generic))


def _is_of_c(kind: type) -> Iterator[bool]:
    """Of what a class holds, whether it is written in C for this class."""
    for thing in vars(kind).values():
        if isinstance(thing, OF_C):
            yield kind in (getattr(thing, "__objclass__", None), getattr(thing, "__self__", None))


def of_class(value: Any, name: str) -> Any:
    """What the class of a value has by this name, whatever a metaclass may answer; None if nothing."""
    return next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), None)


def taken_from(module: types.ModuleType, name: str | None) -> Any:
    """What an import takes from a module: a variable, a module inside it, or all of it."""
    if name is None:
        return module
    inner = sys.modules.get(f"{module.__name__}.{name}")
    return getattr(module, name, inner)


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
    if name in _LIBRARIES or name not in sys.stdlib_module_names:
        return name not in _LIBRARIES
    file = getattr(sys.modules.get(name), "__file__", None)  # a file of the user's may have the name
    return file is not None and not file.startswith(os.path.dirname(os.__file__))


def _library(module: Any) -> bool:
    return isinstance(module, str) and module.split(".", 1)[0] in _LIBRARIES


def _is_nnx(kind: type) -> bool:
    """Whether it is a class of Flax NNX or made of one, whose variables may change in place."""
    return any(c.__module__.startswith("flax.nnx") for c in kind.__mro__)


def _is_known(function: np.ufunc) -> bool:
    """Whether it is one of NumPy's or SciPy's by its name, and not made of a function of Python's."""
    modules = (sys.modules.get(name) for name in ("numpy", "scipy.special"))
    return any(getattr(module, function.__name__, None) is function for module in modules)


def _array(array: Any) -> Hashable:
    """The type, shape and a hash of the values of an array."""
    if isinstance(array, jax.core.Tracer) or _is_users(type(array).__module__):
        raise _NotUnderstood
    if isinstance(array, np.ma.MaskedArray):
        return "masked", *map(_array, (array.data, array.mask, array.fill_value))
    dtype, weak = array.dtype, getattr(array, "weak_type", False)
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    if values.dtype.hasobject:
        raise _NotUnderstood
    kind = "jax" if isinstance(array, jax.Array) else "numpy"
    return kind, str(dtype), weak, values.shape, hashlib.sha256(values.tobytes()).hexdigest()
