"""How optimizers, schedules, penalties and metrics were made: the call of their factory, for saving."""

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Call(NamedTuple):
    """The call of a factory.

    Attributes:
      factory: the function as its namespace shows it.
      positional, keywords: what it was called with.
    """

    factory: Callable[..., Any]
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]


# By the identity of a function that was made: an attribute of it would change what journals know it by.
_calls: dict[int, tuple[tuple[weakref.ref[Any], ...], Call]] = {}


def remembered(factory: Callable[P, T]) -> Callable[P, T]:
    """A decorator of factories of functions, or of tuples of functions, whose calls `call_of` tells.

    >>> import jaxdeep as jd
    >>> call = call_of(jd.optimizers.sgd(0.1, momentum=0.9))
    >>> call.factory is jd.optimizers.sgd, call.positional, call.keywords
    (True, (0.1,), {'momentum': 0.9})
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def made(*args: P.args, **kwargs: P.kwargs) -> T:
        thing = factory(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        members = _members(thing)
        references = tuple(map(weakref.ref, members))
        _calls[id(members[-1])] = references, Call(made, bound.args, bound.kwargs)
        weakref.finalize(members[-1], _calls.pop, id(members[-1]), None).atexit = False
        return thing

    return made


def call_of(thing: Any) -> Call | None:
    """The call that made just this; None for what no such factory made.

    >>> call_of(lambda step: 0.1) is None
    True
    """
    members = _members(thing)
    references, call = _calls.get(id(members[-1]) if members else 0, ((), None))
    same = len(references) == len(members) and all(r() is m for r, m in zip(references, members))
    return call if same else None


def _members(thing: Any) -> tuple[Any, ...]:
    """What of a made thing tells it from others: of a tuple two functions, the second its alone."""
    return tuple(thing[:2]) if isinstance(thing, tuple) else (thing,)
