"""The devices of a run: batches are split over them, parameters copied or split, by one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.train.data import to_device
from jaxdeep.train.sharding import DATA, MODEL
from jaxdeep.tree import Where, leaf_paths, mask, path_name, shapes

Read = Callable[[Any], np.ndarray]  # the part of an array at an index


class Placement(NamedTuple):
    """The devices that a run is on.

    Attributes:
      mesh: the devices; None for JAX's default device.
      run: shardings of the leaves of the run; None for JAX's default device.
    """

    mesh: Mesh | None = None
    run: PyTree = None

    def put(self, run: PyTree) -> PyTree:
        """The run, moved to its devices."""
        return run if self.mesh is None else _put(run, self.run)

    def everywhere(self, tree: PyTree) -> PyTree:
        """Arrays that every process has, copied to each device."""
        if self.mesh is None:
            return to_device(tree)
        copied = NamedSharding(self.mesh, PartitionSpec())
        return _put(tree, jax.tree.map(lambda _: copied, tree))

    def from_host(self, array: Any) -> Any:
        """An array of JAX as NumPy's where that costs no copy or is due anyway; others as they are.

        So rows from the device and from the host go through one program.
        """
        is_near = self.mesh is not None or jax.default_backend() == "cpu"
        return np.asarray(array) if is_near and isinstance(array, jax.Array) else array

    def variables(self, tree: PyTree) -> PyTree:
        """Parameters and state on the devices; those that are on the mesh stay as they are split."""
        if self.mesh is None:
            return to_device(tree)
        devices = set(self.mesh.devices.flat)
        on_it = lambda a: isinstance(a, jax.Array) and a.sharding.device_set == devices  # noqa: E731
        return jax.tree.map(lambda a: a if on_it(a) else self.everywhere(a), tree)

    def part(self, shape: tuple[int, ...], axis: int, read: Read) -> jax.Array:
        """An array split along `axis`, of which each process reads the part that its devices hold.

        ``read(index)`` returns the part at an index. Nobody may change that array before it has been
        used, since a CPU device uses its memory without a copy.
        """
        if self.mesh is None:
            return jax.device_put(read((slice(None),) * len(shape)))
        even = shape[axis] % self.mesh.shape[DATA] == 0
        spec = PartitionSpec(*(None,) * axis, DATA) if even else PartitionSpec()
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, spec), read)

    def share(self, share: np.ndarray, axis: int) -> jax.Array:
        """A global array, made from the share that each process has: split along `axis`.

        If the axis cannot be divided evenly among the devices, each device gets the whole array.
        """
        if self.mesh is None:
            return to_device(share)
        if share.shape[axis] * jax.process_count() % self.mesh.shape[DATA]:
            return self._copied(share, axis)
        spec = PartitionSpec(*(None,) * axis, DATA)
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, spec), share)

    def _copied(self, share: np.ndarray, axis: int) -> jax.Array:
        assert self.mesh is not None
        whole = np.array(share)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            rows_first = multihost_utils.process_allgather(np.moveaxis(whole, axis, 0), tiled=True)
            whole = np.moveaxis(np.asarray(rows_first), 0, axis)
        return _put(whole, NamedSharding(self.mesh, PartitionSpec()))


def fetched(array: ArrayLike) -> np.ndarray:
    """An array of any sharding, as a NumPy array on this host."""
    if (
        jax.process_count() > 1
        and isinstance(array, jax.Array)
        and not (array.is_fully_addressable or array.is_fully_replicated)
    ):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def _put(tree: PyTree, shardings: PyTree) -> PyTree:
    """Arrays that every process has, as global arrays with these shardings."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def leaf(array: jax.Array | np.ndarray, sharding: NamedSharding) -> jax.Array:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            words = leaf(jax.random.key_data(array), sharding)
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(array))
        known = np.asarray(array, shapes(array).dtype)
        return jax.make_array_from_callback(known.shape, sharding, lambda index: known[index])

    return jax.tree.map(leaf, tree, shardings)


def placed(mesh: Mesh | None, run: PyTree, params: PyTree, where: Where | None) -> Placement:
    """The placement of a run: every leaf is copied, except for the parameters that `where` selects.

    These are split over the mesh's model axis, along the longest of their axes that it divides. So are
    the leaves that the optimizer and the run keep for them, which are told by having the same shape and
    a path that ends in the parameter's path, or in one name more, as codes of `low_precision` have.
    """
    if mesh is None:
        return Placement()
    specs: dict[str, PartitionSpec] = {}
    if where is not None:
        chosen = jax.tree.leaves(mask(params, where))
        for path, leaf, is_chosen in zip(leaf_paths(params), jax.tree.leaves(params), chosen):
            if is_chosen and (spec := _split(leaf.shape, mesh.shape[MODEL])):
                specs[path] = spec
        if not specs:
            raise ValueError(
                f"shard={where!r} selects no leaf with an axis that the {mesh.shape[MODEL]} devices of "
                "the mesh's model axis divide"
            )
    sizes = dict(zip(leaf_paths(params), (leaf.shape for leaf in jax.tree.leaves(params))))

    def sharding(path: jax.tree_util.KeyPath, leaf: jax.Array) -> NamedSharding:
        parts = path_name(path).split("/")
        ends = (parts[i:] for parts in (parts, parts[:-1]) for i in range(len(parts)))
        for end in map("/".join, ends):
            if end in specs and sizes[end] == leaf.shape:
                return NamedSharding(mesh, specs[end])
        return NamedSharding(mesh, PartitionSpec())

    return Placement(mesh, jax.tree_util.tree_map_with_path(sharding, run))


def mesh_of(tree: PyTree) -> Mesh | None:
    """The mesh with a data axis that arrays, such as parameters, are on; None for a single device."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.num_devices > 1:
            mesh = sharding.mesh
            return mesh if isinstance(mesh, Mesh) and DATA in mesh.shape else None
    return None


def usable(
    mesh: Mesh | None, shard: Where | None, batch: PyTree, who: str = "batch_size"
) -> Mesh | None:
    """The mesh with every axis set to `AxisType.Auto`, so that the compiler propagates shardings.

    Refuses a mesh without the axes that are needed, and batches that it does not divide, of which `who`
    decides how many rows they have.
    """
    if mesh is None:
        if shard is not None:
            raise ValueError(f"shard={shard!r} needs a mesh= with an axis called {MODEL!r}")
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh such as jax.make_mesh, got {mesh!r}")
    needed = (DATA,) if shard is None else (DATA, MODEL)
    for axis in needed:
        if axis not in mesh.shape:
            raise ValueError(f"mesh needs an axis called {axis!r}, it has {tuple(mesh.axis_names)}")
    batch_size, devices = jax.tree.leaves(batch)[0].shape[0], mesh.shape[DATA]
    if batch_size % devices:
        raise ValueError(
            f"{who} must be a multiple of the mesh's data axis, {devices}, got {batch_size}"
        )
    auto = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=auto)


def check_same_everywhere(data: PyTree, name: str) -> None:
    """Refuse arrays that differ between processes, judged by about a thousand of their rows."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    leaves = jax.tree.leaves(data)
    sums = [np.sum(leaf[:: max(len(leaf) // 1000, 1)], dtype=np.float64) for leaf in leaves]
    mine = np.array([*map(len, leaves), *sums], np.float32)
    all_ = multihost_utils.process_allgather(mine)
    if not np.array_equal(all_, np.broadcast_to(mine, all_.shape), equal_nan=True):
        raise ValueError(
            f"{name} must hold the same arrays in every process, of which each reads its part; to feed "
            "a share of its own, give every process an iterable of its part of each batch"
        )


def _split(shape: tuple[int, ...], devices: int) -> PartitionSpec | None:
    fitting = [axis for axis, size in enumerate(shape) if size and size % devices == 0]
    if not fitting:
        return None
    longest = max(fitting, key=lambda axis: shape[axis])
    return PartitionSpec(*(None,) * longest, MODEL)
