"""How rows enter a model: as its inputs, or as raw rows that one of its layers knows how to encode."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.array_source import ArraySource
from jaxdeep.fitting.sources import Source
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import Encodes
from jaxdeep.train.data import count_rows, tree_bytes, with_rows
from jaxdeep.train.state import Network
from jaxdeep.tree import shapes

_FILLED_BYTES = 2**30  # of a batch that is filled up, at most


def encoder_of(model: Network) -> Encodes | None:
    """What makes inputs of raw rows, if a layer of the model says how (`Traits.encodes`)."""
    if not isinstance(model, Model):
        return None
    encoders = (place.layer.traits.encodes for place in walk.every(model))
    return next((encodes for encodes in encoders if encodes is not None), None)


def rows_in(model: Network, data: Any) -> PyTree:
    """The inputs of the model: `data` themselves, or what its layer makes of raw rows, such as a frame.

    Of an iterator over frames it makes one over their inputs, each of them when it is asked for.

    >>> import jaxdeep as jd
    >>> rows_in(jd.nn.dense(1), [[1.0, 2.0]])
    [[1.0, 2.0]]
    """
    encodes = encoder_of(model)
    if encodes is None:
        return data
    if encodes.is_raw(data):
        return encodes.encode_inputs(data)
    if isinstance(data, Iterator):
        return (encodes.encode_inputs(part) if encodes.is_raw(part) else part for part in data)
    if isinstance(data, (tuple, list)) and data and encodes.is_raw(data[0]):
        raise TypeError(
            f"raw rows must be one table, such as a frame or a dict of columns, got a "
            f"{type(data).__name__} of {len(data)}: join them, as with pandas.DataFrame(rows) or "
            "pandas.concat(frames)"
        )
    if hasattr(encodes, "names") and isinstance(data, (np.ndarray, jax.Array)):  # columns of a table
        raise TypeError(
            "x must be rows of a table, such as a frame or a dict of columns, or what the model's "
            f'columns make of them, {{"numbers": …, "codes": …}}, got an array of shape {data.shape}'
        )
    return data


def examples_in(model: Network, data: Any) -> PyTree:
    """The data that the model is judged by, of raw rows that hold their targets, too.

    In a pair ``(x, y)`` or a triple ``(x, y, weights)`` words are labels of the table, and beside raw
    rows numbers are what they are in it, too, unless its labels are words: then they number the classes.
    True and False number no more than two.
    """
    encodes = encoder_of(model)
    if encodes is None:
        return data
    if encodes.is_raw(data):
        return encodes.encode(data)
    if isinstance(data, Iterator):
        return (examples_in(model, part) for part in data)
    if isinstance(data, (tuple, list)) and data:
        x, *others = data
        if others and isinstance(others[0], tuple) and all(np.ndim(one) == 0 for one in others[0]):
            others[0] = list(others[0])  # labels, and no pytree of arrays of them
        if others and (_is_text(others[0]) or (encodes.is_raw(x) and _is_of(encodes, others[0]))):
            others[0] = _encoded(encodes, others[0])
        return (rows_in(model, x), *others)
    return data


def _is_text(labels: Any) -> bool:
    """Whether labels are words, and not numbers of classes."""
    if isinstance(labels, (str, Mapping, jax.Array)):
        return False
    dtype = _dtype(labels)
    return dtype is not None and dtype.kind in "UOS"


def _dtype(labels: Any) -> np.dtype | None:
    """NumPy's dtype of a list, an array or a series of any library; None of anything else."""
    dtype = getattr(labels, "dtype", None)
    dtype = getattr(dtype, "numpy_dtype", dtype)  # of pandas' Int64
    if isinstance(dtype, np.dtype):
        return dtype
    return np.asarray(labels).dtype if isinstance(labels, list) or hasattr(labels, "__array__") else None


def _is_of(encodes: Encodes, numbers: Any) -> bool:
    """Whether numbers may be the target of the table: one a row, where its labels are numbers."""
    target = getattr(encodes, "target", None)
    if target is None or isinstance(numbers, (str, Mapping, tuple)):
        return False
    array = numbers if hasattr(numbers, "dtype") and hasattr(numbers, "shape") else np.asarray(numbers)
    if array.shape[1:] not in ((), (1,)) or array.shape == ():
        return False
    dtype = _dtype(array)
    are_truths = dtype is not None and dtype.kind == "b"
    return target.of_numbers or (are_truths and len(target.classes) > 2)


def _encoded(encodes: Encodes, labels: Any) -> Any:
    """Targets, in the shape that labels have."""
    if len(np.shape(labels)) < 2:
        return encodes.encode_labels(labels)
    return np.reshape(encodes.encode_labels(np.reshape(labels, -1)), np.shape(labels))


def labels_in(model: Network, classes: Any) -> Any:
    """Classes in the words of whoever made the raw rows; as they are, if the model knows none."""
    encodes = encoder_of(model)
    return classes if encodes is None else encodes.labels(classes)


def outputs_in(model: Network, outputs: PyTree, output: Any) -> PyTree:
    """Outputs of a model for a table whose target was standardised, in the unit of the table, float64.

    One output of one number a row, if `output` is None. All others are as they are: of several it is
    not known which is the target.
    """
    encodes: Any = encoder_of(model)
    target = getattr(encodes, "target", None)
    if output is not None or not getattr(target, "standardized", False):
        return outputs
    single = isinstance(outputs, np.ndarray) and outputs.shape[1:] in ((), (1,))
    return encodes.values(outputs) if single else outputs


def at_once(batch_size: int, source: Source) -> int:
    """The rows computed at a time: `batch_size`, unless fewer take all rows and that many a GiB.

    A smaller number of rows is filled up to it, which costs memory. It is halved, so that what divided
    it divides it still; of a loader, whose rows nobody knows, batches of its own size fit in.
    """
    rows = source.examples if isinstance(source, ArraySource) else source.batch_size
    bytes_of_row = max(tree_bytes(with_rows(source.like, 1)), 1)
    while batch_size // 2 >= rows and batch_size * bytes_of_row > _FILLED_BYTES:
        batch_size //= 2
    return max(batch_size, 1)


def check_rows(model: Network, variables: tuple[PyTree, PyTree], x: PyTree) -> None:
    """Refuse inputs that are a single row of the model, or a pair of which it takes one part alone.

    Parameters, state and inputs may be shapes.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.dense(1)
    >>> variables = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> check_rows(model, variables, jnp.ones(4))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: x must have an axis of rows in front, got shape (4,), which is that of a single row ...
    """
    like = shapes(x)
    row = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), like)
    of_all = _outputs(model, variables, like)
    if of_all is not None and all(shape[:1] == (count_rows(like),) for shape in of_all):
        return
    of_one = _outputs(model, variables, row)
    if (
        of_one
        and of_all in (None, [shape[1:] for shape in of_one])
        and {s[:1] for s in of_one} == {(1,)}
    ):
        shown = " and ".join(sorted({str(leaf.shape) for leaf in jax.tree.leaves(like)}))
        raise ValueError(
            f"x must have an axis of rows in front, got shape {shown}, which is that of a single row of "
            "the model: give x[None]"
        )
    if (part := _part_alone(model, variables, like)) is not None:
        raise TypeError(
            f"x is a {part.kind} of {part.parts}, and the model takes part {part.key!r} alone: give "
            f"x[{part.key!r}]"
        )


def check_batches(model: Network, variables: tuple[PyTree, PyTree], batch: PyTree) -> None:
    """Refuse a loader of pairs or dicts, such as of inputs and labels, of which the model takes a part.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.dense(1)
    >>> variables = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> check_batches(model, variables, (jnp.ones((8, 4)), jnp.ones(8)))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: x gives batches (x, y) that are tuples of 2, ... say batch=lambda b: b[0]
    """
    if (part := _part_alone(model, variables, shapes(batch))) is not None:
        pairs = " (x, y)" if part.key == 0 else ""
        raise TypeError(
            f"x gives batches{pairs} that are {part.kind}s of {part.parts}, and the model takes part "
            f"{part.key!r} alone: say batch=lambda b: b[{part.key!r}]"
        )


class _Part(NamedTuple):
    """A part of inputs: its key, of which kind these are, and how many parts they have."""

    key: int | str
    kind: str
    parts: int


def _part_alone(model: Network, variables: tuple[PyTree, PyTree], like: PyTree) -> _Part | None:
    """The first part of inputs that the model takes alone, where it does not take all; None if none."""
    if not isinstance(like, (tuple, list, Mapping)) or _outputs(model, variables, like) is not None:
        return None
    for key in like if isinstance(like, Mapping) else range(len(like)):
        of_part = _outputs(model, variables, like[key])
        if of_part and {shape[:1] for shape in of_part} == {(count_rows(like[key]),)}:
            return _Part(key, type(like).__name__, len(like))
    return None


def _outputs(
    model: Network, variables: tuple[PyTree, PyTree], like: PyTree
) -> list[tuple[int, ...]] | None:
    """The shapes of what the model puts out for inputs like these; None if it does not take them."""
    try:
        y = jax.eval_shape(lambda variables, x: model.apply(*variables, x)[0], variables, like)
    except Exception:  # whatever a layer raises for an input that it is not made for
        return None
    return [leaf.shape for leaf in jax.tree.leaves(y)]
