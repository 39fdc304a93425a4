"""What every transformation owes the loops that run it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeep.tree import path_name

_DTYPES = ("float32", "bfloat16", "float16")


def check_transform(tx: optax.GradientTransformation) -> None:
    """Test a transformation, ours or your own, against what jitted and scanned loops rely on.

    On parameters of several shapes (a scalar and an empty leaf included) in float32, bfloat16 and
    float16:

    * `update` keeps the structure, shapes, dtypes and weak types of the state, so that nothing
      retraces and a scan can carry it;
    * updates have the structure, shapes and dtypes of the parameters;
    * floating-point scalars of the state are at least float32: 0.999 is 1 in bfloat16;
    * `init` does not hand out the parameters' own buffers, which a loop may donate;
    * zero gradients leave nothing that is not finite in updates and state.

    Args:
      tx: any optax transformation; it is passed ``params`` and ``value=``.

    Raises:
      TypeError: not an optax transformation.
      ValueError: the first thing that does not hold, with the leaf it was found at.

    >>> import jaxdeep as jd
    >>> check_transform(optax.chain(jd.optimizers.clip_by_norm(1.0), jd.optimizers.adam(0.1)))
    >>> check_transform(optax.contrib.reduce_on_plateau())
    Traceback (most recent call last):
        ...
    ValueError: state scale is a scalar of bfloat16; it must be at least float32 ...
    """
    if not isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"tx must be an optax transformation, got {tx!r}")
    tx = optax.with_extra_args_support(tx)
    for dtype in _DTYPES:
        shapes = {"kernel": (3, 2), "bias": (2,), "scalar": (), "empty": (0, 2)}
        params = {name: jnp.ones(shape, dtype) for name, shape in shapes.items()}
        _check_dtype(tx, params, dtype)


def _check_dtype(tx: Any, params: dict[str, jax.Array], dtype: str) -> None:
    state = tx.init(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if any(leaf is p for p in params.values()):
            raise ValueError(f"state {path_name(path)} is the parameters' own buffer; init must copy it")

    def update(g: Any, state: Any, params: Any) -> Any:
        return tx.update(g, state, params, value=jnp.float32(1.0))

    grads = jax.tree.map(jnp.zeros_like, params)
    updates, after = jax.jit(update)(grads, state, params)
    _same("state", state, after, dtype)
    _same("update", params, updates, dtype)
    for path, leaf in _floats(after):
        if leaf.ndim == 0 and leaf.dtype.itemsize < 4 and not _is_slot(path, params):
            raise ValueError(
                f"state {path_name(path)} is a scalar of {leaf.dtype}; it must be at least float32 "
                f"whatever the parameters are ({dtype} here)"
            )
    for path, leaf in _floats(updates):
        if not bool(jnp.isfinite(leaf).all()):
            raise ValueError(f"update {path_name(path)} is not finite for zero gradients ({dtype})")
    for (path, old), (_, new) in zip(_floats(state), _floats(after)):
        if bool(jnp.isfinite(old).all()) and not bool(jnp.isfinite(new).all()):
            raise ValueError(f"state {path_name(path)} stops being finite for zero gradients ({dtype})")


def _floats(tree: Any) -> list[tuple[tuple[Any, ...], Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, leaf) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _is_slot(path: tuple[Any, ...], params: dict[str, jax.Array]) -> bool:
    """Whether a leaf belongs to a parameter, rather than to the algorithm."""
    return bool(path) and getattr(path[-1], "key", None) in params


def _same(what: str, before: Any, after: Any, dtype: str) -> None:
    old_structure: Any = jax.tree.structure(before)
    new_structure: Any = jax.tree.structure(after)
    if old_structure != new_structure:
        raise ValueError(
            f"{what} changes its structure ({dtype} parameters): {old_structure} becomes {new_structure}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after))
    for (path, old), new in pairs:
        if jax.typeof(old) != jax.typeof(new):
            raise ValueError(
                f"{what} {path_name(path)} is {jax.typeof(new)} where {jax.typeof(old)} was due "
                f"({dtype} parameters): shapes, dtypes and weak types must stay"
            )
