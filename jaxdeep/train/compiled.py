"""Compiling ahead of time, with what makes training faster on the backend."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

# Elementwise work (the optimizer, activations, dropout) in registers of 512 bits where the CPU has
# them: about 5 % of a step of the chapter's network, benchmarks/throughput.py. No effect elsewhere.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}


def compiled(
    function: Callable[..., Any],
    *args: Any,
    donate_argnums: int | tuple[int, ...] = (),
    out_shardings: Any = None,
) -> Callable[..., Any]:
    """`function` compiled for arguments like `args`; results lie where `out_shardings` says.

    >>> import jax.numpy as jnp
    >>> compiled(lambda x: x + 1, jnp.zeros(2))(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    where = {} if out_shardings is None else {"out_shardings": out_shardings}
    lowered = jax.jit(function, donate_argnums=donate_argnums, **where).lower(*args)
    if jax.default_backend() == "cpu":
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a jaxlib that lacks the option
            return lowered.compile(compiler_options=_CPU_OPTIONS)
    return lowered.compile()
