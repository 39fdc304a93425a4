"""Compilation ahead of time, once in a process for all calls that need the same program."""

import contextlib
import functools
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.stages import Compiled, Lowered

from jaxdeep._identity import JITTED, Key
from jaxdeep._shapes import ArrayLike, PyTree

T = TypeVar("T")
Program = Callable[..., Any]  # a Compiled, or a function that is not compiled apart
Place = tuple[Key, *tuple[Hashable, ...]]  # a key, shapes, settings of JAX

# Elementwise work (the optimizer, activations, dropout) in registers of 512 bits where the CPU has
# them: about 5 % of a step of the chapter's network, benchmarks/throughput.py. No effect elsewhere.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}

# A program that runs once, such as drawing the first parameters, spends its time in the compiler. With
# few of LLVM's passes that is a third of the time, with XLA's plain emitter of machine code a fifth less
# again, and the bits are the same.
_CPU_ONCE: dict[str, str | bool] = {
    "xla_backend_optimization_level": "1",
    "xla_cpu_use_fusion_emitters": False,
}

# Settings of JAX that tracing and compilation depend on.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_explicit_x64_dtypes",
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

# Compiled programs of the last runs, and facts that took a trace to find out. They hold neither data nor
# parameters nor users' functions. The least recently used are dropped first. A run has about six, two of
# them programs, so that sixteen runs that differ in more than values find theirs again.
_MOST = 96
_kept: OrderedDict[Place, Any] = OrderedDict()
_lock = threading.Lock()


def inside(function: Any, *, once: bool = False) -> Any:
    """The function inside any `functools.partial` and `jax.jit`, or in the outermost of them.

    >>> inside(jax.jit(functools.partial(max, 1))) is max
    True
    """
    while isinstance(function, (functools.partial, JITTED)):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
        if once:
            break
    return function


def compiled(
    function: Callable[..., object],
    *args: PyTree,
    key: Key | None = None,
    donate_argnums: int | tuple[int, ...] = (),
    out_shardings: PyTree = None,
    once: bool | None = False,
) -> Program:
    """The `function`, compiled for arguments like `args`.

    With ``once=True`` the compiler saves its own time, for a program that runs once. With ``once=False``
    it makes a fast program. With ``once=None`` it has the options that `jax.jit` gives it. Results have
    the shardings `out_shardings`.

    The `key` is made by `jaxdeep._identity.key_of` from everything that the function depends on besides
    its arguments. With it, a program that was compiled before for the same key, arguments of the same
    shapes and shardings, and the same settings of JAX is returned, and nothing is traced.

    A function that closes over traced values cannot be compiled apart from the trace they belong to: it
    is returned under `jax.jit`, which makes it a part of that trace. With ``jax_disable_jit`` nothing is
    compiled, and the function runs as it is written.

    >>> import jax.numpy as jnp
    >>> compiled(lambda x: x + 1, jnp.zeros(2))(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if getattr(jax.config, "jax_disable_jit", False):
        return function if out_shardings is None else _put(function, out_shardings)
    where = {} if out_shardings is None else {"out_shardings": out_shardings}
    jitted = jax.jit(function, donate_argnums=donate_argnums, **where)

    def build() -> Compiled:
        traced = jitted.trace(*args)
        if _refers_to_traced(traced, args):
            raise _ClosesOverTraced
        lowered = traced.lower()
        # an exception that drops what the compiler returns makes the process crash when it ends
        with uninterrupted():
            if jax.default_backend() == "cpu" and once is not None:
                return _with_options(lowered, _CPU_ONCE if once else _CPU_OPTIONS)
            return lowered.compile()

    try:
        return kept(key, build, args, donate_argnums, _flat(out_shardings), once)
    except _ClosesOverTraced:
        return jitted


def _with_options(lowered: Lowered, options: dict[str, str | bool]) -> Compiled:
    """The program compiled with those of the options that this jaxlib has."""
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        others = {name: value for name, value in options.items() if name not in str(error)}
        if len(others) == len(options):
            return lowered.compile()
        return _with_options(lowered, others)


def _put(function: Callable[..., Any], shardings: PyTree) -> Callable[..., Any]:
    """The function, with its results put where `shardings` say."""
    return lambda *args: jax.device_put(function(*args), shardings)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C (SIGINT) waits until the context is left, and is handled then, however often it came.

    It is for what must not be cut short and ends by itself: the compiler, and threads that may be in it.
    Other threads than the main one get no signals, and a handler that is none of Python's stays.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if is_main else None
    if not callable(before):
        yield
        return
    waiting = []
    signal.signal(signal.SIGINT, lambda *signalled: waiting.append(signalled))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for signalled in waiting:
            before(*signalled)


class _ClosesOverTraced(Exception):
    """Raised for a function that closes over values of an outer trace."""


def run_once(
    function: Callable[..., T], *args: PyTree, key: Key | None = None, once: bool | None = True
) -> T:
    """``function(*args)`` as one program, instead of one program for each operation.

    If arguments, or values that the function closes over, are traced, it becomes a part of their trace.
    `key` and `once` are as for `compiled`.

    >>> import jax.numpy as jnp
    >>> run_once(lambda x: x + 1, jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if is_traced(args):
        return jax.jit(function)(*args)
    return compiled(function, *args, key=key, once=once)(*args)


@contextlib.contextmanager
def meant_transfers() -> Iterator[None]:
    """Transfers between host and devices that a function of ours makes are meant, as explicit ones are.

    ``jax_transfer_guard="disallow"`` refuses those that nobody wrote; ``"disallow_explicit"`` stays.
    It decorates functions of the host, whose data and numbers come from there.
    """
    with contextlib.ExitStack() as stack:
        for name, guard in _GUARDS.items():
            if getattr(jax.config, f"jax_transfer_guard_{name}") in ("disallow", "log"):
                stack.enter_context(guard("allow"))
        yield


@contextlib.contextmanager
def meant_nans(*, meant: bool = True) -> Iterator[None]:
    """NaN that a function of ours makes are meant, where ``jax_debug_nans`` takes each for a mistake.

    Where they are not, the error that a compiled program raises of its own says so in words.
    """
    try:
        with jax.debug_nans(False) if meant else contextlib.nullcontext():
            yield
    except Exception as error:
        if type(error).__name__ != "InternalFloatingPointError":  # JAX' own, which it does not export
            raise
        program, value = error.args
        raise FloatingPointError(
            f"{program} made a value that is {value}, which jax_debug_nans or jax_debug_infs takes for "
            "a mistake; with jax.disable_jit() as well JAX shows the operation"
        ) from None


def transfer_levels() -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """A function that makes a context with the guards of now, such as for a callback of the user's."""
    levels = {name: getattr(jax.config, f"jax_transfer_guard_{name}") for name in _GUARDS}

    def context() -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        for name, level in levels.items():
            if level is not None:
                stack.enter_context(_GUARDS[name](level))
        return stack

    return context


_GUARDS: dict[str, Callable[[str], contextlib.AbstractContextManager[Any]]] = {
    "host_to_device": jax.transfer_guard_host_to_device,
    "device_to_device": jax.transfer_guard_device_to_device,
    "device_to_host": jax.transfer_guard_device_to_host,
}


def check_untraced(
    caller: str, *trees: PyTree, instead: str, does: str = "drives devices from the host"
) -> None:
    """Refuse traced values in a function of the host, which cannot be a part of a compiled program."""
    if is_traced(trees):
        refuse_traced(caller, instead=instead, does=does)


def refuse_traced(caller: str, *, instead: str, does: str = "drives devices from the host") -> NoReturn:
    """Say that a function of the host was given traced values."""
    raise TypeError(
        f"{caller} {does} and cannot be traced: it was called inside jax.jit, "
        f"jax.vmap or jax.grad with a value that is traced; use {instead} there, which is pure"
    )


def closes_over_traced(function: Callable[..., object], *args: PyTree) -> bool:
    """Whether a function of arguments like `args` refers to values of an outer trace.

    It may be under `jax.jit` already, and is not traced again if it was for arguments like these.
    """
    jitted: Any = function if isinstance(function, JITTED) else jax.jit(function)
    return _refers_to_traced(jitted.trace(*args), args)


def _refers_to_traced(traced: Any, args: PyTree) -> bool:
    """Whether values of an outer trace became arguments, or constants in earlier versions of JAX."""
    more = len(traced.jaxpr.in_avals) > len(jax.tree.leaves(args))
    return more or is_traced(traced.jaxpr.consts)


def is_traced(tree: PyTree) -> bool:
    """Whether a tree has leaves whose values are not known, since they are arguments of a trace."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def kept(key: Key | None, build: Callable[[], T], args: PyTree, *static: Hashable) -> T:
    """The result of `build`, kept for calls with the same key, shapes of arguments and settings of JAX.

    Several threads may call `build` at the same time. Its result must hold no arrays of the arguments'
    size and no object of the user's.
    """
    if key is None or not key.usable or is_traced(args):
        return build()
    place: Place = (key, static, _shapes(args), settings())
    try:
        hash(place)
    except TypeError:  # a pytree node has static data that cannot be hashed
        return build()
    with _lock:
        if place in _kept:
            _kept.move_to_end(place)
            return _kept[place]
    made = build()
    with _lock:
        for old in [old for old in _kept if not old[0].is_alive]:
            del _kept[old]
        _kept[place] = made
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    return made


def known_as(old: Key, new: Key) -> None:
    """Find what was kept for keys made of `old` by keys made of `new`, too.

    Tracing may change what a user's function refers to (a list that counts the traces, say), and so the
    key of what was compiled from it.
    """
    with _lock:
        for (key, *others), program in list(_kept.items()):
            if (renewed := key.replaced(old, new)) is not None:
                _kept[renewed, *others] = program
        while len(_kept) > _MOST:
            _kept.popitem(last=False)


def forget() -> None:
    """Drop all programs that were kept, so that every function compiles anew at its next call."""
    with _lock:
        _kept.clear()


def settings() -> Hashable:
    """The settings of JAX that programs depend on, and their values now."""
    values = jax.config.values  # made anew each time
    # Attributes show what a context has set in this thread; some settings are only in `values`.
    now = (getattr(jax.config, name, values[name]) for name in _SETTINGS if name in values)
    return (jax.default_backend(), *now)


def _flat(tree: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(tree)
    return tuple(leaves), structure


def _shapes(args: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(args)
    return tuple(map(_like, leaves)), structure


def _like(leaf: ArrayLike | jax.ShapeDtypeStruct) -> Hashable:
    """The properties of an argument that a compiled program depends on."""
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False), leaf.sharding
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.shape, leaf.dtype, bool(getattr(leaf, "weak_type", False)), leaf.sharding
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype
    # a Python number, whose value is an argument, or an array of another library
    return type(leaf).__name__, tuple(getattr(leaf, "shape", ())), str(getattr(leaf, "dtype", ""))
