"""The smallest weights set to zero, kept there, and what that costs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._compilation import is_traced
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, PyTree
from jaxdeep.metrics import Metric, accuracy, mean
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, check_models
from jaxdeep.optimizers.transform import check_state
from jaxdeep.train.data import check_pair, check_weights
from jaxdeep.tree import Where, check_where, leaf_paths, mask

PerExample = Callable[[PyTree, PyTree], Array]  # (outputs, y) -> a value for each example
Groups = tuple[tuple[int, ...], ...]  # of leaves, by number, whose weights are ranked together
Ranks = dict[int, Integer[Array, "..."]]  # of the weights of a leaf, by its number
Counts = Sequence[int | Array] | Integer[Array, "groups"]  # how many become zero
Scope = Literal["global", "leaf"]


def prune(
    params: PyTree, sparsity: ArrayLike, *, where: Where = "*/kernel", scope: Scope = "global"
) -> PyTree:
    """Set the smallest weights to zero: the share `sparsity` of those selected, by magnitude.

    Of n weights exactly ``round(sparsity · n)`` become (or stay) zero; among equal magnitudes those that
    come first in the tree, row by row, go first. Train with ``penalty=jd.regularizers.l1(…)`` before, so
    that there are many small ones, and on afterwards with `keep_zeros` in the optimizer's chain.

    Args:
      params: any pytree of arrays.
      sparsity: in [0, 1]; a number, or a scalar array, which may be traced.
      where: the leaves (`jaxdeep.tree.mask`); others stay as they are.
      scope: "global" ranks the weights of all leaves together, so that some layers lose more than
        others; "leaf" takes the share of each leaf.

    Returns:
      The parameters, in their dtypes.

    Raises:
      ValueError: a share outside [0, 1], another scope, a `where` that matches no leaf, weights that are
        NaN, naming them. (Traced ones are kept.)

    Source: Han et al., "Learning both Weights and Connections" (arXiv:1506.02626); global ranking as in
    `torch.nn.utils.prune.global_unstructured`.

    >>> params = {"a": {"kernel": jnp.array([3.0, -1.0])}, "b": {"kernel": jnp.array([2.0, -4.0])}}
    >>> prune(params, 0.5)
    {'a': {'kernel': Array([3., 0.], dtype=float32)}, 'b': {'kernel': Array([ 0., -4.], dtype=float32)}}
    """
    return _zeroed(params, pruning_mask(params, sparsity, where=where, scope=scope))


def pruning_mask(
    params: PyTree, sparsity: ArrayLike, *, where: Where = "*/kernel", scope: Scope = "global"
) -> PyTree:
    """Which weights `prune` keeps: booleans like the parameters.

    Args:
      params, sparsity, where, scope: as for `prune`.

    Raises:
      ValueError: as `prune`.

    Source: as `prune`.

    >>> pruning_mask({"a": {"kernel": jnp.array([3.0, -1.0]), "bias": jnp.zeros(1)}}, 0.5)
    {'a': {'bias': Array([ True], dtype=bool), 'kernel': Array([ True, False], dtype=bool)}}
    """
    _checks.check_scalar("sparsity", sparsity, "[0, 1]")
    check_leaves("params", params)
    groups = _groups(params, where, scope)
    counts = [_share(sparsity, n) for n in _sizes(params, groups)]
    return _kept(params, groups, _ranks(params, groups), counts)


def _groups(params: PyTree, where: Where, scope: Scope) -> Groups:
    """The leaves that are selected, by number, together or each on its own."""
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be 'global' or 'leaf', got {scope!r}")
    leaves, paths = jax.tree.leaves(params), leaf_paths(params)
    chosen = tuple(i for i, c in enumerate(jax.tree.leaves(mask(params, where))) if c)
    for i in chosen:
        dtype = jnp.result_type(leaves[i])
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"weights to prune must be floating-point, {paths[i]} is {dtype}")
        _checks.check_numbers(f"weights to prune: {paths[i]}", leaves[i])
    return (chosen,) if scope == "global" else tuple((i,) for i in chosen)


def _sizes(params: PyTree, groups: Groups) -> list[int]:
    """The number of weights of each group."""
    leaves = jax.tree.leaves(params)
    return [sum(int(np.size(leaves[i])) for i in group) for group in groups]


@functools.partial(jax.jit, static_argnums=1)
def _ranks(params: PyTree, groups: Groups) -> Ranks:
    """For each selected leaf the places of its weights in the order of magnitude of their group."""
    leaves, ranks = jax.tree.leaves(params), {}
    for group in groups:
        dtype = jnp.result_type(*(leaves[i] for i in group))
        flat = jnp.concatenate([jnp.abs(jnp.ravel(jnp.asarray(leaves[i], dtype))) for i in group])
        order = jnp.argsort(flat, stable=True)
        places = jnp.arange(flat.size, dtype=jnp.int32)
        rank = jnp.zeros_like(places).at[order].set(places, unique_indices=True)
        ends = np.cumsum([np.size(leaves[i]) for i in group])[:-1]
        for i, part in zip(group, jnp.split(rank, ends)):
            ranks[i] = jnp.reshape(part, jnp.shape(leaves[i]))
    return ranks


def _kept(params: PyTree, groups: Groups, ranks: Ranks, counts: Counts) -> PyTree:
    """All weights but the first ``counts[g]`` of group g."""
    leaves, structure = jax.tree.flatten(params)
    flags = [jnp.ones(jnp.shape(w), bool) for w in leaves]
    for group, count in zip(groups, counts):
        for i in group:
            flags[i] = (ranks[i] >= count) | jnp.isnan(leaves[i])  # what has diverged is not small
    return jax.tree.unflatten(structure, flags)


def _zeroed(params: PyTree, kept: PyTree) -> PyTree:
    return jax.tree.map(lambda w, keep: jnp.where(keep, w, jnp.zeros_like(w)), params, kept)


def _share(sparsity: ArrayLike, n: int) -> int | Array:
    """``round(sparsity · n)``; on the host as far as possible, where it is exact."""
    number = _checks.known_value(sparsity)
    if number is not None:
        return round(number * n)
    return jnp.round(jnp.asarray(sparsity, jnp.result_type(float)) * n).astype(jnp.int32)


class KeepZerosState(NamedTuple):
    """Which weights may move, by path."""

    moving: dict[str, Bool[Array, "..."]]


@remembered
def keep_zeros(where: Where = "*/kernel") -> optax.GradientTransformationExtraArgs:
    """Weights that are exactly zero when training begins stay zero: their updates become zero.

    The last of a chain: ``optax.chain(jd.optimizers.adam(1e-4), keep_zeros())``, given to `jaxdeep.fit`
    with ``params=prune(…)``. Which weights those are is kept in the optimizer's state, and so in
    checkpoints and sweeps.

    Args:
      where: the leaves; updates of others pass. A bias that begins at zero would stay there.

    Raises:
      ValueError: when initialised, a `where` that matches no leaf.

    Source: Han et al. (arXiv:1506.02626), retraining of what is left.

    >>> tx = optax.chain(optax.sgd(1.0), keep_zeros())
    >>> params = {"a": {"kernel": jnp.array([0.0, 2.0])}}
    >>> updates, _ = tx.update({"a": {"kernel": jnp.ones(2)}}, tx.init(params), params)
    >>> updates["a"]["kernel"].tolist()
    [0.0, -1.0]
    """
    check_where(where)

    def init(params: PyTree) -> KeepZerosState:
        return KeepZerosState({path: w != 0 for path, w in _selected(params, where).items()})

    def update(
        updates: PyTree, state: KeepZerosState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, KeepZerosState]:
        check_state("keep_zeros", state, KeepZerosState)
        leaves, structure = jax.tree.flatten(updates)
        shapes = {path: jnp.shape(u) for path, u in zip(leaf_paths(updates), leaves)}
        for path, moving in state.moving.items():
            if shapes.get(path, moving.shape) != moving.shape:
                raise ValueError(
                    f"the update of {path} has shape {shapes[path]}, and its parameter {moving.shape}"
                )
        kept = [
            jnp.where(state.moving[path], u, jnp.zeros_like(u)) if path in state.moving else u
            for path, u in zip(leaf_paths(updates), leaves)
        ]
        return jax.tree.unflatten(structure, kept), state

    return optax.GradientTransformationExtraArgs(init, update)


class Sparsity(NamedTuple):
    """Shares of weights that are exactly zero.

    Attributes:
      share: of all the weights selected.
      leaves: of each leaf, by path.
    """

    share: Float[Array, ""]
    leaves: dict[str, Float[Array, ""]]


def sparsity(params: PyTree, *, where: Where = "*/kernel") -> Sparsity:
    """The share of weights that are exactly zero, of all and of each leaf.

    Args:
      params: any pytree of arrays.
      where: the leaves.

    Raises:
      ValueError: a `where` that matches no leaf.

    Source: counting.

    >>> report = sparsity({"a": {"kernel": jnp.array([0.0, 2.0])}, "b": {"kernel": jnp.zeros(2)}})
    >>> float(report.share), {path: float(share) for path, share in report.leaves.items()}
    (0.75, {'a/kernel': 0.5, 'b/kernel': 1.0})
    """
    check_leaves("params", params)
    weights = _selected(params, where)
    zeros = {path: jnp.sum(w == 0) for path, w in weights.items()}
    sizes = {path: max(w.size, 1) for path, w in weights.items()}
    whole = jnp.sum(jnp.stack(list(zeros.values()))) / sum(sizes.values())
    return Sparsity(whole, {path: zeros[path] / sizes[path] for path in zeros})


def _selected(params: PyTree, where: Where) -> dict[str, Array]:
    chosen = jax.tree.leaves(mask(params, where))
    named = zip(leaf_paths(params), jax.tree.leaves(params), chosen)
    return {path: jnp.asarray(w) for path, w, c in named if c}


class SparsityCurve(NamedTuple):
    """What a metric is after pruning.

    Attributes:
      sparsity: the levels, ``(levels,)``.
      value: the metric at each, ``(levels,)``.
    """

    sparsity: Float[np.ndarray, "levels"]
    value: Float[np.ndarray, "levels"]


def sparsity_curve(
    model: Model,
    params: PyTree,
    state: PyTree,
    data: tuple[PyTree, PyTree] | tuple[PyTree, PyTree, ArrayLike],
    levels: Sequence[float] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99),
    metric: PerExample | Metric = accuracy,
    *,
    where: Where = "*/kernel",
    scope: Scope = "global",
    batch_size: int = 1024,
) -> SparsityCurve:
    """A metric on `data` at several levels of pruning, in one compiled program.

    The weights are ranked once; levels and batches are loops, so that memory does not grow with either.

    Args:
      model, params, state: any `Model` with its parameters and state.
      data: ``(x, y)`` or ``(x, y, weights)``, arrays (or pytrees of arrays) with a row per example. As
        in `jaxdeep.evaluate`, rows of weight 0 do not count, and further a streaming metric weighs.
      levels: shares of the selected weights that are set to zero, in [0, 1].
      metric: ``(outputs, y) -> values`` per example, of which the mean is taken, or a streaming
        `jaxdeep.metrics.Metric`; `jaxdeep.metrics.accuracy` by default.
      where, scope: as for `prune`.
      batch_size: rows at a time.

    Returns:
      A `SparsityCurve` of NumPy arrays.

    Raises:
      ValueError: no levels or levels outside [0, 1], no rows, rows of different numbers, weights that
        are negative, not finite or all 0, parameters that are not of the model; as `prune`.
      TypeError: a metric that is neither.

    Source: Han et al. (arXiv:1506.02626), figure 5.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(out=jd.nn.dense(3))
    >>> x = jax.random.normal(jax.random.key(0), (50, 8))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> y = jnp.argmax(model.apply(params, state, x)[0], axis=-1)
    >>> curve = sparsity_curve(model, params, state, (x, y), [0.0, 0.5, 1.0])
    >>> float(curve.value[0]), bool(curve.value[1] >= curve.value[2])
    (1.0, True)
    """
    if is_traced((params, state, data)):
        raise TypeError(
            "sparsity_curve drives devices from the host and cannot be traced: it was called inside "
            "jax.jit, jax.vmap or jax.grad; use prune there, which is pure"
        )
    check_models("sparsity_curve", {"model": model})
    check_fit(model, params, state)
    batch_size = _checks.check_count("batch_size", batch_size)
    if not (isinstance(metric, Metric) or callable(metric)):
        raise TypeError(f"metric must be a function (outputs, y) -> values or a Metric, got {metric!r}")
    _checks.check_sequence("levels", levels)
    if not len(levels):
        raise ValueError("levels must hold at least one share")
    for level in levels:
        _checks.check_scalar("levels", level, "[0, 1]")
    levels = [float(level) for level in levels]
    check_pair(data, "data")
    for i, part in enumerate(data):
        check_leaves(f"data[{i}]", part)
    check_weights(data, "data")
    rows = {next(iter(np.shape(leaf)), 0) for leaf in jax.tree.leaves(data)}
    if len(rows) != 1 or not min(rows):
        raise ValueError(f"data must have the same number of rows everywhere, got {sorted(rows)}")
    groups = _groups(params, where, scope)
    sizes = _sizes(params, groups)
    counts = np.array([[_share(level, n) for n in sizes] for level in levels], np.int32)
    values = _curve(model, metric, groups, min(batch_size, *rows), params, state, tuple(data), counts)
    return SparsityCurve(np.array(levels), np.asarray(values))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _curve(
    model: Model,
    metric: PerExample | Metric,
    groups: Groups,
    batch_size: int,
    params: PyTree,
    state: PyTree,
    data: tuple[PyTree, ...],
    counts: Integer[Array, "levels groups"],
) -> Float[Array, "levels"]:
    """The metric for each row of counts."""
    ranks, streams = _ranks(params, groups), isinstance(metric, Metric)
    counted = metric if isinstance(metric, Metric) else mean(metric)
    n = jnp.shape(jax.tree.leaves(data)[0])[0]
    whole = n - n % batch_size
    batches = jax.tree.map(
        lambda a: jnp.reshape(a[:whole], (whole // batch_size, batch_size, *a.shape[1:])), data
    )
    rest = jax.tree.map(lambda a: a[whole:], data)

    def at(count: Integer[Array, "groups"]) -> Array:
        pruned = _zeroed(params, _kept(params, groups, ranks, count))

        def add(total: PyTree, batch: tuple[PyTree, ...]) -> tuple[PyTree, None]:
            x, y, *weights = batch
            outputs, _ = model.apply(pruned, state, x)
            row_weights = [w if streams else w != 0 for w in weights]
            return counted.update(total, outputs, y, *row_weights), None

        total, _ = jax.lax.scan(add, counted.init(), batches)
        return counted.compute(total if whole == n else add(total, rest)[0])

    return jax.lax.map(at, counts)
