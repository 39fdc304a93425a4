"""The first layer of a network on a table: inputs of columns as one matrix, on the device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._precision import extremes
from jaxdeep._quoted import quoted
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn import initializers
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.traits import Traits, rows
from jaxdeep.tables.column import Column, Fitted
from jaxdeep.tables.conversion import FIRST, MISSING, UNKNOWN
from jaxdeep.tables.layout import Options, Piece, options, pieces
from jaxdeep.tables.target_means import folds_of, standardized

_MOST_BYTES = 2**30  # of one-hot columns over all rows


@layer
def columns(
    table: Any,
    *,
    scaling: str | None = "robust",
    clip: bool = True,
    one_hot: int = 9,
    embedding: int = 8,
    indicators: bool = True,
    encodings: Mapping[str, str] | None = None,
    embedding_init: initializers.Initializer | None = None,
) -> Layer:
    """The inputs that `Columns` makes of rows as one matrix: the first layer of a network.

    ``{"numbers": (n, p), "codes": (n, q)} -> (n, width)``, in the order of the columns and the dtype of
    the numbers. What it knows of the columns is in its state and is not trained; embeddings are
    parameters, by the names of their columns.

    * A number, and each part of a date, is ``z = (x − shift) / scale``; a missing one has the median.
      ``scaling="robust"``: the median and the distance of the quartiles, or half the range where that is
      0. ``"standard"``: mean and standard deviation. None: the median and 1. A constant becomes 0.
    * ``clip``: ``z / √(1 + (z/3)²)``, which is z near 0 and never beyond ±3.
    * A boolean, and a category of two levels, is −1 or 1, and 0 if it is neither.
    * A category of at most `one_hot` levels is a column of 0 and 1 for each level, of more an embedding
      of `embedding` numbers; so are missing and unknown cells, as levels of their own.
    * A category that the table was fitted to encode by the target (``target_encoding=``) is a number, or
      of more than two classes one for each; in training, of rows other than those like it.
    * ``indicators``: a further column, 1 where a cell is missing, for each column with holes when the
      table was fitted. Where only later rows have holes, they are filled and no more.

    Args:
      table: a `jaxdeep.tables.Columns`. ``table.layer(…)`` is ``columns(table, …)``.
      scaling, clip, one_hot, embedding, indicators: as above.
      encodings: for some columns by name, "one_hot", "embedding", "drop" or, if the table has its means,
        "target".
      embedding_init: ``(key, shape, dtype) -> array``; normal with standard deviation 0.05, as of
        `jaxdeep.nn.embedding`. Rows of which there was no example, those of unknown cells and of missing
        ones where none was missing, begin with 0.

    Raises:
      ValueError: options out of range; one-hot columns that would take more than 1 GiB for the rows of
        the table; inputs of other shapes, codes that are none, as far as they are known.
      TypeError: no fitted table; inputs of another form.

    Source: robust scaling, smooth clip and encodings of RealMLP (arXiv:2407.04491).

    >>> import jax, jaxdeep as jd
    >>> table = jd.tables.fit({"age": [20, 30, None], "city": ["Rome", "Oslo", "Bonn"]})
    >>> layer = columns(table)
    >>> inputs = table.encode_inputs({"age": [40], "city": ["Oslo"]})
    >>> params, state = layer.init(jax.random.key(0), inputs)
    >>> [round(float(z), 2) for z in layer.apply(params, state, inputs)[0][0]]
    [2.12, 0.0, 0.0, 1.0, 0.0]
    >>> table.output_names()
    ['age', 'age=missing', 'city=Bonn', 'city=Oslo', 'city=Rome']
    """
    if not hasattr(table, "features") or not hasattr(table, "encode_inputs"):
        raise TypeError(f"table must be made by jaxdeep.tables.fit, got {quoted(table)}")
    chosen = options(
        table.features,
        {
            "scaling": scaling,
            "clip": clip,
            "one_hot": one_hot,
            "embedding": embedding,
            "indicators": indicators,
            "encodings": encodings,
        },
    )
    _checks.check_functions(embedding_init=embedding_init)
    all_pieces = pieces(table.features, chosen)
    _check_bytes(table, chosen, all_pieces)
    if not all_pieces:
        raise ValueError("the table has no column that the layer puts anything out for")
    make = initializers.normal(0.05) if embedding_init is None else embedding_init
    looked_up = _looked_up(table.features, all_pieces)
    embedded = {name: held for name, held in looked_up.items() if held[0].kind == "embedding"}
    join = _joined(all_pieces)
    kept = _statistics(table.features, chosen)
    for name, (piece, column) in looked_up.items():
        if piece.kind == "target":
            kept[name] = standardized(column, table.target)
    sizes = [len(column.levels) + FIRST for column in table.features if column.coded]

    def init(key: Array, x: Any) -> tuple[Arrays, Arrays]:
        numbers, _ = _inputs(x, len(kept["scale"]), len(sizes))
        dtype = jnp.promote_types(numbers.dtype, jnp.float32)
        params = {}
        for place, (name, (piece, column)) in enumerate(embedded.items()):
            shape = piece.levels, piece.width
            column_key = jax.random.fold_in(key, place)
            vectors = initializers.draw("embedding_init", make, column_key, shape, numbers.dtype)
            learnt = np.ones((piece.levels, 1), numbers.dtype)
            learnt[MISSING], learnt[UNKNOWN] = column.missing > 0, column.unknown > 0
            params[name] = vectors * learnt
        return params, {name: jnp.asarray(value, dtype) for name, value in kept.items()}

    def apply(params: Arrays, state: Arrays, x: Any, train: Any) -> tuple[Array, Arrays]:
        numbers, codes = _inputs(x, len(kept["scale"]), len(sizes))
        for name, value in kept.items():
            _check_shape("state", name, state[name], value.shape)
        for name, (piece, _) in embedded.items():
            _check_shape("params", name, params[name], (piece.levels, piece.width))
        codes = _codes(codes, sizes)
        part: Array | int = 0
        if len(looked_up) > len(embedded) and train is not False:
            part = jnp.where(train, 1 + folds_of(numbers, codes), 0)
        vectors = [
            jnp.take(params[name], codes[:, piece.source], axis=0, mode="clip")
            if piece.kind == "embedding"
            else state[name].at[part, codes[:, piece.source]].get(mode="clip")
            for name, (piece, _) in looked_up.items()
        ]
        return join(_scaled(numbers, state, clip), numbers, codes, vectors), state

    width = sum(piece.width for piece in all_pieces)
    of_targets = any(piece.kind == "target" for piece in all_pieces)
    traits = Traits(axes=rows, features=width, encodes=table, of_targets=of_targets)
    return Layer(apply, init, traits=traits, trees=True)


def _looked_up(
    features: tuple[Column, ...], all_pieces: tuple[Piece, ...]
) -> dict[str, tuple[Piece, Column]]:
    """Embeddings by the names of their parameters, means of the target by those in the state."""
    coded = [column for column in features if column.coded]
    named: dict[str, tuple[Piece, Column]] = {}
    for piece in all_pieces:
        if piece.looked_up:
            name = wished = piece.name.replace("/", "_") or "_"
            count = 2
            while name in named:
                name, count = f"{wished}_{count}", count + 1
            named[name] = piece, coded[piece.source]
    return named


def _statistics(features: tuple[Column, ...], chosen: Options) -> dict[str, np.ndarray]:
    """What scales each of the numbers, in the units of the inputs: ``(x − shift) · scale``."""
    shift, scale = [], []
    for number in (number for column in features for number in column.numbers):
        standard = chosen.scaling == "standard"
        shift.append((number.mean - number.center) / number.unit if standard else 0.0)
        spread = number.upper / 2 - number.lower / 2
        spread = 2 * spread if spread > 0 else number.high / 2 - number.low / 2
        spread = number.std if standard else spread if chosen.scaling == "robust" else 1.0
        constant = number.high <= number.low
        scale.append(0.0 if constant or not spread > 0 else number.unit / spread)
    return {"shift": np.array(shift), "scale": np.array(scale)}


def _scaled(numbers: Array, state: Arrays, clip: bool) -> Array:
    """Numbers of about 1, in at least float32; the median where one is missing."""
    dtype = jnp.promote_types(numbers.dtype, jnp.float32)
    x = jnp.where(jnp.isnan(numbers), 0, numbers).astype(dtype)
    z = (x - state["shift"][None].astype(dtype)) * state["scale"][None].astype(dtype)
    z = jnp.clip(z, -1e30, 1e30)  # so that nothing below is infinite
    return 3 * (z / 3) / jnp.hypot(1, z / 3) if clip else z


def _joined(all_pieces: tuple[Piece, ...]) -> Any:
    """A function that puts all pieces side by side, in their order.

    All but what is looked up is computed together, in an order of its own, and then put in the right
    one: it has no gradient, which would have to find its way back.
    """
    of = {
        kind: [p for p in all_pieces if p.kind == kind]
        for kind in ("scaled", "missing", "level", "sign")
    }
    together = [piece for kind in of.values() for piece in kind]
    plain = [piece for piece in all_pieces if not piece.looked_up]
    places = {piece: place for place, piece in enumerate(together)}
    order = np.array([places[piece] for piece in plain], np.int32)
    in_order = bool((order == np.arange(len(order))).all())

    def join(scaled: Array, numbers: Array, codes: Array, vectors: list[Array]) -> Array:
        def taken(x: Array, kind: str) -> Array:
            return jnp.take(x, np.array([piece.source for piece in of[kind]], np.int32), axis=1)

        parts = []
        if of["scaled"]:
            parts.append(taken(scaled, "scaled").astype(numbers.dtype))
        if of["missing"]:
            parts.append(jnp.isnan(taken(numbers, "missing")).astype(numbers.dtype))
        if of["level"]:
            level = np.array([[piece.code for piece in of["level"]]], np.int32)
            parts.append((taken(codes, "level") == level).astype(numbers.dtype))
        if of["sign"]:
            code = taken(codes, "sign")
            second, first = code == FIRST + 1, code == FIRST
            parts.append(second.astype(numbers.dtype) - first.astype(numbers.dtype))
        matrix = jnp.concatenate(parts, axis=1) if parts else None
        if matrix is not None and not in_order:
            matrix = jnp.take(matrix, order, axis=1)
        if not vectors:
            assert matrix is not None
            return matrix
        pieces, done, rest = [], 0, iter(vectors)
        run = 0
        for piece in (*all_pieces, None):
            if piece is not None and not piece.looked_up:
                run += 1
                continue
            if run and matrix is not None:
                pieces.append(matrix[:, done : done + run])
                done, run = done + run, 0
            if piece is not None:
                pieces.append(next(rest).astype(numbers.dtype))
        return jnp.concatenate(pieces, axis=1)

    return join


def _inputs(x: Any, numbers: int, codes: int) -> tuple[Any, Any]:
    """The two arrays of the inputs, checked by shape and dtype."""
    if not isinstance(x, Mapping) or not {"numbers", "codes"} <= set(x):
        shape = getattr(x, "shape", None)
        got = type(x).__name__ if shape is None else f"an array of shape {shape}"
        got = str(sorted(x)) if isinstance(x, Mapping) else got
        got += " (one row is frame.iloc[[i]], or a dict of its columns)" if shape else ""
        raise TypeError(
            'x must be {"numbers": …, "codes": …}, which columns.encode_inputs(frame) makes of rows, '
            f"got {got}"
        )
    arrays = x["numbers"], x["codes"]
    for name, array, width in zip(("numbers", "codes"), arrays, (numbers, codes)):
        if jnp.ndim(array) != 2 or jnp.shape(array)[1] != width:
            raise ValueError(
                f"x[{quoted(name)}] must have shape (n, {width}), as of the table, got "
                f"{jnp.shape(array)}"
            )
    if jnp.shape(arrays[0])[0] != jnp.shape(arrays[1])[0]:
        raise ValueError(
            f"x must have as many rows of numbers as of codes, got {jnp.shape(arrays[0])[0]} and "
            f"{jnp.shape(arrays[1])[0]}"
        )
    if not jnp.issubdtype(arrays[0].dtype, jnp.floating):
        raise TypeError(f"x['numbers'] must be floats, got {arrays[0].dtype}")
    if not jnp.issubdtype(arrays[1].dtype, jnp.integer):
        raise TypeError(f"x['codes'] must be integers, got {arrays[1].dtype}")
    return arrays


def _codes(codes: Array, sizes: list[int]) -> Array:
    """Codes of levels that there are. Others are refused if they are known, and unknown if traced."""
    most = np.array([sizes], np.int32)
    if not isinstance(codes, jax.core.Tracer) and codes.size:
        low, high = extremes(codes)
        if low < 0 or (np.asarray(codes) >= most).any():
            raise ValueError(
                f"x['codes'] must be the codes of levels, 0 to {most.max() - 1} at most, got some from "
                f"{low} to {high}"
            )
    codes = jnp.asarray(codes)
    return jnp.where((codes < 0) | (codes >= most), UNKNOWN, codes)


def _check_shape(argument: str, name: str, array: Any, shape: tuple[int, ...]) -> None:
    if jnp.shape(array) != shape:
        raise ValueError(f"{argument}: {name} has shape {jnp.shape(array)}, and the table needs {shape}")


def _check_bytes(table: Fitted, chosen: Options, all_pieces: tuple[Piece, ...]) -> None:
    """Refuse one-hot columns that would not fit, before anything is made of them."""
    coded = [column for column in table.features if column.coded]
    many: dict[int, int] = {}
    for piece in all_pieces:
        if piece.kind == "level":
            many[piece.source] = many.get(piece.source, 0) + 1
    total = 4 * table.rows * sum(many.values())
    if total > _MOST_BYTES:
        column = coded[max(many, key=lambda source: many[source])]
        raise ValueError(
            f"one-hot columns of {sum(many.values()):,} levels, {len(column.levels):,} of them of "
            f"{quoted(column.name)}, would take {total / 2**30:,.1f} GiB for {table.rows:,} rows; "
            f"embed them: one_hot={Options().one_hot}, or "
            f'encodings={{{quoted(column.name)}: "embedding"}}'
        )
