"""Compiling ahead of time, with what makes training faster on the backend."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

# Elementwise work (the optimizer, activations, dropout) in registers of 512 bits where the CPU has
# them: about 5 % of a step of the chapter's network, benchmarks/throughput.py. No effect elsewhere.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}

# What runs once, such as drawing the first parameters, spends its time in the compiler: a third of it
# with few of LLVM's passes, and to the same bits.
_CPU_ONCE: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}


def compiled(
    function: Callable[..., Any],
    *args: Any,
    donate_argnums: int | tuple[int, ...] = (),
    out_shardings: Any = None,
    once: bool = False,
) -> Callable[..., Any]:
    """`function` compiled for arguments like `args`; in a hurry if it will run `once`.

    Results lie where `out_shardings` says.

    >>> import jax.numpy as jnp
    >>> compiled(lambda x: x + 1, jnp.zeros(2))(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    where = {} if out_shardings is None else {"out_shardings": out_shardings}
    lowered = jax.jit(function, donate_argnums=donate_argnums, **where).lower(*args)
    if jax.default_backend() == "cpu":
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a jaxlib that lacks the option
            return lowered.compile(compiler_options=_CPU_ONCE if once else _CPU_OPTIONS)
    return lowered.compile()


def run_once(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` as one program instead of one an operation; within a trace, a part of it.

    >>> import jax.numpy as jnp
    >>> run_once(lambda x: x + 1, jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
        return jax.jit(function)(*args)
    return compiled(function, *args, once=True)(*args)
