"""What loaders of other libraries need: their batches taken apart, and their states kept as JSON."""

import base64
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.train.data import check_pair

Json: TypeAlias = Any

_DEEPEST = 100  # parts within parts of a loader's state, of which JSON takes several levels each


class Stateful(Protocol):
    """A loader that says where it is, and goes on from there when it is iterated over next."""

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration at hand is, as torchdata's StatefulDataLoader says it."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Where the next iteration begins."""


def is_stateful(loader: object) -> TypeGuard[Stateful]:
    """Whether a loader has a state of its own, beside that of its iterators, that brings it back.

    That of torchdata's (0.11) does not if it is given a generator and has no workers: at the end of an
    epoch it forgets a number that was drawn, and the epochs that follow are others. That loader is
    passed over again, as one without a state, which is checked.
    """
    forgets = getattr(loader, "generator", None) is not None and getattr(loader, "num_workers", 1) == 0
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict") and not forgets


def check_no_dataset(name: str, data: object) -> None:
    """Refuse a data set of Hugging Face, which gives rows as Python's numbers, with what to write."""
    kind = type(data)
    if kind.__module__.split(".")[0] != "datasets" or not hasattr(data, "with_format"):
        return
    if isinstance(data, Mapping):
        splits = ", ".join(map(repr, list(data)[:8]))
        raise TypeError(f"{name} is a datasets.{kind.__name__} of {splits}: give batches of one of them")
    names = [*(getattr(data, "column_names", None) or ()), "x", "y"][:2]
    order = ".shuffle(seed=epoch)" if name == "data" else ""
    raise TypeError(
        f"{name} is a datasets.{kind.__name__}, whose rows are Python's numbers: give its batches, "
        f"{name}=lambda epoch: dataset{order}.with_format('numpy').iter(batch_size=32), and "
        + (_taking(names) if name != "x" else f"batch=lambda b: b[{names[0]!r}]")
    )


def check_batch(batch: Callable[[Any], PyTree] | None, *, loads: bool) -> None:
    """Refuse to take batches apart where there is no loader that makes them."""
    if batch is not None and not loads:
        raise ValueError(
            f"batch={batch!r} takes the batches of a loader apart, and the data are arrays: give the "
            "parts themselves, such as (data['x'], data['y'])"
        )


def taken_apart(batch: Callable[[Any], PyTree] | None, made: Any, name: str, *, pairs: bool) -> PyTree:
    """What a loader made, as `batch` says.

    Raises:
      TypeError: it is a dict, where a pair is needed and nobody says what its parts are; `batch` did not
        return a pair there, or returned nothing.
      ValueError: `batch` did not find what it looked for.
    """
    if batch is None:
        if pairs and isinstance(made, Mapping):
            names = list(made)
            raise TypeError(
                f"{name} must give pairs (x, y) or (x, y, weights), got a {type(made).__name__} of "
                f"{', '.join(map(repr, names))}: say which are which, {_taking([*names, 'x', 'y'][:2])}"
            )
        return made
    try:
        taken = batch(made)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        has = f" of {', '.join(map(repr, made))}" if isinstance(made, Mapping) else ""
        raise ValueError(
            f"batch={batch!r} failed with {type(error).__name__}: {error}, for a batch of {name}, a "
            f"{type(made).__name__}{has}"
        ) from error
    if pairs:
        check_pair(taken, f"what batch={batch!r} returns", is_batch=True)
    elif taken is None:
        raise TypeError(f"what batch={batch!r} returns must be a batch of arrays, got NoneType")
    return taken


def _taking(names: list[str]) -> str:
    return f"batch=lambda b: (b[{names[0]!r}], b[{names[1]!r}])"


def to_json(state: Any, name: str, *, depth: int = 0) -> Json:
    """The state of a loader as JSON, which `from_json` makes the same of again; nothing is pickled.

    Args:
      state: dicts, lists and tuples of numbers, text, bytes, None, arrays and scalars of
        NumPy, and tensors of torch that NumPy has a dtype for.
      name: the loader, for errors.
      depth: how deep within a state this is.

    Raises:
      TypeError: anything else in it, of subclasses too, which would come back as another type.
      ValueError: it nests more than 100 deep, as one that holds itself does.

    >>> from_json(to_json({"at": (1, 2.5), 3: b"bytes"}, "data"))
    {'at': (1, 2.5), 3: b'bytes'}
    """
    if depth > _DEEPEST:
        raise ValueError(
            f"{name} has a state that nests more than {_DEEPEST} deep, or holds itself, which "
            "checkpoint= does not keep: give a flatter one, or a function from the epoch to its batches"
        )
    within = functools.partial(to_json, name=name, depth=depth + 1)
    if type(state) in (bool, int, float, str, type(None)):
        return state
    if type(state) is bytes:
        return {"bytes": _text(state)}
    if type(state) in (list, tuple):
        return {type(state).__name__: [within(part) for part in state]}
    if type(state) is dict:
        return {"dict": [[within(key), within(part)] for key, part in state.items()]}
    kind = f"{type(state).__module__}.{type(state).__qualname__}"
    is_torch = kind == "torch.Tensor"
    array = _numpy_of(state) if is_torch else state
    is_scalar = isinstance(array, np.generic)
    if (is_scalar or type(array) is np.ndarray) and array.dtype.kind in "biuf":
        parts = [array.dtype.str, list(array.shape), _text(array.tobytes())]
        return {"scalar" if is_scalar else "tensor" if is_torch else "array": parts}
    if is_torch:
        kind += f" of {state.dtype}" + " that requires a gradient" * state.requires_grad
    raise TypeError(
        f"{name} has a state with a {kind} in it, which "
        "checkpoint= does not keep, as nothing is pickled: leave it out of what its state_dict() or "
        "get_state() returns, make it a plain dict, list, tuple, number or text there, or give a "
        "function from the epoch to its batches"
    )


def from_json(state: Json) -> Any:
    """The state that `to_json` wrote."""
    if not isinstance(state, Mapping):
        return state
    ((kind, parts),) = state.items()
    if kind == "bytes":
        return base64.b64decode(parts)
    if kind == "dict":
        return {from_json(key): from_json(part) for key, part in parts}
    if kind in ("list", "tuple"):
        made = map(from_json, parts)
        return list(made) if kind == "list" else tuple(made)
    dtype, shape, text = parts
    array = np.frombuffer(base64.b64decode(text), dtype).reshape(shape).copy()
    if kind == "array":
        return array
    if kind == "scalar":
        return array[()]
    import torch

    return torch.from_numpy(array)


def _numpy_of(tensor: Any) -> Any:
    """A tensor of torch as an array; None where NumPy cannot hold it, such as of bfloat16."""
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):
        return None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
