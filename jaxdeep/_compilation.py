"""Compiling ahead of time, once in a process for all calls that mean the same program."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jaxdeep._identity import Key

PyTree = Any

# Elementwise work (the optimizer, activations, dropout) in registers of 512 bits where the CPU has
# them: about 5 % of a step of the chapter's network, benchmarks/throughput.py. No effect elsewhere.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}

# What runs once, such as drawing the first parameters, spends its time in the compiler: a third of it
# with few of LLVM's passes, and to the same bits.
_CPU_ONCE: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}

# Settings of JAX that decide what a function is traced and compiled to.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_softmax_custom_jvp",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_enable_checks",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_default_device",
    "jax_use_shardy_partitioner",
    "jax_platforms",
)

# Compiled programs, and facts that took a trace to find out, of the last runs. Neither holds data,
# parameters or a user's functions; the oldest go first.
_MOST = 64
_kept: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()


def compiled(
    function: Callable[..., Any],
    *args: Any,
    key: Key | None = None,
    donate_argnums: int | tuple[int, ...] = (),
    out_shardings: Any = None,
    once: bool | None = False,
) -> Callable[..., Any]:
    """`function` compiled for arguments like `args`; in a hurry if it will run `once`.

    With ``once=None`` the compiler has the options that `jax.jit` gives it.

    With a `key` (`jaxdeep._identity.key_of` all that the function depends on besides its arguments),
    a program that was compiled for the same key, arguments of the same shapes and places, and the same
    settings of JAX is returned instead: nothing is traced then. Results lie where `out_shardings` says.

    >>> import jax.numpy as jnp
    >>> compiled(lambda x: x + 1, jnp.zeros(2))(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """

    def build() -> Callable[..., Any]:
        where = {} if out_shardings is None else {"out_shardings": out_shardings}
        lowered = jax.jit(function, donate_argnums=donate_argnums, **where).lower(*args)
        if jax.default_backend() == "cpu" and once is not None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # a jaxlib that lacks the option
                return lowered.compile(compiler_options=_CPU_ONCE if once else _CPU_OPTIONS)
        return lowered.compile()

    return kept(key, build, args, donate_argnums, _flat(out_shardings), once)


def run_once(
    function: Callable[..., Any], *args: Any, key: Key | None = None, once: bool | None = True
) -> Any:
    """``function(*args)`` as one program instead of one an operation; within a trace, a part of it.

    `key` and `once` are as for `compiled`.

    >>> import jax.numpy as jnp
    >>> run_once(lambda x: x + 1, jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
        return jax.jit(function)(*args)
    return compiled(function, *args, key=key, once=once)(*args)


def kept(key: Key | None, build: Callable[[], Any], args: PyTree, *static: Hashable) -> Any:
    """What `build` makes, or made before for the same key, arguments of the same shapes and settings.

    `build` may be called by several threads at a time. What it makes must not hold arrays of the
    arguments' size, and nothing of the user's.
    """
    if key is None or not key.usable:
        return build()
    place = (key, static, _shapes(args), settings())
    try:
        hash(place)
    except TypeError:  # a node of a pytree whose static part is not hashable
        return build()
    with _lock:
        if place in _kept:
            _kept.move_to_end(place)
            return _kept[place]
    made = build()
    with _lock:
        for old in [old for old in _kept if not old[0].is_alive]:  # type: ignore[index]
            del _kept[old]
        _kept[place] = made
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    return made


def forget() -> None:
    """Drop all programs that were kept: the next call of everything compiles anew."""
    with _lock:
        _kept.clear()


def settings() -> Hashable:
    """What JAX is set to, as far as programs depend on it."""
    config: Any = jax.config
    # What contexts can change is an attribute, which sees them; the rest is only among the values.
    now = (getattr(config, name, config.values[name]) for name in _SETTINGS if name in config.values)
    return (jax.default_backend(), *now)


def _flat(tree: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(tree)
    return tuple(leaves), structure


def _shapes(args: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(args)
    return tuple(map(_like, leaves)), structure


def _like(leaf: Any) -> Hashable:
    """What of an argument a compiled program depends on."""
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False), leaf.sharding
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.shape, leaf.dtype, bool(getattr(leaf, "weak_type", False)), leaf.sharding
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype
    return type(leaf).__name__  # a Python number, whose value is an argument
