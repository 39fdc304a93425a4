"""Layers wired by name: beside the same network written out, and what every tool makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 3))
RELU = jd.nn.activation(jax.nn.relu)


def network():
    """A tensor used at two depths, and a layer called in two places."""
    return jd.nn.graph(
        {
            "low": ("hidden", "x"),
            "n": ("norm", "low"),
            "a": ("act", "n"),
            "high": ("twin", "a"),
            "higher": ("twin", "high"),
            "all": ("join", ("a", "higher")),
            "y": ("outputs", "all"),
        },
        hidden=jd.nn.dense(3),
        norm=jd.nn.batch_norm(),
        act=RELU,
        twin=jd.nn.dense(3, activation=jnp.tanh),
        join=jd.nn.merge("concatenate"),
        outputs=jd.nn.dense(2),
    )


def begun(model, x=X):
    params, state = model.init(KEY, x)
    leaves, structure = jax.tree.flatten((params, state))
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [jnp.abs(leaf + 0.3 * jax.random.normal(k, leaf.shape)) for k, leaf in zip(keys, leaves)]
    return jax.tree.unflatten(structure, drawn)


def by_hand(params, state, x):
    def dense(name, x):
        return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])

    own, stats = params["norm"], state["norm"]
    low = (dense("hidden", x) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * own["scale"] + own[
        "bias"
    ]
    a = np.maximum(low, 0)
    higher = np.tanh(dense("twin", np.tanh(dense("twin", a))))
    return dense("outputs", np.concatenate([a, higher], -1))


def test_it_is_the_network_written_out_with_one_set_of_parameters_a_layer():
    model = network()
    params, state = begun(model)
    assert set(params) == {"hidden", "norm", "twin", "outputs"}
    assert set(state) == {"norm"}
    y, same = jax.jit(model.apply)(params, state, X)
    np.testing.assert_allclose(y, by_hand(params, state, np.asarray(X)), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same, state)


def test_inputs_and_outputs_may_be_several():
    model = jd.nn.graph(
        {"s": ("sum", {"l": "u", "r": "v"}), "t": ("out", "s")},
        {"both": ("s", "t"), "raw": "v"},
        {"left": "u", "right": "v"},
        sum=jd.nn.merge("add"),
        out=jd.nn.dense(1),
    )
    x = {"left": X, "right": 2 * X}
    params, state = model.init(KEY, x)
    y, _ = model.apply(params, state, x)
    np.testing.assert_allclose(y["both"][0], 3 * X, rtol=1e-6)
    np.testing.assert_allclose(y["both"][1], 3 * X @ params["out"]["kernel"], rtol=1e-5)
    np.testing.assert_array_equal(y["raw"], 2 * X)
    pair = jd.nn.graph({"y": ("m", ("a", "b"))}, "y", ("a", "b"), m=jd.nn.merge("subtract"))
    np.testing.assert_array_equal(pair.apply({}, {}, (3 * X, X))[0], 3 * X - X)


def test_calls_of_one_layer_draw_apart_and_pass_statistics_on():
    model = jd.nn.graph(
        {"a": ("drop", "x"), "b": ("drop", "x"), "n": ("norm", "a"), "m": ("norm", "b")},
        ("n", "m"),
        drop=jd.nn.dropout(0.5),
        norm=jd.nn.batch_norm(momentum=0.5, use_scale=False, use_bias=False),
    )
    x = jnp.ones((64, 1))
    params, state = model.init(KEY, x)
    (a, b), new = model.apply(params, state, x, train=True, key=KEY)
    assert (a > 0).tolist() != (b > 0).tolist()
    first, second = (
        jd.nn.dropout(0.5).apply({}, {}, x, key=jax.random.fold_in(KEY, i))[0].mean() for i in (0, 1)
    )
    np.testing.assert_allclose(new["norm"]["mean"], [0.25 * first + 0.5 * second], rtol=1e-6)


@pytest.mark.parametrize("how", ["add", "multiply", "average", "maximum", "minimum"])
def test_merges_are_those_of_numpy(how):
    several = [np.random.default_rng(i).normal(size=(2, 3)).astype(np.float32) for i in range(3)]
    expected = {
        "add": np.sum(several, 0),
        "multiply": np.prod(several, 0),
        "average": np.mean(several, 0),
        "maximum": np.max(several, 0),
        "minimum": np.min(several, 0),
    }[how]
    np.testing.assert_allclose(jd.nn.merge(how).apply({}, {}, several)[0], expected, rtol=1e-6)
    named = dict(zip("cab", several))
    np.testing.assert_allclose(jd.nn.merge(how).apply({}, {}, named)[0], expected, rtol=1e-6)


def test_it_is_described_saved_and_compared_like_every_layer(tmp_path):
    model = network()
    params, state = begun(model)
    assert model == network()
    assert model != jd.nn.graph({"y": ("outputs", "x")}, outputs=jd.nn.dense(2))
    jd.save(tmp_path / "m", model, params, state)
    again, params2, state2 = jd.load(tmp_path / "m")
    assert again == model
    np.testing.assert_array_equal(model.apply(params, state, X)[0], again.apply(params2, state2, X)[0])
    table = jd.nn.summary(model, X)
    assert "outputs" in table
    assert "(4, 6)" in table  # the merge
    assert model.meaning == "scores"


def test_tools_see_inside():
    model = network()
    params, state = begun(model)
    small, qparams, qstate = jd.compress.quantize(model, params, state)
    assert qparams["twin"]["kernel"].dtype == jnp.int8
    y, z = model.apply(params, state, X)[0], small.apply(qparams, qstate, X)[0]
    assert float(jnp.abs(y - z).max()) < 0.05 * float(jnp.abs(y).max())
    held = model.frozen(jd.tree.mask(params, "outputs/*"))
    np.testing.assert_array_equal(
        held.apply(params, state, X, train=True)[1]["norm"]["mean"], state["norm"]["mean"]
    )
    outputs = {}
    model.watch(outputs).apply(params, state, X)
    assert outputs["join"].shape == (4, 6)
    wide = jd.nn.recompute_batch_norm(model, params, state, X)["norm"]["mean"]
    np.testing.assert_allclose(
        wide, (X @ params["hidden"]["kernel"] + params["hidden"]["bias"]).mean(0), rtol=1e-4
    )


def test_batch_norms_are_folded_along_the_chains_of_a_graph():
    model = network()
    params, state = begun(model)
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, params, state)
    assert "norm" not in folded.layers
    assert fstate == {}
    np.testing.assert_allclose(
        folded.apply(fparams, fstate, X)[0], model.apply(params, state, X)[0], rtol=1e-4, atol=1e-5
    )
    used_twice = jd.nn.graph(
        {"h": ("hidden", "x"), "n": ("norm", "h"), "y": ("join", ("h", "n"))},
        hidden=jd.nn.dense(3),
        norm=jd.nn.batch_norm(),
        join=jd.nn.merge(),
    )
    params, state = begun(used_twice)
    with pytest.raises(ValueError, match="cannot fold norm: "):
        jd.compress.fold_batch_norm(used_twice, params, state)


def test_a_random_layer_behind_keeps_its_place_when_a_norm_is_folded():
    model = jd.nn.graph(
        {"h": ("hidden", "x"), "n": ("norm", "h"), "d": ("drop", "n"), "y": ("out", "d")},
        hidden=jd.nn.dense(3), norm=jd.nn.batch_norm(), drop=jd.nn.dropout(0.5), out=jd.nn.dense(1),
    )  # fmt: skip
    params, state = begun(model)
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, params, state)
    y, z = model.apply(params, state, X, key=KEY)[0], folded.apply(fparams, fstate, X, key=KEY)[0]
    np.testing.assert_allclose(z, y, rtol=1e-4, atol=1e-5)


def test_heads_are_replaced_and_layers_taken():
    model = network()
    params, state = begun(model)
    new, nparams, nstate = jd.transfer.replace_head(model, params, state, jd.nn.dense(5), X, key=KEY)
    assert nparams["outputs"]["kernel"].shape == (6, 5)
    assert nparams["twin"] is params["twin"]
    outputs = {}
    model.watch(outputs).apply(params, state, X)
    expected = outputs["join"] @ nparams["outputs"]["kernel"] + nparams["outputs"]["bias"]
    np.testing.assert_allclose(new.apply(nparams, nstate, X)[0], expected, rtol=1e-5)
    lower, lparams, lstate = jd.transfer.take_layers(model, params, state, ["hidden", "norm", "act"])
    np.testing.assert_array_equal(lower.apply(lparams, lstate, X)[0], outputs["act"])
    same, *_ = jd.transfer.drop_layers(model, params, state, ["outputs", "join", "twin"])
    assert same == lower
    with pytest.raises(ValueError, match="which other layers of the graph give"):
        jd.transfer.take_layers(model, params, state, ["norm"])
    with pytest.raises(ValueError, match="must end in one output"):
        jd.transfer.take_layers(
            jd.nn.graph({"a": ("p", "x"), "b": ("q", "x")}, ("a", "b"), p=RELU, q=RELU), {}, {}, 2
        )
    with pytest.raises(ValueError, match="layer 'hidden' leads to the one output"):
        jd.transfer.replace_head(model, params, state, jd.nn.dense(5), X, key=KEY, layer="hidden")


def test_gradients_reach_a_layer_from_both_of_its_calls():
    model = jd.nn.graph({"a": ("l", "x"), "b": ("l", "a")}, l=jd.nn.dense(1, use_bias=False))
    params = {"l": {"kernel": jnp.array([[3.0]])}}
    slope = jax.grad(lambda p: model.apply(p, {}, jnp.ones((1, 1)))[0].sum())(params)
    assert float(slope["l"]["kernel"][0, 0]) == 6  # of k²


FAULTS = [
    ({"y": ("out", "z")}, {}, "'y' takes 'z', which is none of inputs and calls so far: x"),
    ({"y": ("there", "x")}, {}, "'y' calls layer 'there'; the layers are out"),
    ({"x": ("out", "x")}, {}, "the name 'x' is that of an input"),
    ({"y": ("out", "x")}, {"more": jd.nn.dense(1)}, "the layer 'more', which calls does not call"),
]


@pytest.mark.parametrize(("calls", "more", "message"), FAULTS)
def test_what_is_wired_wrong_is_refused(calls, more, message):
    with pytest.raises(ValueError, match=message):
        jd.nn.graph(calls, out=jd.nn.dense(1), **more)


def test_other_faults_name_what_they_are():
    with pytest.raises(TypeError, match="calls must be a dict"):
        jd.nn.graph([("y", "out", "x")], out=RELU)
    with pytest.raises(TypeError, match="a pair \\(layer, inputs\\)"):
        jd.nn.graph({"y": "out"}, out=RELU)
    with pytest.raises(ValueError, match="outputs has 'z'"):
        jd.nn.graph({"y": ("out", "x")}, "z", out=RELU)
    model = jd.nn.graph({"y": ("m", ("a", "b"))}, "y", ("a", "b"), m=jd.nn.merge())
    with pytest.raises(ValueError, match="2 in a tuple"):
        model.apply({}, {}, X)
    with pytest.raises(ValueError, match="m: merge\\('add'\\) needs arrays of shapes that fit"):
        model.apply({}, {}, (X, X[:, :2]))
    with pytest.raises(ValueError, match="how must be"):
        jd.nn.merge("dot")
