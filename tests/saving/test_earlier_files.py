"""Models saved before arguments had their present names load and compute the same."""

import importlib.util
import json
import pathlib
import re

import jax
import numpy as np
import pytest

import jaxdeep as jd

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
SAVED = {
    entry["name"]: entry
    for entry in json.loads((FIXTURES / "manifest.json").read_text())["fixtures"]
    if entry["kind"] == "saved"
}


# A user's closures equal no others. The files name `gelu` and `orthogonal` of JAX, which jaxdeep's were.
OTHERS = {"own_leaky", "exact_gelu", "leaky"}


@pytest.fixture(scope="module")
def parts():
    """The module that registers what the models name; what it registers is forgotten afterwards."""
    before = dict(jd.saving.registry._registered)
    spec = importlib.util.spec_from_file_location("parts", FIXTURES / "parts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    jd.saving.registry._registered.clear()
    jd.saving.registry._registered.update(before)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SAVED)
def test_a_model_saved_by_earlier_code_is_what_it_was(parts, name):
    entry = SAVED[name]
    with np.load(FIXTURES / entry["expected"]) as arrays:
        expected = dict(arrays)
    model, params, state = jd.load(FIXTURES / entry["path"])
    names = {"jax": jax, "jd": jd, "nn": jd.nn, "parts": parts, "functools": __import__("functools")}
    names |= {"jnp": jax.numpy, "np": np}
    if name != "registered":
        made = eval(entry["new"], names)
        other = {n for n in model.layers if model.layers[n] != made.layers[n]}
        assert other == (OTHERS if name == "rows" else set())
        assert not re.search(r'"(units|size|init)":', json.dumps(jd.saving.to_config(model)))

    x = eval(entry["inputs"], names)

    def uses(params, state, x, key):
        return {
            "outputs": model.apply(params, state, x)[0],
            "sample": model.apply(params, state, x, key=key)[0],
            "train": model.apply(params, state, x, train=True, key=key),
        }

    if name == "ensemble":
        uses = jax.vmap(uses, (0, 0, None, None))
    found = parts.flat({"params": params, "state": state})
    for path, array in found.items():
        np.testing.assert_array_equal(array, expected[path], path)
    low = (
        {"rtol": 0.05, "atol": 0.02} if name in ("combinators", "cast") else {"rtol": 2e-4, "atol": 2e-5}
    )
    computed = parts.flat(jax.jit(uses)(params, state, x, jax.random.key(7)))
    assert set(found) | set(computed) <= set(expected)
    for path, array in computed.items():
        assert array.dtype == expected[path].dtype, path
        if array.dtype == np.uint8:
            np.testing.assert_array_equal(array, expected[path], path)
        else:
            np.testing.assert_allclose(array, expected[path], err_msg=path, **low)
