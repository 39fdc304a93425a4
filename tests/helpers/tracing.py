"""Compilations, counted, and tracers that are held."""

import contextlib
import gc

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


@contextlib.contextmanager
def checking_leaks():
    """JAX' search for what holds a tracer, among what is made from here on, as a process holds much."""
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()
