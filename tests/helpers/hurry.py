"""What makes compiling short for tests, by functions of JAX that are not public; all pass without."""

import threading

import jax
from jax._src import compiler
from jax._src.interpreters import mlir

_MOST = 100  # programs of one context, which keeps what it was told of each


def emit_plainly(in_a_hurry):
    """While `in_a_hurry()`, use XLA's plain emitter: add to what JAX tells the compiler."""
    options_of = getattr(compiler, "get_compile_options", None)
    plainly = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    plainly = {name: value for name, value in plainly.items() if _xla_takes(name, value)}

    def options(*args, env_options_overrides=None, **others):
        if in_a_hurry():
            env_options_overrides = plainly | (env_options_overrides or {})
        return options_of(*args, env_options_overrides=env_options_overrides, **others)

    if options_of is not None:
        compiler.get_compile_options = options


def takes_plainly():
    """Whether this version of XLA has its plain emitter."""
    return _xla_takes("xla_cpu_use_fusion_emitters", False)


def share_contexts():
    """Write programs one after another in one context: making one, 4 ms, is a fifth of a test's time."""
    make = getattr(mlir, "make_ir_context", None)
    own = threading.local()

    def shared():
        if _is_within_another():
            return make()
        if not getattr(own, "left", 0):
            own.context, own.left = make(), _MOST
        own.left -= 1
        return own.context

    if make is not None:
        mlir.make_ir_context = shared


def _is_within_another():
    """Whether a program is written while another is, which would become a part of that."""
    try:
        return mlir.ir.Context.current is not None
    except ValueError:  # of earlier versions, where there is none
        return False


def _xla_takes(option, value):
    """Whether this version of XLA has an option: that of JAX 0.12 has no other emitter of fusions."""
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
