"""Computation on rows in parts that fit the cache, and on several devices."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep._compilation import is_traced
from jaxdeep._shapes import Array, ArrayLike, PyTree
from jaxdeep.fitting import placement
from jaxdeep.nn.model import Model
from jaxdeep.train.data import count_rows, tree_bytes
from jaxdeep.tree import shapes
from jaxdeep.uncertainty.prediction import Prediction

Shared = TypeVar("Shared")  # what is the same for all rows
# The rows of a part, the first of them, and the number of the part, None if there is but one.
OnPart = Callable[[PyTree, jax.Array | int, ArrayLike | None], Prediction]

# Bytes of the widest array in a part of the rows, among the arrays that are computed for every sample
# and among those computed once. On a CPU the former should stay in its cache, elsewhere it should be
# large enough to keep the device busy.
_EVERY_TIME = {"cpu": 3 * 2**20}
_ONCE = {"cpu": 64 * 2**20}
_ELSEWHERE = 2**28
_FEWEST = 16  # rows of a part at least, since products of smaller matrices are slow


def limits(mesh: Mesh | None) -> tuple[int, int]:
    """The allowed bytes of the widest array, if computed for every sample and if computed once."""
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return _EVERY_TIME.get(platform, _ELSEWHERE), _ONCE.get(platform, _ELSEWHERE)


def row_bytes(model: Model, fixed: PyTree, x: PyTree, rows: int) -> int:
    """The bytes of a row in the widest of all inputs and outputs of layers; arguments are shapes."""

    def outputs(params: PyTree, state: PyTree, x: PyTree) -> dict[str, PyTree]:
        values: dict[str, PyTree] = {"input": x}
        model.watch(values, "output").apply(params, state, x)
        return values

    by_layer = jax.eval_shape(outputs, *fixed, x)
    sizes = [tree_bytes(tree) for tree in by_layer.values()]
    return max(1, max(sizes) // rows)


def part_rows(total: int, *needs: tuple[int, int]) -> int:
    """The rows of a part. Each of `needs` is a pair of the bytes of a row and the bytes allowed."""
    return min(total, max(_FEWEST, min(allowed // per_row for per_row, allowed in needs)))


def divisor(count: int, limit: int) -> int:
    """The largest divisor of `count` that is at most `limit`; 1 if there is none."""
    return max(d for d in range(1, max(1, min(count, limit)) + 1) if count % d == 0)


def in_parts(function: OnPart, x: PyTree, rows: int) -> Prediction:
    """The results ``function(part, first row, number)`` for parts of at most `rows` rows, joined.

    All parts have the same size. If the size does not divide the rows, the last part begins earlier and
    overlaps the one before, whose results it overwrites. If there is one part, its number is None.
    """
    total = count_rows(x)
    parts = -(-total // rows)
    if parts == 1:
        return _checked(function(x, 0, None), total)
    rows = -(-total // parts)

    def part(number: ArrayLike) -> tuple[Array, Prediction]:
        first = jnp.minimum(number * rows, total - rows)
        inputs = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, rows), x)
        return first, _checked(function(inputs, first, number), rows)

    def place(number: ArrayLike, whole: Prediction) -> Prediction:
        first, result = part(number)
        return _on_rows(
            lambda a, b, axis: jax.lax.dynamic_update_slice_in_dim(a, b, first, axis), whole, result
        )

    like = jax.eval_shape(lambda: part(jnp.int32(0))[1])
    empty = _on_rows(
        lambda a, _, axis: jnp.zeros((*a.shape[:axis], total, *a.shape[axis + 1 :]), a.dtype), like, like
    )
    return jax.lax.fori_loop(0, parts, place, empty)


def on_devices(
    function: Callable[[Shared, PyTree, Array], Prediction], shared: Shared, x: PyTree, mesh: Mesh
) -> Prediction:
    """``function(shared, rows, first row)``, with the rows of `x` split over the mesh's data axis."""
    total, devices = count_rows(x), mesh.shape[placement.DATA]
    rows = -(-total // devices)
    fill = rows * devices - total
    if fill:  # the results of these rows are dropped
        x = jax.tree.map(lambda a: jnp.concatenate([a, jnp.repeat(a[-1:], fill, axis=0)]), x)

    def local(shared: Shared, x: PyTree) -> Prediction:
        return function(shared, x, jax.lax.axis_index(placement.DATA) * rows)

    everywhere, by_rows = PartitionSpec(), PartitionSpec(placement.DATA)
    split = Prediction(by_rows, by_rows, by_rows, by_rows, PartitionSpec(None, placement.DATA))
    filled = jax.shard_map(
        local, mesh=mesh, in_specs=(everywhere, by_rows), out_specs=split, check_vma=False
    )(shared, x)
    if not fill:
        return filled
    return _on_rows(lambda a, _, axis: jax.lax.slice_in_dim(a, 0, total, axis=axis), filled, filled)


def usable(mesh: Any) -> Mesh | None:
    """The mesh, if any, as `placement.usable` makes it; refuses one without a data axis."""
    no_rows = jax.ShapeDtypeStruct((0,), jnp.float32)  # no rows, which every number of devices divides
    return placement.usable(mesh, None, no_rows)


def placed(mesh: Mesh | None, shared: Shared, x: PyTree) -> tuple[Shared, PyTree]:
    """Arguments on the devices of a mesh: `shared` copied, the rows of `x` split if devices divide them.

    Without a mesh, or within a trace, they are returned as they are.
    """
    if mesh is None or is_traced((shared, x)):
        return shared, x
    place = placement.placed(mesh, None, None, None)

    def rows(a: jax.Array | np.ndarray) -> jax.Array:
        if isinstance(a, jax.Array) and jax.process_count() == 1:
            even = a.shape[0] % mesh.shape[placement.DATA] == 0
            spec = PartitionSpec(placement.DATA) if even else PartitionSpec()
            return jax.device_put(a, NamedSharding(mesh, spec))
        host = np.asarray(a, shapes(a).dtype)
        return place.part(host.shape, 0, lambda index: host[index])

    return place.everywhere(shared), jax.tree.map(rows, x)


def _on_rows(function: Callable[[Any, Any, int], Array], a: Prediction, b: Prediction) -> Prediction:
    """``function(a, b, axis)`` of all arrays of two predictions, where `axis` is that of the rows."""
    axes = Prediction(0, 0, 0, 0, 1)
    return Prediction(
        *(
            jax.tree.map(lambda a, b, axis=axis: function(a, b, axis), of_a, of_b)
            for of_a, of_b, axis in zip(a, b, axes)
        )
    )


def _checked(prediction: Prediction, rows: int) -> Prediction:
    """The prediction; refuses one that does not have a row for each row of the input."""
    for leaf in jax.tree.leaves(prediction.mean):
        if leaf.shape[:1] != (rows,):
            raise ValueError(
                f"the model must give an output for each row of x, got shape {leaf.shape} for "
                f"{rows} rows"
            )
    return prediction
