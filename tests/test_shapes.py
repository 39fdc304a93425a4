"""Annotated shapes are checked in the tests, and cost users nothing."""

import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import pytest

from jaxdeep.uncertainty import rejection, temperature


@pytest.mark.parametrize(
    "call",
    [
        lambda: temperature._fit(jnp.ones((2, 3)), jnp.ones((4, 3))),
        lambda: rejection._curve(jnp.ones((2, 3)), jnp.zeros(2), jnp.ones(2)),  # labels are integers
    ],
)
def test_an_array_of_another_shape_or_dtype_is_refused(call):
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


@pytest.mark.heavy
def test_without_jaxtyping_the_types_are_any():
    code = (
        "import sys, typing; from jaxdeep.uncertainty import brier_score; "
        "print('jaxtyping' in sys.modules, typing.get_type_hints(brier_score)['return'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "typing.Any"]
