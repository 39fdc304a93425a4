"""Rows in parts that fit the cache, and on several devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep.fitting import placement
from jaxdeep.nn.model import Model
from jaxdeep.tree import shapes
from jaxdeep.uncertainty.prediction import Prediction

PyTree = Any

# Bytes of the widest array of a part: of what is computed for every sample, and of what is computed
# once. On a CPU the first should stay in its cache, elsewhere it should keep the device busy.
_EVERY_TIME = {"cpu": 3 * 2**20}
_ONCE = {"cpu": 64 * 2**20}
_ELSEWHERE = 2**28
_FEWEST = 16  # rows of a part, below which products of matrices are slow


def limits(mesh: Mesh | None) -> tuple[int, int]:
    """Bytes of the widest array that is computed for every sample, and once."""
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return _EVERY_TIME.get(platform, _ELSEWHERE), _ONCE.get(platform, _ELSEWHERE)


def row_bytes(model: Model, fixed: PyTree, x: PyTree, rows: int) -> int:
    """Bytes a row of the widest of inputs and outputs of layers, from shapes of all arguments."""

    def outputs(params: PyTree, state: PyTree, x: PyTree) -> dict[str, Any]:
        found: dict[str, Any] = {"input": x}
        model.watch(found, "output").apply(params, state, x)
        return found

    found = jax.eval_shape(outputs, *fixed, x)
    sizes = [_bytes(tree) for tree in found.values()]
    return max(1, max(sizes) // rows)


def part_rows(total: int, *needs: tuple[int, int]) -> int:
    """Rows of a part, from pairs of bytes a row and bytes allowed."""
    return min(total, max(_FEWEST, min(allowed // each for each, allowed in needs)))


def divisor(count: int, limit: int) -> int:
    """The largest divisor of `count` that is at most `limit`; 1 if there is none."""
    return max(d for d in range(1, max(1, min(count, limit)) + 1) if count % d == 0)


def in_parts(function: Callable[[PyTree, Any, Any], Prediction], x: PyTree, rows: int) -> Prediction:
    """``function(part, first row, number)`` of parts of at most `rows` rows, put together.

    Parts are of equal size; where that does not come out even the last one begins earlier and overlaps
    the one before, whose results it overwrites.
    """
    total = jax.tree.leaves(x)[0].shape[0]
    parts = -(-total // rows)
    if parts == 1:
        return _checked(function(x, 0, None), total)
    rows = -(-total // parts)

    def part(number: Any) -> tuple[Any, Prediction]:
        first = jnp.minimum(number * rows, total - rows)
        own = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, rows), x)
        return first, _checked(function(own, first, number), rows)

    def place(number: Any, whole: Prediction) -> Prediction:
        first, found = part(number)
        return _on_rows(
            lambda a, b, axis: jax.lax.dynamic_update_slice_in_dim(a, b, first, axis), whole, found
        )

    like = jax.eval_shape(lambda: part(jnp.int32(0))[1])
    empty = _on_rows(
        lambda a, _, axis: jnp.zeros((*a.shape[:axis], total, *a.shape[axis + 1 :]), a.dtype), like, like
    )
    return jax.lax.fori_loop(0, parts, place, empty)


def on_devices(
    function: Callable[[PyTree, PyTree, Any], Prediction], own: PyTree, x: PyTree, mesh: Mesh
) -> Prediction:
    """``function(own, rows, first row)`` with the rows of `x` split over the data axis of a mesh."""
    total, devices = jax.tree.leaves(x)[0].shape[0], mesh.shape[placement.DATA]
    rows = -(-total // devices)
    fill = rows * devices - total
    if fill:  # what is computed for these rows is dropped
        x = jax.tree.map(lambda a: jnp.concatenate([a, jnp.repeat(a[-1:], fill, axis=0)]), x)

    def local(own: PyTree, x: PyTree) -> Prediction:
        return function(own, x, jax.lax.axis_index(placement.DATA) * rows)

    everywhere, by_rows = PartitionSpec(), PartitionSpec(placement.DATA)
    split = Prediction(by_rows, by_rows, by_rows, by_rows, PartitionSpec(None, placement.DATA))
    found = jax.shard_map(
        local, mesh=mesh, in_specs=(everywhere, by_rows), out_specs=split, check_vma=False
    )(own, x)
    if not fill:
        return found
    return _on_rows(lambda a, _, axis: jax.lax.slice_in_dim(a, 0, total, axis=axis), found, found)


def usable(mesh: Any) -> Mesh | None:
    """The mesh with axes whose sharding the compiler propagates; refuses one without a data axis."""
    no_rows = jax.ShapeDtypeStruct((0,), jnp.float32)  # which every number of devices divides
    return placement.usable(mesh, None, no_rows)


def placed(mesh: Mesh | None, own: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
    """Arguments on the devices of a mesh, rows split if they come out even; traced ones as they are."""
    if mesh is None or any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((own, x))):
        return own, x
    place = placement.placed(mesh, None, None, None)

    def rows(a: Any) -> Any:
        if isinstance(a, jax.Array) and jax.process_count() == 1:
            even = a.shape[0] % mesh.shape[placement.DATA] == 0
            spec = PartitionSpec(placement.DATA) if even else PartitionSpec()
            return jax.device_put(a, NamedSharding(mesh, spec))
        host = np.asarray(a, shapes(a).dtype)
        return place.part(host.shape, 0, lambda index: host[index])

    return place.everywhere(own), jax.tree.map(rows, x)


def _bytes(tree: PyTree) -> int:
    return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def _on_rows(function: Callable[[Any, Any, int], Any], a: Prediction, b: Prediction) -> Prediction:
    """``function(a, b, axis)`` of all arrays of two predictions, with the axis that rows lie along."""
    axes = Prediction(0, 0, 0, 0, 1)
    return Prediction(
        *(
            jax.tree.map(lambda a, b, axis=axis: function(a, b, axis), own, other)
            for own, other, axis in zip(a, b, axes)
        )
    )


def _checked(found: Prediction, rows: int) -> Prediction:
    """Refuse outputs that do not have a row for each row of the input."""
    for leaf in jax.tree.leaves(found.mean):
        if leaf.shape[:1] != (rows,):
            raise ValueError(
                f"the model must give an output for each row of x, got shape {leaf.shape} for "
                f"{rows} rows"
            )
    return found
