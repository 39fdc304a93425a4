"""Compilations, counted."""

import chex
import jax


def traced_once(function):
    """`function` under `jax.jit`, in which a second trace is an error; one at a time in a test."""
    chex.clear_trace_counter()  # chex counts by the source of a function, over all tests

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(*args):
        return function(*args)

    return traced
