"""Any optimizer with its state, and the parameters, in fewer bits."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import KeyPath, PyTreeDef

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, PyTree
from jaxdeep.optimizers.bits import Words
from jaxdeep.optimizers.codes import Coded, all_decoded, encoded, in_parts, is_coded, joined, rounded
from jaxdeep.optimizers.dependence import depend_on_values
from jaxdeep.optimizers.evaluation import states_of
from jaxdeep.optimizers.identity import Described
from jaxdeep.optimizers.slots import Kind, kinds_of
from jaxdeep.optimizers.transform import Transform, check_state, check_updates, leaves_beside, update_of
from jaxdeep.tree import Where, check_where, mask, path_name

_STATES = ("bfloat16", "int8")
_PARAMS = ("float32", "bfloat16", "bfloat16+8")
_SHORTEST = 16  # last axis, below which the scales of 8-bit codes would not be worth it


class LowPrecisionState(NamedTuple):
    """State of `low_precision`.

    Attributes:
      count: updates done, int32; the random bits of a rounding are of it and of the place alone.
      inner: the state of the optimizer inside, with codes in the place of large arrays.
      error: what parameters of bfloat16 lack, in 8 bits, with ``params="bfloat16+8"``; None for others.
    """

    count: jax.Array  # type: ignore[assignment]
    inner: PyTree
    error: PyTree


class _Settings(NamedTuple):
    state: str
    params: str
    where: Where | None
    min_size: int


@remembered
def low_precision(
    inner: optax.GradientTransformation,
    state: str = "int8",
    params: str = "float32",
    *,
    where: Where | None = None,
    min_size: int = 4096,
) -> Transform:
    """Any optimizer with its state in 8 or 16 bits a number, and the parameters in 16 or 24.

    AdamW in float32 takes 12 bytes a parameter: the parameter, m and v. With this around it::

        state       params         bytes
        "int8"      "float32"       6.03
        "bfloat16"  "bfloat16"      6.00
        "int8"      "bfloat16+8"    5.03
        "int8"      "bfloat16"      4.03

    At every update the state is decoded, `inner` does its arithmetic in float32, and the result is
    encoded again, leaf by leaf in one compiled function. ``int8`` has a scale for each block of up
    to 256 elements along the last axis, the largest size s among them, and 8-bit floats below it::

        v ≈ s · 2^((c − 253)/8)    31 octaves of squares, ``uint8``; c = 0 is v = 0, and nothing else
        m ≈ ± s · 2^((|c| − 126)/8)    15 octaves, ``int8``

    (the power being linear within an octave). A v that is not 0 never becomes 0, so that no update can
    be far larger than it was to be; what is 0 stays exactly 0. Whatever loses bits is **rounded at
    random** to one of its two neighbours so that the mean is right, for v changes by a thousandth an
    update, less than any of these steps, and rounding to the nearest would hold it where it is. The
    random bits are a hash of the number of the array, of the count of updates and of the position: no
    key is kept, and they are the same under `jax.jit` and `jax.vmap`, on any number of devices, and in
    a run that goes on from a checkpoint.

    It saves memory, not time: on a CPU, where an update in float32 is only waiting for memory, one of
    these computes for several times as long (``benchmarks/results/low_precision.md``).

    What is encoded: arrays of `inner`'s state that have the path, the shape and at least `min_size`
    elements of a parameter, are float32, and begin at a value which the parameters have no part in.
    So averages of gradients are, and copies or averages of parameters (`lookahead`, `ema_params`) are
    not; nor are whole numbers, scalars, factors of Adafactor and dtypes below float32, nor the sums of
    `optax.contrib.madgrad` and `cocob`, which make the parameters anew at every update. Which arrays are
    averages of gradients and which are squares is known of the optimizers of jaxdeep and optax. Whatever
    else they have, and the state of other optimizers, is bfloat16 with ``state="int8"``, too, since the
    smallest of what an update is divided by must not become 0, and what an array is for is not to be
    told from its name.

    With ``params="bfloat16"`` or ``"bfloat16+8"`` the parameters themselves are bfloat16 (cast them
    before `init`; smaller ones may stay float32). The new parameter is rounded at random, to bfloat16 or
    to 24 bits, of which the last 8 are in the state. The update is ``new − p`` in float32, whatever
    the parameters are, so that ``p + u``, which `optax.apply_updates` rounds to bfloat16, is the
    new parameter. Therefore this comes **last in a chain**: put clipping, decay and constraints into
    `inner`, and `optax.apply_if_finite`, whose refused updates have the gradients' dtype. What may be
    around it is `skip_nonfinite`.

    Args:
      inner: any transformation of jaxdeep or optax, or a pair of `init` and `update`. It sees
        gradients, parameters and state in at least float32.
      state: "int8" or "bfloat16".
      params: "float32" leaves parameters and updates in the dtype they have; "bfloat16"; "bfloat16+8".
      where: the parameters it is for (`jaxdeep.tree.mask`), themselves and their state; all by default.
      min_size: state of smaller parameters stays float32; so does with "int8" that of parameters with
        less than 16 elements along the last axis.

    Raises:
      TypeError: not an optax transformation. ValueError: an unknown word, a size below 1; at
        `init`, a parameter of `min_size` that is not bfloat16 though `params` says so, or an `inner`
        that is already in low precision or takes a variance as a difference; at the update, parameters
        not passed, or another's state.

    Sources: Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (arXiv:2110.02861);
    Gonzalez Ortiz et al., "FlashOptim" (arXiv:2602.23349); Zamirai et al., "Revisiting BFloat16
    Training" (arXiv:2010.06192). In the codes of the first two a v that is not 0 can become 0, so that
    one large coordinate makes the updates of its neighbours thousands of times too large.

    >>> import jaxdeep as jd
    >>> tx = low_precision(jd.optimizers.adamw(1e-3), "int8", "bfloat16+8")
    >>> params = {"kernel": jnp.ones((64, 256), jnp.bfloat16), "bias": jnp.zeros(256)}
    >>> state = tx.init(params)
    >>> round(jd.optimizers.bytes_per_param(state, params), 2)  # the bias stays as it is
    5.14
    >>> updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    >>> params = optax.apply_updates(params, updates)
    >>> params["kernel"].dtype, round(float(jd.optimizers.hyperparams(state)["learning_rate"]), 4)
    (dtype(bfloat16), 0.001)
    """
    if not all(callable(getattr(inner, name, None)) for name in ("init", "update")):
        hint = "; call it with a learning rate" if callable(inner) else ""
        raise TypeError(f"inner must be an optax transformation, got {inner!r}{hint}")
    _checks.check_choice("state", state, _STATES)
    _checks.check_choice("params", params, _PARAMS)
    if where is not None:
        check_where(where)
    settings = _Settings(state, params, where, _checks.check_count("min_size", min_size))
    return optax.GradientTransformationExtraArgs(
        Described(_init, (inner.init, settings)), Described(_update, (update_of(inner), settings))
    )


# --- the beginning ----------------------------------------------------------------------------------


def _init(
    inner_init: Callable[[PyTree], PyTree], settings: _Settings, params: PyTree
) -> LowPrecisionState:
    if params is None:
        raise TypeError("params must be a pytree of arrays, got None")
    check_leaves("params", params)
    chosen = _chosen(params, settings)
    large: dict[KeyPath, tuple[int, ...]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if np.size(leaf) < settings.min_size or not (_is_float(leaf) and chosen[path]):
            continue
        if settings.params != "float32" and leaf.dtype != jnp.bfloat16:
            raise ValueError(
                f"params={settings.params!r} wants parameters in bfloat16, and "
                f"{path_name(path) or 'the only leaf'} is {jnp.result_type(leaf)}; cast it, "
                "leaf.astype('bfloat16'), or leave it out by where="
            )
        if settings.state == "bfloat16" or np.shape(leaf)[-1:] >= (_SHORTEST,):
            large[path] = np.shape(leaf)
    wide = jax.tree.map(_widened, params)
    inner = inner_init(wide)
    if next(states_of(inner, LowPrecisionState), None) is not None:
        raise ValueError("inner must not be in low precision already, got low_precision in it")
    kinds = kinds_of(inner)
    if "variance" in kinds:
        raise ValueError(
            "inner must not take a variance as nu − mu², as optax.scale_by_stddev does, which rounding "
            "makes negative; jaxdeep.optimizers.rmsprop(centered=True) sums squares of differences"
        )
    leaves, structure = jax.tree_util.tree_flatten_with_path(inner)
    of_values = depend_on_values(inner_init, wide) if large else [True] * len(leaves)
    begins = _beginnings(
        [path for path, _ in leaves], {path for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    )
    coded = [
        leaf if copied else _first(leaf, kind, large.get(path[begin:]), settings.state)
        for (path, leaf), kind, copied, begin in zip(leaves, kinds, of_values, begins)
    ]
    error = None
    if settings.params == "bfloat16+8":
        error = jax.tree_util.tree_map_with_path(
            lambda path, p: jnp.zeros_like(p, jnp.int8) if _is_low(p) and chosen[path] else None, params
        )
    return LowPrecisionState(jnp.zeros((), jnp.int32), jax.tree.unflatten(structure, coded), error)


def _beginnings(paths: list[KeyPath], of_params: set[KeyPath]) -> list[int]:
    """Where in each path of a state the path of a parameter begins; its length if it holds none.

    That is where a tree like the parameters begins: one whose leaves are all at paths of parameters. The
    end of a path alone says little, for ``nu/a`` is v of ``a``, and may be of a parameter ``nu/a``, too.
    """
    fits: dict[KeyPath, bool] = {}
    for path in paths:
        for begin in range(len(path) + 1):
            above = path[:begin]
            fits[above] = fits.get(above, True) and path[begin:] in of_params
    return [
        next((begin for begin in range(len(path)) if fits[path[:begin]]), len(path)) for path in paths
    ]


def _first(leaf: Array, kind: Kind, large: tuple[int, ...] | None, state: str) -> Any:
    """A leaf of a new state, encoded if it belongs to a large parameter, whose shape this is."""
    if kind == "exact" or large is None or large != jnp.shape(leaf) or leaf.dtype != jnp.float32:
        return leaf
    return _coded(leaf, wide=state == "bfloat16" or kind == "other", signed=kind == "average")


@functools.partial(jax.jit, static_argnames=("wide", "signed"))
def _coded(leaf: Array, *, wide: bool, signed: bool) -> Coded:
    # without the barrier XLA would encode zeros while it compiles, which takes it seconds
    leaf = jax.lax.optimization_barrier(leaf)
    return rounded(leaf, 1 << 15) if wide else encoded(leaf, 1 << 15, signed=signed)


# --- the update -------------------------------------------------------------------------------------


def _update(
    inner_update: Callable[..., tuple[PyTree, PyTree]],
    settings: _Settings,
    updates: PyTree,
    state: LowPrecisionState,
    params: PyTree | None = None,
    **extra: object,
) -> tuple[PyTree, LowPrecisionState]:
    check_state("low_precision", state, LowPrecisionState)
    if params is None and settings.params != "float32":
        raise ValueError(
            f"low_precision(params={settings.params!r}) needs the parameters: "
            "update(updates, state, params)"
        )
    check_updates(updates, params)
    below: PyTreeDef
    old, below = jax.tree.flatten(state.inner, is_leaf=is_coded)
    kinds = kinds_of(state.inner)
    _check_own(settings, state, [kind for kind, node in zip(kinds, old) if is_coded(node)])
    structure: PyTreeDef = jax.tree.structure(updates, is_leaf=_is_none)
    grads = jax.tree.leaves(updates, is_leaf=_is_none)
    parameters = grads if params is None else leaves_beside(updates, "the parameters", params)
    errors: list[Any] = [None] * len(parameters)
    if state.error is not None:
        errors = jax.tree.leaves(state.error, is_leaf=_is_none)
        if len(errors) != len(parameters):
            raise ValueError("the state is of other parameters; make it with init(params)")
    exact = None
    if params is not None:
        exact = jax.tree.unflatten(structure, list(map(_exact, parameters, errors)))
    wide = jax.tree.unflatten(structure, [None if g is None else _widened(g) for g in grads])
    new_updates, inner = inner_update(wide, all_decoded(state.inner), exact, **extra)

    count = optax.safe_increment(state.count)
    words = Words(count, parameters, [*filter(is_coded, old)])
    kept = [
        _encoded_again(one, new, kind, words) if is_coded(one) else new
        for one, new, kind in zip(old, below.flatten_up_to(inner), kinds)
    ]
    low = [False] * len(parameters)
    if params is not None and settings.params != "float32":
        chosen = _chosen(params, settings)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_none)]
        low = [chosen.get(path, False) and _is_low(p) for path, p in zip(paths, parameters)]
    moves = enumerate(zip(structure.flatten_up_to(new_updates), parameters, errors))
    out = [
        _moved(u, p, error, words.of_param(index, p)) if low[index] and u is not None else (u, error)
        for index, (u, p, error) in moves
    ]
    cast = [
        u if is_low or u is None or not _is_float(p) else u.astype(jnp.result_type(p))
        for (u, _), p, is_low in zip(out, parameters, low)
    ]
    error = state.error
    if error is not None:
        error = jax.tree.unflatten(
            jax.tree.structure(error, is_leaf=_is_none), [error for _, error in out]
        )
    return jax.tree.unflatten(structure, cast), LowPrecisionState(
        count, jax.tree.unflatten(below, kept), error
    )


def _check_own(settings: _Settings, state: LowPrecisionState, kinds: list[Kind]) -> None:
    for node, kind in zip(states_of(state.inner, Coded), kinds):
        there = "bfloat16" if node.scales is None else "int8"
        if there != settings.state and (there, kind) != ("bfloat16", "other"):
            raise ValueError(
                f"the state was made with state={there!r}, and this optimizer with "
                f"state={settings.state!r}; make it with this one's init"
            )
    if (state.error is not None) != (settings.params == "bfloat16+8"):
        raise ValueError(
            f"the state was made with other params= than {settings.params!r}; make it with this one's "
            "init"
        )


def _exact(p: Array | None, error: Array | None) -> Array | None:
    return p if p is None else _widened(p) if error is None else joined(p, error)


def _encoded_again(old: Coded, new: Array, kind: Kind, words: Words) -> Coded:
    new = new.astype(jnp.float32)
    if old.scales is None:
        return rounded(new, words.of_state(new.shape))
    signed = old.codes.dtype == jnp.int8
    return encoded(new, words.of_state(new.shape), signed=signed, steady=kind == "sum")


def _moved(u: Array, p: Array, error: Array | None, random: Array) -> tuple[Array, Array | None]:
    """The update of a parameter in bfloat16, in float32, and what the new one lacks."""
    if error is None:
        high = rounded((_widened(p) + u).astype(jnp.float32), random).codes
    else:
        high, error = in_parts((joined(p, error) + u).astype(jnp.float32), random)
    return high.astype(jnp.float32) - p.astype(jnp.float32), error


# --- leaves -----------------------------------------------------------------------------------------


def _chosen(params: PyTree, settings: _Settings) -> dict[KeyPath, bool]:
    chosen = (
        jax.tree.map(lambda _: True, params) if settings.where is None else mask(params, settings.where)
    )
    return dict(jax.tree_util.tree_leaves_with_path(chosen))


def _is_none(leaf: object) -> bool:
    return leaf is None


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))


def _is_low(leaf: Any) -> bool:
    return leaf is not None and bool(jnp.result_type(leaf) == jnp.bfloat16)


def _widened(leaf: Array) -> Array:
    """A leaf as the optimizer inside sees it, in at least float32."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if _is_float(leaf) else leaf
