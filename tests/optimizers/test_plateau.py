"""Rates that fall where a metric rests."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.transforms import KEY, apply

import jaxdeep as jd
from jaxdeep import optimizers as o


def scales(tx, values):
    state = tx.init(jnp.zeros(2))
    found = []
    for value in values:
        u, state = tx.update(jnp.ones(2), state, value=value)
        found.append(float(u[0]))
    return found


@pytest.mark.heavy
def test_plateau_reproduces_every_recorded_framework(golden):
    row = golden["reduce_on_plateau"]
    for run in row["runs"]:
        p, c = run["patience"], run["cooldown"]
        shared = {"factor": run["factor"], "min_scale": run["min_lr"]}
        spelled = {
            "optax (rtol=1e-4, atol=0)": {"patience": p, "cooldown": c},
            "keras (min_delta=1e-4 absolute)": {
                "patience": p,
                "cooldown": max(c - 1, 0),
                "rtol": 0.0,
                "atol": 1e-4,
            },
            "torch (threshold=1e-4 rel)": {"patience": p + 1, "cooldown": c},
            "torch (threshold=1e-4 abs)": {"patience": p + 1, "cooldown": c, "rtol": 0.0, "atol": 1e-4},
        }
        for name, options in spelled.items():
            found = scales(o.reduce_on_plateau(**shared, **options), row["losses"])
            np.testing.assert_allclose(found, run[name], rtol=1e-6, err_msg=f"{name} {run}")


@pytest.mark.heavy
@hypothesis.settings(max_examples=10)
@hypothesis.given(
    values=st.lists(st.floats(0.015625, 10, width=32), min_size=5, max_size=40),
    patience=st.integers(1, 4),
    cooldown=st.integers(0, 3),
    size=st.integers(1, 3),
)
def test_plateau_against_the_installed_optax(values, patience, cooldown, size):
    options = {"factor": 0.5, "patience": patience, "cooldown": cooldown, "accumulation_size": size}
    ours, theirs = o.reduce_on_plateau(**options), optax.contrib.reduce_on_plateau(**options)
    np.testing.assert_allclose(scales(ours, values), scales(theirs, values), rtol=1e-6)


def test_plateau_is_right_for_negative_metrics_and_in_both_modes():
    falling = [-1.0, -2.0, -3.0, -4.0, -5.0]
    assert scales(o.reduce_on_plateau(0.5, 1), falling) == [1.0] * 5
    worse = [-1.0, -0.99995, -0.99995, -0.99995]  # optax takes the second for an improvement
    assert scales(o.reduce_on_plateau(0.5, 2), worse) == [1.0, 1.0, 0.5, 0.5]
    rising = [-5.0, -4.0, -3.0, 0.0, 0.5, 0.9]
    assert scales(o.reduce_on_plateau(0.5, 1, mode="max"), rising) == [1.0] * 6
    assert scales(o.reduce_on_plateau(0.5, 1, mode="max"), [0.9, 0.8, 0.7]) == [1.0, 0.5, 0.25]


def test_plateau_in_a_compiled_loop_fed_by_make_step():
    tx = optax.chain(o.sgd(0.1), o.reduce_on_plateau(0.5, 2))
    objective = lambda p, s, b, *, key=None, train=False: (jnp.float32(1.0) + 0 * p.sum(), (s, {}))  # noqa: E731
    ts = jd.train.TrainState(jnp.int32(0), jnp.ones(2), {}, tx.init(jnp.ones(2)), KEY)
    step = jd.train.make_step(objective, tx)
    ts, _ = jax.jit(lambda ts: jax.lax.scan(lambda ts, _: step(ts, ()), ts, None, length=7))(ts)
    assert float(ts.opt_state[1].scale) == 0.125


def test_plateau_under_inject_hyperparams_takes_its_counts_as_arrays():
    injected = optax.inject_hyperparams(o.reduce_on_plateau)(0.5, patience=2)
    plain = o.reduce_on_plateau(0.5, patience=2)
    values = [1.0, 1.0, 1.0, 0.5, 0.6, 0.7]
    assert scales(injected, values) == scales(plain, values) == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"patience must be in \[1, inf\)"):
        o.reduce_on_plateau(patience=jnp.array(0))


def test_plateau_needs_its_value():
    with pytest.raises(ValueError, match="needs the metric"):
        apply(o.reduce_on_plateau(), jnp.ones(2))
