"""Every optimizer of optax and its contrib in `fit`: it trains and resumes, or says why it does not."""

import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.optax_fits import ASKED, KEY, MODEL, REFUSED, X, Y, fit, fitted, made, makers, row

import jaxdeep as jd

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "optax.md").read_text()
OF_THIS_VERSION = pytest.mark.skipif(
    f"optax {optax.__version__} " not in PAGE, reason="docs/optax.md is of another version of optax"
)
FIRST = ("optax.lookahead", "optax.contrib.dpsgd", "optax.contrib.prodigy")


def rows_of_the_page():
    return {m[1]: m[0] for m in re.finditer(r"^\| `(optax\.[\w.]+)` .*$", PAGE, re.MULTILINE)}


@pytest.mark.heavy
@pytest.mark.few(3)
@pytest.mark.optimized
@pytest.mark.parametrize("name", sorted(makers(), key=lambda name: name not in FIRST))
def test_it_trains_and_resumes_or_says_why_not(name):
    result = fitted(name)
    assert result.error == REFUSED.get(name, "")
    if result.error:
        return
    assert math.isfinite(result.loss)
    assert result.resumed
    assert set(ASKED.get(name, ())) <= set(result.needs)
    if f"optax {optax.__version__} " in PAGE:
        numbers = r" (\d+\.\d+) → (\d+\.\d+) "
        page, here = rows_of_the_page()[name], row(name, result)
        assert re.sub(numbers, "", page) == re.sub(numbers, "", here)
        shown, found = (np.array(re.search(numbers, text).groups(), float) for text in (page, here))
        np.testing.assert_allclose(shown, found, rtol=0.02)  # other machines round otherwise


@OF_THIS_VERSION
def test_the_page_has_all_of_them():
    assert list(rows_of_the_page()) == list(makers())


def test_a_new_one_is_found_or_must_be_named(monkeypatch):
    def newest(learning_rate: float) -> optax.GradientTransformation:
        return optax.sgd(learning_rate)

    def odd(base: float) -> optax.GradientTransformation:
        return optax.sgd(base)

    monkeypatch.setattr(optax, "newest", newest, raising=False)
    assert "optax.newest" in makers()
    monkeypatch.setattr(optax, "odd", odd, raising=False)
    with pytest.raises(LookupError, match=r"optax\.odd: say in MADE"):
        makers()


# --- those that keep the parameters they began with ---------------------------------------------------

KEEPING = ["prodigy", "dog", "dowg", "cocob", "mechanize", "madgrad"]


@pytest.mark.few("prodigy")
@pytest.mark.parametrize("name", KEEPING)
def test_a_loop_may_donate_what_it_began_with(name):
    """Parameters that are donated are in the state too, and the numbers are those without donation."""
    tx, objective = made(f"optax.contrib.{name}"), jd.train.supervised(MODEL, jd.losses.mse)
    step = jd.train.make_step(objective, tx)
    ends = []
    for donated in ((), 0):
        ts = jd.train.init(MODEL, tx, X[:1], key=KEY)
        jitted = jax.jit(step, donate_argnums=donated)
        for _ in range(3):
            ts, _ = jitted(ts, (X, Y))
        ends.append(ts.params)
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.heavy
@pytest.mark.few("dog")
@pytest.mark.parametrize("name", KEEPING)
def test_a_phase_begins_where_the_last_one_ended(name):
    """What the optimizer of the second phase keeps is where the first phase has ended."""
    tx = made(f"optax.contrib.{name}")
    phases = [jd.train.Phase(1), jd.train.Phase(1, "out/*")]
    both = fit(tx, phases=phases)
    first = fit(tx, epochs=1)
    begun = first.params["out"]["kernel"]
    kept = [a for a in jax.tree.leaves(both.train_state.opt_state) if jnp.shape(a) == begun.shape]
    assert any(bool((leaf == begun).all()) for leaf in kept)
    assert not (both.params["out"]["kernel"] == begun).all()
    np.testing.assert_array_equal(both.params["hidden"]["kernel"], first.params["hidden"]["kernel"])
    assert np.isfinite(both.history["val_loss"]).all()
    assert both.history["val_loss"][0] == first.history["val_loss"][0]
