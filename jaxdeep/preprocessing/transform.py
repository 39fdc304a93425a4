"""What transforms of numbers are, three pure functions, and how a preprocessor says how it was made."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

from jaxdeep._identity import is_same
from jaxdeep._shapes import Array, ArrayLike, PyTree

P = ParamSpec("P")
T = TypeVar("T")
Kind = TypeVar("Kind", bound=type)


class Made(NamedTuple):
    """How a preprocessor was made.

    Attributes:
      factory: the function that made it.
      arguments: those that are not at their defaults.
      state: the kind of the states that its `fit` returns.
      functions: what was made.
    """

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]
    state: type
    functions: tuple[Any, ...]

    def __repr__(self) -> str:
        arguments = (f"{n}={getattr(v, '__name__', None) or repr(v)}" for n, v in self.arguments.items())
        return f"{self.factory.__name__}({', '.join(arguments)})"


def fits(state: type) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator of factories: what they make says how it was made, and which states it fits.

    It says so by its function `transform`, so that the preprocessor itself stays a tuple of functions.

    >>> import jaxdeep as jd
    >>> jd.preprocessing.robust_scaler(clip=3.0)
    robust_scaler(clip=3.0)
    """

    def of(make: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(make)

        @functools.wraps(make)
        def made(*args: P.args, **kwargs: P.kwargs) -> T:
            functions: Any = make(*args, **kwargs)
            bound = signature.bind(*args, **kwargs).arguments
            arguments = {
                n: v for n, v in bound.items() if not is_same(v, signature.parameters[n].default)
            }
            functions.transform.made = Made(made, arguments, state, tuple(functions))
            return functions

        return made

    return of


def made_of(preprocessor: Any) -> Made | None:
    """How a preprocessor was made; None for what no factory of jaxdeep made just so."""
    made = getattr(getattr(preprocessor, "transform", None), "made", None)
    if made is None or any(one is not other for one, other in zip(preprocessor, made.functions)):
        return None
    return made


def described(kind: Kind) -> Kind:
    """A decorator of kinds of preprocessors: they are shown, and compared, by how they were made."""

    def shown(preprocessor: Any) -> str:
        made = made_of(preprocessor)
        return f"{kind.__name__}({', '.join(preprocessor._fields)})" if made is None else repr(made)

    def identity(preprocessor: Any) -> tuple[object, ...] | None:
        made = made_of(preprocessor)
        return None if made is None else (made.factory.__qualname__, made.arguments)

    for name, method in (("__repr__", shown), ("_identity_", identity)):
        setattr(kind, name, method)
    return kind


@described
class Transform(NamedTuple):
    """A transform of numbers: pure functions over a state that is a pytree of arrays.

    Attributes:
      fit: ``(x) -> state``.
      transform: ``(state, x) -> y``.
      inverse_transform: ``(state, y) -> x``.
    """

    fit: Callable[[ArrayLike], PyTree]
    transform: Callable[[PyTree, ArrayLike], Array]
    inverse_transform: Callable[[PyTree, ArrayLike], Array]
