"""Programs without the branches that are for a platform of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep.compress.any_platform import in_any_form


def choosing(x):
    return jax.lax.platform_dependent(x, cpu=lambda x: -x, default=halves)


def halves(x):
    return x * jnp.linspace(0.4, 0.6, x.size).reshape(x.shape)


def with_a_derivative(f):
    function = jax.custom_jvp(f)
    function.defjvp(lambda xs, dxs: (f(*xs), f(*dxs)))
    return function


INSIDE = {
    "alone": lambda f: f,
    "twice": lambda f: lambda x: f(x) + f(f(x)),
    "jit": lambda f: lambda x: jax.jit(f)(x) + 1,
    "custom_jvp": with_a_derivative,
    "checkpoint": jax.checkpoint,
    "vmap": jax.vmap,
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, a: (f(c), f(a) + c), x[0], x)[1],
    "while": lambda f: lambda x: jax.lax.fori_loop(0, 3, lambda i, x: f(x), x),
    "cond": lambda f: lambda x: jax.lax.cond(x.sum() > 0, f, lambda x: x, x),
}


@pytest.mark.parametrize("name", INSIDE)
def test_the_default_takes_the_place_of_what_depends_on_the_platform(name):
    x = jnp.arange(1.0, 7.0).reshape(3, 2)
    program = in_any_form(jax.make_jaxpr(INSIDE[name](choosing))(x))
    assert "platform_index" not in str(program)
    (got,) = jax.jit(jax.extend.core.jaxpr_as_fun(program))(x)
    np.testing.assert_allclose(got, INSIDE[name](halves)(x), rtol=1e-6)
    assert not np.allclose(got, INSIDE[name](choosing)(x))


def test_a_program_that_does_not_choose_is_left_alone():
    program = jax.make_jaxpr(jax.vmap(halves))(jnp.ones((3, 2)))
    assert in_any_form(program) is program
