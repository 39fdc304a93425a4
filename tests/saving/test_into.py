"""Arrays by name into a model: what fits is loaded whole, what does not is named, all of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxdeep as jd

KEY = jax.random.key(0)


def deep(layers, width=3):
    hidden = {f"hidden{i}": jd.nn.dense(width) for i in range(layers)}
    model = jd.nn.serial(**hidden, bn=jd.nn.batch_norm(), out=jd.nn.dense(2))
    return model, *model.init(KEY, jnp.ones((1, 3)))


MODEL, PARAMS, STATE = deep(2)


def arrays_of(params, state):
    tree = {"params": params, "state": state}
    return {
        path: np.asarray(leaf) + 1.5
        for path, leaf in zip(jd.tree.leaf_paths(tree), jax.tree.leaves(tree))
    }


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("form", ["dict", "nested", "npz", "safetensors", "dots", "short"])
def test_every_leaf_gets_the_array_of_its_path(form, tmp_path):
    wanted = arrays_of(PARAMS, STATE)
    given = wanted
    if form == "nested":
        given = jax.tree.map(lambda a: a + 1.5, {"params": PARAMS, "state": STATE})
    if form == "npz":
        np.savez(given := tmp_path / "a.npz", **wanted)
    if form == "safetensors":
        save_file(wanted, given := tmp_path / "a.safetensors")
    if form == "dots":
        given = {name.replace("/", "."): array for name, array in wanted.items()}
    if form == "short":
        given = {name.partition("/")[2]: array for name, array in wanted.items()}
    params, state = jd.load_into(MODEL, PARAMS, STATE, given)
    same(arrays_of(params, state), {name: array + 1.5 for name, array in wanted.items()})


def test_a_saved_model_is_read_into_another_of_the_same_layers(tmp_path):
    trained = jax.tree.map(lambda a: a + 1, (PARAMS, STATE))
    jd.save(tmp_path / "m", MODEL, *trained)
    same(jd.load_into(MODEL, PARAMS, STATE, tmp_path / "m"), trained)


def test_names_of_others_are_renamed_and_arrays_changed():
    rng = np.random.default_rng(0)
    torch = {
        **{f"layers.{i}.weight": rng.normal(size=(3, 3)) for i in range(2)},
        **{f"layers.{i}.bias": rng.normal(size=3) for i in range(2)},
        **{"norm.weight": np.full(3, 2.0), "norm.bias": np.ones(3)},
        **{"norm.running_mean": np.full(3, 5.0), "norm.running_var": np.full(3, 7.0)},
        **{"norm.num_batches_tracked": np.array(4)},
        **{"head.weight": rng.normal(size=(2, 3)), "head.bias": np.zeros(2)},
    }
    rename = {
        "layers.*.weight": ("hidden*/kernel", np.transpose),
        "layers.*.bias": "hidden*/bias",
        "norm.weight": "bn/scale",
        "norm.running_*": "bn/*",
        "norm.num_batches_tracked": None,
        "norm.bias": "bn/bias",
        "head.weight": ("out/kernel", np.transpose),
        "head.*": "out/*",
    }
    params, state = jd.load_into(MODEL, PARAMS, STATE, torch, rename=rename)
    np.testing.assert_array_equal(params["hidden1"]["kernel"], torch["layers.1.weight"].T.astype("f4"))
    np.testing.assert_array_equal(state["bn"]["var"], 7.0)
    np.testing.assert_array_equal(params["bn"]["scale"], 2.0)


def test_all_that_does_not_fit_is_in_one_error():
    _, params12, state12 = deep(3)
    model16, params16, state16 = deep(5)
    given = arrays_of(params12, state12)
    given["params/out/kernel"] = np.ones((2, 3))
    given["params/bn/scale"] = np.ones(3, complex)
    given["extra"] = np.ones(1)
    before = jax.tree.map(jnp.copy, (params16, state16))
    with pytest.raises(ValueError, match="load_into loaded none of the arrays") as caught:
        jd.load_into(model16, params16, state16, given)
    message = str(caught.value)
    for name in ("hidden3/bias", "hidden3/kernel", "hidden4/bias", "hidden4/kernel"):
        assert f"params/{name}" in message
    assert "no array fills (4)" in message
    assert "params/out/kernel has shape (2, 3), and params/out/kernel (3, 2)" in message
    assert "params/bn/scale is complex" in message
    assert "arrays not used (1): extra" in message
    same((params16, state16), before)


def test_what_is_not_strict_fills_what_it_has_but_no_other_shape():
    model, params, state = deep(5)
    given = arrays_of(*deep(3)[1:])
    new, new_state = jd.load_into(model, params, state, given, strict=False)
    assert new["hidden4"]["kernel"] is params["hidden4"]["kernel"]
    np.testing.assert_array_equal(new["hidden2"]["bias"], given["params/hidden2/bias"])
    np.testing.assert_array_equal(new_state["bn"]["mean"], given["state/bn/mean"])
    with pytest.raises(ValueError, match=r"params/out/bias has shape \(1,\)"):
        jd.load_into(model, params, state, given | {"params/out/bias": np.ones(1)}, strict=False)
    with pytest.raises(ValueError, match="arrays not used"):
        jd.load_into(model, params, state, {"zz": np.ones(1)}, strict=False)


def test_dtypes_are_those_of_the_model():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS)
    params, _ = jd.load_into(MODEL, half, STATE, arrays_of(PARAMS, STATE))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"arrays": 3}, TypeError, "arrays must be the path of a file or a dict of arrays"),
        ({"arrays": "nowhere.npz"}, FileNotFoundError, "there is no file"),
        ({"arrays": {"a": "text"}}, TypeError, "arrays must be a dict of arrays"),
        ({"rename": 3}, TypeError, "rename must be a dict"),
        ({"rename": {"zz*": "a"}}, ValueError, r"rename has \['zz\*'\], which match none"),
        ({"rename": {"params/out/bias": 3}}, TypeError, r"rename\['params/out/bias'\] must be a path"),
        ({"rename": {"params/out/bias": "a*"}}, ValueError, "has more stars than"),
        ({"rename": {"params/*/bias": "out/bias"}}, ValueError, "rename makes two arrays 'out/bias'"),
        ({"strict": 1}, TypeError, "strict must be"),
    ],
)
def test_wrong_arguments_are_refused(change, error, match):
    arguments = {"arrays": arrays_of(PARAMS, STATE)} | change
    with pytest.raises(error, match=match):
        jd.load_into(MODEL, PARAMS, STATE, **arguments)


def test_pickles_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"a\.npz.* cannot be read"):
        jd.load_into(MODEL, PARAMS, STATE, tmp_path / "a.npz")
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.safetensors.*cannot be read as safetensors"):
        jd.load_into(MODEL, PARAMS, STATE, tmp_path / "b.safetensors")


def test_one_leaf_for_two_arrays_and_one_name_for_two_leaves_are_refused():
    given = arrays_of(PARAMS, STATE)
    twice = {**given, "out.bias": np.ones(2)}
    with pytest.raises(ValueError, match=r"filled by out\.bias and by params/out/bias"):
        jd.load_into(MODEL, PARAMS, STATE, twice)
    model = jd.nn.Model(lambda key, x: ({}, {}), lambda params, state, x, **_: (x, state))
    both = {"a": {"scale": jnp.ones(2)}}
    with pytest.raises(ValueError, match="a/scale may be params/a/scale or state/a/scale"):
        jd.load_into(model, both, both, {"a/scale": np.ones(2)})
