"""Batches split over the devices of a mesh, inside compiled code."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep._shapes import PyTree

DATA, MODEL = "data", "model"  # axes of a mesh


def split(mesh: Mesh, batch: PyTree) -> PyTree:
    """In compiled code, a batch split by rows over the data axis, or copied where it does not divide."""
    even = jax.tree.leaves(batch)[0].shape[0] % mesh.shape[DATA] == 0
    rows = NamedSharding(mesh, PartitionSpec(DATA) if even else PartitionSpec())
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, rows), batch)


def copied(mesh: Mesh, array: jax.Array) -> jax.Array:
    """In compiled code, an array copied to every device."""
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec()))
