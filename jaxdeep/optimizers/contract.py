"""What every transformation owes the loops that run it."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import KeyPath, PyTreeDef
from jax.typing import DTypeLike

from jaxdeep._shapes import Array, PyTree
from jaxdeep.optimizers.evaluation import states_of
from jaxdeep.optimizers.precision import LowPrecisionState
from jaxdeep.optimizers.transform import Transform
from jaxdeep.tree import leaf_paths, path_name

DTypes: TypeAlias = dict[str, DTypeLike | None]  # of the leaves of a state by path; None if it has none
_DTYPES = ("float32", "bfloat16", "float16")


def check_transform(
    tx: optax.GradientTransformation, params: PyTree | None = None, **extra: object
) -> None:
    """Test a transformation, ours or your own, against what jitted and scanned loops rely on.

    On parameters in float32, bfloat16 and float16, of several shapes (a scalar and an empty leaf
    included) unless you give your own, with zero and with random gradients:

    * `update` can be traced and keeps the structure, shapes, dtypes and weak types of the state, so that
      nothing retraces and a scan can carry it; twice the same arguments give twice the same results;
    * updates have the structure, shapes and dtypes of the parameters; those of `low_precision`, which
      come last, may be float32 for parameters in bfloat16;
    * scalars and accumulators of the state are at least float32 whatever the parameters are: 0.999 is 1
      in bfloat16, and 0.001 of the new is lost (an accumulator that is low in precision for float32
      parameters too was chosen to be, and passes);
    * the buffers of `init` are its own, each in the state once: a loop may donate them;
    * no gradient that is finite makes updates or state not finite.

    Args:
      tx: any optax transformation, or a pair of ``init`` and ``update`` such as `optax.MultiSteps`; it
        is passed ``params`` and ``value=``.
      params: parameters to test on instead, for a `where` or an `axis` that wants them.
      **extra: further arguments of ``update``.

    Raises:
      TypeError: not an optax transformation.
      ValueError: the first thing that does not hold, with the leaf it was found at.

    Source: the contract of this library; `optax.chain`, `jax.lax.scan` and donation rely on it.

    >>> import jaxdeep as jd
    >>> check_transform(optax.chain(jd.optimizers.clip_by_norm(1.0), jd.optimizers.adam(0.1)))
    >>> check_transform(optax.contrib.reduce_on_plateau())
    Traceback (most recent call last):
        ...
    ValueError: state scale is a scalar of bfloat16; it must be at least float32 ...
    """
    if not all(callable(getattr(tx, name, None)) for name in ("init", "update")):
        raise TypeError(f"tx must be an optax transformation, got {tx!r}")
    pair = optax.GradientTransformationExtraArgs(tx.init, tx.update)
    tx = optax.with_extra_args_support(tx if isinstance(tx, optax.GradientTransformation) else pair)
    shapes = {"kernel": (3, 2), "bias": (2,), "scalar": (), "empty": (0, 2)}
    ones = {name: jnp.ones(shape) for name, shape in shapes.items()} if params is None else params
    named = jax.tree_util.tree_leaves_with_path(tx.init(ones))
    usual = {path_name(path): getattr(leaf, "dtype", None) for path, leaf in named}
    for dtype in _DTYPES:
        _check_dtype(tx, jax.tree.map(lambda p, d=dtype: jnp.array(p, d), ones), dtype, usual, extra)


def _check_dtype(
    tx: Transform, params: PyTree, dtype: str, usual: DTypes, extra: dict[str, object]
) -> None:
    extra = {"value": jnp.float32(1.0)} | extra
    state = tx.init(params)
    _check_buffers(state, params)
    for path, leaf in _floats(state):
        name = path_name(path)
        if leaf.dtype.itemsize < 4 and (leaf.ndim == 0 and not _is_slot(path, params)):
            raise ValueError(
                f"state {name} is a scalar of {leaf.dtype}; it must be at least float32 whatever the "
                f"parameters are ({dtype} here)"
            )
        if leaf.dtype.itemsize < 4 and usual.get(name) != leaf.dtype:
            raise ValueError(
                f"state {name} accumulates in {leaf.dtype} because the parameters are {dtype}; it must "
                "be at least float32 unless told otherwise"
            )

    @jax.jit
    def update(g: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        return tx.update(g, state, params, **extra)

    keys = iter(jax.random.split(jax.random.key(0), 1 + len(jax.tree.leaves(params))))
    for kind, grads in (
        ("zero", jax.tree.map(jnp.zeros_like, params)),
        ("random", jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape, p.dtype), params)),
    ):
        try:
            updates, after = update(grads, state, params)
        except jax.errors.JAXTypeError as error:
            raise ValueError(f"update cannot be traced by jax.jit: {error}") from error
        _check_same("state", state, after, dtype)
        _check_same("update", _expected(params, updates, state), updates, dtype)
        again = tx.update(grads, state, params, **extra)
        for (path, old), (_, new) in zip(_floats((updates, after)), _floats(again)):
            if not jnp.allclose(old, new, rtol=0.05, atol=1e-3, equal_nan=True):
                raise ValueError(
                    f"{path_name(path)}: the same arguments do not give the same result twice"
                )
        for path, leaf in _floats(updates):
            if not bool(jnp.isfinite(leaf).all()):
                raise ValueError(
                    f"update {path_name(path)} is not finite for {kind} gradients ({dtype})"
                )
        for (path, old), (_, new) in zip(_floats(state), _floats(after)):
            if bool(jnp.isfinite(old).all()) and not bool(jnp.isfinite(new).all()):
                raise ValueError(
                    f"state {path_name(path)} stops being finite for {kind} gradients ({dtype})"
                )


def _check_buffers(state: PyTree, params: PyTree) -> None:
    owners = {id(p): "the parameters' own buffer" for p in jax.tree.leaves(params)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = path_name(path)
        if not isinstance(leaf, jax.Array):
            raise ValueError(f"state {name} is {leaf!r}; every leaf must be an array")
        if id(leaf) in owners:
            raise ValueError(f"state {name} is {owners[id(leaf)]}; init must copy it")
        owners[id(leaf)] = f"the same buffer as {name}"


def _floats(tree: PyTree) -> list[tuple[KeyPath, Array]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, leaf) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _is_slot(path: KeyPath, params: PyTree) -> bool:
    """Whether a leaf belongs to a parameter, rather than to the algorithm."""
    return any(path_name(path).endswith(name) for name in leaf_paths(params) if name)


def _expected(params: PyTree, updates: PyTree, state: PyTree) -> PyTree:
    """What updates are to be like: `low_precision` says which of bfloat16 are in float32."""
    here: PyTreeDef = jax.tree.structure(updates)
    there: PyTreeDef = jax.tree.structure(params)
    if here != there or next(states_of(state, LowPrecisionState), None) is None:
        return params

    def wide(p: Array, u: Array) -> Array:
        return p.astype(u.dtype) if (p.dtype, u.dtype) == (jnp.bfloat16, jnp.float32) else p

    return jax.tree.map(wide, params, updates)


def _check_same(label: str, before: PyTree, after: PyTree, dtype: str) -> None:
    old_structure: PyTreeDef = jax.tree.structure(before)
    new_structure: PyTreeDef = jax.tree.structure(after)
    if old_structure != new_structure:
        raise ValueError(
            f"{label} changes its structure ({dtype} parameters): {old_structure} becomes "
            f"{new_structure}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after))
    for (path, old), new in pairs:
        if jax.typeof(old) != jax.typeof(new):
            raise ValueError(
                f"{label} {path_name(path)} is {jax.typeof(new)} where {jax.typeof(old)} was due "
                f"({dtype} parameters): shapes, dtypes and weak types must stay"
            )
