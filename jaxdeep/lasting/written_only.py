"""Names that code only writes to, such as a counter, on which nothing that it computes depends."""

import dis
import itertools
import types
from collections.abc import Iterable

from jaxdeep._code import inside

_LOADS = (
    *("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD"),
    "LOAD_FROM_DICT_OR_DEREF",
)
_STORES = ("STORE_GLOBAL", "STORE_DEREF", "STORE_NAME", "STORE_ATTR")
_CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT")
# These methods return None, so that nothing is read by them.
_ADDING = frozenset({"append", "extend", "insert", "add", "update", "clear"})
_MOVING = frozenset({"COPY", "SWAP", "CACHE"})  # what stands between parts of ``self.calls += 1``
# By these, attributes are read of which the code does not have the names.
_READING_ALL = frozenset({"__dict__", "vars", "getattr", "asdict", "astuple", "fields", "replace"})


def written_only(codes: Iterable[types.CodeType]) -> frozenset[str]:
    """The names of globals, closed-over variables and attributes that all of this code only writes to.

    That is, each time that a name is read, something is appended to it (``calls.append(x)``), or added
    to it and the sum bound to it again (``calls += 1``, ``calls["loss"] += 1``).

    >>> calls, weights = [], [1.0]
    >>> def loss(x):
    ...     calls.append(1)
    ...     return weights[0] * x
    >>> "calls" in written_only([loss.__code__]), "weights" in written_only([loss.__code__])
    (True, False)
    """
    written, read = set[str](), set[str]()
    for code in inside(codes):
        # A constant may be the name in getattr(object, "name").
        read.update(c for c in code.co_consts if isinstance(c, str))
        read.update(_READING_ALL & {*code.co_names})
        steps = [i for i in dis.get_instructions(code) if i.opname not in _MOVING]
        for i, step in enumerate(steps):
            if step.opname in _LOADS:
                (written if _is_written(steps[i:]) else read).add(str(step.argval))
    return frozenset() if read & _READING_ALL else frozenset(written - read)


def rebound(code: types.CodeType) -> frozenset[str]:
    """The variables of others that code binds anew.

    >>> def count():
    ...     global calls
    ...     calls = 1
    >>> sorted(rebound(count.__code__))
    ['calls']
    """
    steps = (step for inner in inside([code]) for step in dis.get_instructions(inner))
    return frozenset(str(step.argval) for step in steps if step.opname in _STORES)


def _is_written(steps: list[dis.Instruction]) -> bool:
    """Whether what comes after a name is read only adds to what it names."""
    first, *rest = steps
    if rest and rest[0].opname in ("LOAD_ATTR", "LOAD_METHOD"):
        return rest[0].argval in _ADDING
    # Matches ``calls["n"] += 1``.
    if len(rest) > 4 and rest[0].opname in _CONSTANTS and _is_subscript(rest[1]):
        names = [step.opname for step in rest[3:5]]
        is_added = rest[2].opname in _CONSTANTS and rest[3].argrepr == "+="
        return is_added and names == ["BINARY_OP", "STORE_SUBSCR"]
    depth = 1  # of the stack, from what was read on
    for step, after in itertools.pairwise(rest):
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            return False
        depth += dis.stack_effect(step.opcode, step.arg, jump=False)
        if depth <= 1:
            is_added = step.opname == "BINARY_OP" and step.argrepr == "+=" and after.opname in _STORES
            return depth == 1 and is_added and after.argval == first.argval
    return False


def _is_subscript(step: dis.Instruction) -> bool:
    return step.opname == "BINARY_SUBSCR" or (step.opname == "BINARY_OP" and step.argrepr == "[]")
