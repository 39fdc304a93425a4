"""Saved models: layers, functions and trees of arrays come back as they were, in a new process too."""

import dataclasses
import functools
import json
import pathlib
import re
import subprocess
import sys

import flax.linen
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import guessed
from hypothesis import strategies as st
from safetensors.numpy import load_file

import jaxdeep as jd
from jaxdeep.nn.layer import KINDS
from jaxdeep.nn.model import Model
from jaxdeep.saving import registry
from jaxdeep.saving.trees import flat

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 8))
IMAGES = jax.random.normal(jax.random.key(2), (2, 6, 6, 2))
nn, init = jd.nn, jd.nn.initializers
ROOT = pathlib.Path(__file__).parents[2]


def partial(function, **keywords):
    return functools.partial(function, **keywords)


def block():
    return nn.serial(nn.dense(8, activation=jax.nn.selu), nn.batch_norm(), nn.dropout(0.3))


CASES = {
    "dense": (nn.dense(3, activation=partial(jax.nn.leaky_relu, negative_slope=0.2)), X),
    "dense without bias": (nn.dense(3, use_bias=False, kernel_init=init.he_normal()), X),
    "dense, initialisers": (
        nn.dense(8, kernel_init=init.identity(0.5), bias_init=init.normal(0.1), activation=jnp.sin),
        X,
    ),
    "embedding": (
        nn.embedding(9, 4, embedding_init=init.truncated_normal(0.5)),
        jnp.arange(6).reshape(2, 3),
    ),
    "flatten": (nn.flatten(), IMAGES),
    "ntk_dense": (nn.ntk_dense(3, activation=jax.nn.mish, kernel_init=init.zeros), X),
    "reshape": (nn.reshape(2, -1), X),
    "rescale": (nn.rescale(2.0, 1.0, low=[0.0] * 8), X),
    "resize": (nn.resize(5, 4, method="bicubic"), jnp.ones((2, 3, 3, 1))),
    "conv": (nn.conv(4, (3, 2), strides=(1, 2), dilation=(2, 1), groups=2), IMAGES),
    "conv, padding": (nn.conv(3, 3, padding=((1, 0), (2, 1)), activation=jax.nn.mish), IMAGES),
    "conv_transpose": (nn.conv_transpose(4, 3, strides=2, padding="VALID"), IMAGES),
    "graph": (
        nn.graph(
            {
                "a": ("outputs", "in"),
                "b": ("outputs", "a"),
                "c": ("inputs", {"l": "a", "r": "b"}),
            },
            {"y": "b", "z": ("c", "a")},
            "in",
            outputs=nn.dense(8),
            inputs=nn.merge(),
        ),
        X,
    ),
    "merge": (nn.graph({"y": ("m", ("x", "x"))}, m=nn.merge("concatenate", axis=0)), X),
    "rms_norm": (nn.rms_norm(axis=(1, 3), use_scale=False), IMAGES),
    "get_item": (nn.get_item(slice(1, 9), -1), IMAGES),
    "zero_padding": (nn.zero_padding(((1, 0), (0, 2))), IMAGES),
    "max_pool": (nn.max_pool(2, strides=1, padding="SAME"), IMAGES),
    "average_pool": (nn.average_pool((2, 3), padding=((1, 0), (0, 1))), IMAGES),
    "global_max_pool": (nn.global_max_pool(), IMAGES),
    "global_average_pool": (nn.global_average_pool(), IMAGES),
    "batch_norm": (nn.batch_norm(momentum=0.9, epsilon=1e-3, unbiased_running_var=True), X),
    "batch_norm of pixels": (nn.batch_norm(axis=(1, -1), use_scale=False), IMAGES),
    "dropout": (nn.dropout(0.4, noise_shape=(None, 1)), X),
    "dropout, rate of NumPy": (nn.dropout(np.float32(0.1), noise_shape=[None, None]), X),
    "alpha_dropout": (nn.alpha_dropout(0.2), X),
    "gaussian_noise": (nn.gaussian_noise(0.1), X),
    "activation": (nn.activation(jax.nn.relu), X),
    "activation of jaxdeep": (nn.activation(partial(nn.activations.swish, beta=1.702)), X),
    "prelu": (nn.prelu(0.25, shared_axes=(1, 2)), IMAGES),
    "rrelu": (nn.rrelu(0.1, 0.3), X),
    "swish": (nn.swish(1.5), X),
    "lambda_": (nn.lambda_(partial(jnp.sum, axis=-1, keepdims=True)), X),
    "select": (nn.select("b"), {"a": X, "b": 2 * X}),
    "serial": (nn.serial(a=block(), b=nn.serial(nn.dense(2), nn.dense(2))), X),
    "parallel by name": (nn.parallel(main=nn.dense(1), other=nn.dense(2)), X),
    "parallel by position": (nn.parallel(nn.dense(1), nn.dense(2), nn.flatten()), X),
    "concatenate": (nn.concatenate(nn.dense(1), nn.dense(2), axis=1), X),
    "residual": (nn.residual(block()), X),
    "residual, shortcut": (nn.residual(nn.dense(3), shortcut=nn.dense(3)), X),
    "repeat": (nn.repeat(block(), 3), X),
    "repeat, shared": (nn.repeat(nn.dense(8, activation=jnp.tanh), 3, shared=True), X),
    "shared": (nn.shared(nn.dense(2)), (X, 2 * X)),
    "mixed_precision": (nn.mixed_precision(nn.serial(a=block(), b=nn.prelu()), jnp.float16), X),
}
MANY = jax.random.normal(jax.random.key(3), (2, 4, 4, 32))


def kinds(model):
    return {model.kind}.union(*(kinds(layer) for layer in model.layers.values()))


def usual():
    """Layers without a case, called as their signature says: a new one is tested by existing."""
    covered = set().union(*(kinds(model) for model, _ in CASES.values()))
    for kind, make in KINDS.items():
        if kind not in covered and getattr(nn, make.__name__, None) is make:
            yield kind, (guessed.call(make), MANY if not guessed.arguments(make) else MANY[..., :3])


CASES |= dict(usual())
each = pytest.mark.parametrize(("model", "x"), CASES.values(), ids=CASES)

# How a model is used, the same in this process and another.
USES = """
import jax, jax.numpy as jnp
import numpy as np

def results(model, params, state, x):
    def uses(params, state, x, key):
        inference = model.apply(params, state, x)
        training = model.apply(params, state, x, train=True, key=key)
        return inference, training, model.init(key, x) if model.kind == "dense" else ()

    found = (params, state), *jax.jit(uses)(params, state, x, jax.random.key(7))
    return {
        f"{i} {jax.tree_util.keystr(path)}": np.asarray(leaf)
        for i, tree in enumerate(found)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
"""
exec(USES)


def same(a, b):
    """The same structure, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        assert isinstance(y, jax.Array), path
        assert (x.dtype, x.shape) == (y.dtype, y.shape), path
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            same(jax.random.key_data(x), jax.random.key_data(y))
            continue
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), path


def program(function, *args):
    """What JAX makes of a function: every operation and every constant in it."""
    made = jax.make_jaxpr(function)(*args)
    return re.sub(r" at 0x[0-9a-f]+", "", str(made)), [np.asarray(c).tobytes() for c in made.consts]


def trained(model, x):
    """Parameters and state that are not those of `init` any more."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(model.init, KEY, x)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.1, 1, a.shape), a.dtype), like)


# --- round trips ----------------------------------------------------------------------------------


def test_the_cases_cover_every_layer_of_jaxdeep_and_every_layer_has_a_kind():
    covered = set().union(*(kinds(model) for model, _ in CASES.values()))
    public = {n: f for n, f in vars(nn).items() if callable(f) and not n.startswith("_")}
    assert covered == {kind for kind, make in KINDS.items() if make in public.values()}
    assert public.keys() - {"Model", "summary", "recompute_batch_norm"} == {
        make.__name__ for make in KINDS.values() if make in public.values()
    }


@pytest.mark.few(17)
@each
def test_a_config_makes_the_same_model_again(model, x):
    config = jd.saving.to_config(model)
    again = jd.saving.from_config(json.loads(json.dumps(config)))
    assert jd.saving.to_config(again) == config
    assert repr(again) == repr(model)
    params, state = jax.eval_shape(model.init, KEY, x)
    assert program(model.init, KEY, x) == program(again.init, KEY, x)
    assert program(model.apply, params, state, x) == program(again.apply, params, state, x)
    train = [
        program(lambda key, *args, m=m: m.apply(*args, train=True, key=key), KEY, params, state, x)
        for m in (model, again)
    ]
    assert train[0] == train[1]


@pytest.mark.heavy
@pytest.mark.optimized
def test_every_kind_of_layer_is_the_same_bit_for_bit_in_a_new_process(tmp_path):
    for name, (model, x) in CASES.items():
        params, state = trained(model, x)
        jd.save(tmp_path / name, model, params, state)
        np.savez(tmp_path / name / "results.npz", **results(model, params, state, x))  # noqa: F821
        inputs = {jax.tree_util.keystr(p): a for p, a in jax.tree_util.tree_leaves_with_path(x)}
        np.savez(tmp_path / name / "inputs.npz", **inputs)
    code = USES + (
        "import pathlib, sys, jaxdeep as jd\n"
        "for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    model, params, state = jd.load(folder)\n"
        "    x = {n: jnp.asarray(a) for n, a in np.load(folder / 'inputs.npz').items()}\n"
        "    x = x[''] if '' in x else {n[2:-2]: a for n, a in x.items()} if \"['a']\" in x "
        "else tuple(x.values())\n"
        "    found, known = results(model, params, state, x), np.load(folder / 'results.npz')\n"
        "    assert set(found) == set(known), folder\n"
        "    for name in found:\n"
        "        assert found[name].dtype == known[name].dtype, (folder, name)\n"
        "        assert found[name].tobytes() == known[name].tobytes(), (folder, name)\n"
        "    print(folder.name)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr[-2000:]
    assert out.stdout.splitlines() == sorted(CASES)


def leaves():
    sizes = st.integers(1, 4)
    functions = st.sampled_from([jax.nn.relu, jnp.tanh, partial(jax.nn.elu, alpha=0.3), jax.lax.neg])
    inits = st.sampled_from([None, init.he_uniform(), init.constant(0.3), init.orthogonal(2.0)])
    return st.one_of(
        st.builds(lambda n, f, i: nn.dense(n, activation=f, kernel_init=i), sizes, functions, inits),
        st.builds(lambda m: nn.batch_norm(momentum=m), st.floats(0, 0.99)),
        st.builds(nn.dropout, st.floats(0, 1)),
        st.builds(nn.activation, functions),
        st.builds(nn.swish, st.floats(width=32, allow_nan=False, allow_infinity=False)),
        st.just(nn.flatten()),
    )


NAMES = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=5)


def combined(layers):
    named = st.dictionaries(NAMES, layers, max_size=3)
    return st.one_of(
        st.builds(lambda some: nn.serial(*some), st.lists(layers, max_size=3)),
        st.builds(lambda some: nn.serial(**some), named),
        st.builds(lambda some: nn.parallel(**some), named),
        st.builds(lambda some: nn.parallel(*some), st.lists(layers, max_size=3)),
        st.builds(lambda layer, other: nn.residual(layer, shortcut=other), layers, layers),
        st.builds(nn.repeat, layers, st.integers(1, 3)),
        st.builds(nn.shared, layers),
        st.builds(nn.mixed_precision, layers),
    )


@pytest.mark.heavy
@hypothesis.given(st.recursive(leaves(), combined, max_leaves=8))
def test_any_nested_model_comes_back_as_it_was(model):
    config = jd.saving.to_config(model)
    again = jd.saving.from_config(json.loads(json.dumps(config)))
    assert jd.saving.to_config(again) == config
    assert repr(again) == repr(model)


DTYPES = ["float32", "bfloat16", "float16", "int8", "int32", "bool", "uint32", "complex64"]
DTYPES += ["float8_e4m3fn", "float8_e5m2", "int4", "uint4"]
SHAPES = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def arrays(draw):
    shape, dtype = tuple(draw(SHAPES)), jnp.dtype(draw(st.sampled_from(DTYPES)))
    bits = np.random.default_rng(draw(st.integers(0, 99))).integers(
        0, 2, (*shape, dtype.itemsize), np.uint8
    )
    return jnp.asarray(np.frombuffer(bits.tobytes(), dtype).reshape(shape))


def trees(leaves):
    def more(inner):
        return st.one_of(
            st.dictionaries(NAMES, inner, max_size=3),
            st.dictionaries(st.integers(0, 9), inner, max_size=2),
            st.lists(inner, max_size=2),
            st.lists(inner, max_size=2).map(tuple),
        )

    return st.dictionaries(NAMES, st.recursive(leaves, more, max_leaves=6), max_size=3)


@jd.saving.register("test_saving.anything")
def anything():
    """A model whose parameters and state may be anything."""
    return Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s), "test_saving.anything")


@pytest.mark.heavy
@hypothesis.given(trees(arrays()), trees(st.one_of(arrays(), st.none())))
def test_any_tree_of_arrays_comes_back_as_it_was(tmp_path_factory, params, state):
    try:
        flat({"params": params, "state": state})
    except ValueError:  # {0: …, "0": …}
        hypothesis.reject()
    folder = tmp_path_factory.mktemp("tree") / "model"
    jd.save(folder, anything(), params, state)
    _, params_again, state_again = jd.load(folder)
    same((params, state), (params_again, state_again))
    names = list(flat({"params": params, "state": state}))
    assert sorted(load_file(folder / "arrays.safetensors")) == sorted(names)


# --- arguments ------------------------------------------------------------------------------------


@pytest.fixture
def names():
    """What a test registers is forgotten after it."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


def again(model):
    return jd.saving.from_config(json.loads(json.dumps(jd.saving.to_config(model))))


@pytest.mark.parametrize("module", [jax.nn, nn.activations, jnp])
def test_every_activation_goes_by_name_and_comes_back_as_the_same_object(module):
    names = nn.activations.__all__ if module is nn.activations else ("tanh", "exp")
    for function in [getattr(module, name) for name in names if hasattr(module, name)]:
        assert again(nn.activation(function)).config["function"] is function


MAKERS = {
    "glorot_normal": {}, "glorot_uniform": {}, "he_normal": {}, "he_uniform": {}, "lecun_normal": {},
    "lecun_uniform": {"in_axis": 0, "out_axis": 1}, "normal": {"stddev": 0.3}, "uniform": {"scale": 2},
    "truncated_normal": {"stddev": 0.1, "upper": 1.5}, "orthogonal": {"scale": 3.0},
    "variance_scaling": {"scale": 2.0, "mode": "fan_avg", "distribution": "uniform"},
    "constant": {"value": np.arange(3.0, dtype=np.float32)}, "identity": {"gain": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_every_initialiser_is_made_again_with_its_arguments(name):
    model = nn.dense(3, kernel_init=getattr(init, name)(**MAKERS[name]))
    config = jd.saving.to_config(model)["config"]["kernel_init"]
    same(model.init(KEY, X), again(model).init(KEY, X))
    assert config["made_by"]["function"].rpartition(".")[0].endswith("nn.initializers")
    known = {name: value for name, value in MAKERS[name].items() if name != "value"}
    assert known.items() <= config["keywords"].items()


def test_the_cases_have_every_initialiser():
    assert set(init.__all__) - {"zeros", "ones", "initializer_for"} == set(MAKERS)


@pytest.mark.parametrize("value", [
    0.1, float("inf"), -0.0, 3, True, None, "text", (1, (2, None)), [1, [2]], {"a": (1,), "b": {}},
    np.float32(0.1), np.bool_(True), np.int8(3), np.array([1.0, np.nan]), np.zeros((0, 2), np.int32),
    np.dtype("int8"), jnp.bfloat16, jnp.float32, jax.nn.relu, partial(jnp.clip, min=0, max=6),
    functools.partial(jnp.einsum, "ij->ji"), init.zeros,
])  # fmt: skip
def test_every_value_of_an_argument_comes_back_as_it_was(value):
    found = jd.saving.values.decode(json.loads(json.dumps(jd.saving.values.encode(value))))
    assert jd.saving.sameness.difference(value, found) is None
    assert type(found) is type(value) or isinstance(found, np.dtype)


def test_jax_scalars_keep_their_dtype_and_weak_type():
    for value in (jnp.asarray(0.3), jnp.float32(0.3), jnp.arange(3), jnp.ones(2, jnp.bfloat16)):
        found = jd.saving.values.decode(jd.saving.values.encode(value))
        assert (found.dtype, found.weak_type) == (value.dtype, value.weak_type)
        same(value, found)


@pytest.mark.parametrize(("bad", "message"), [
    (lambda: nn.activation(lambda x: x), r"^layer h/a: function=<function .* has no name to be"),
    (lambda: nn.dense(2, kernel_init=lambda k, s, d: 0), r"^layer h/a: kernel_init=.*saving.register\("),
    (lambda: nn.lambda_(partial(lambda x: x)), "no name"),
    (lambda: nn.lambda_(jnp.save), "no name"),
    (lambda: nn.dropout(0.5, noise_shape=np.zeros(5000, np.int32) + 1), "array of 5000 numbers"),
    (lambda: Model(lambda k, x: ({}, {}), lambda p, s, x: (x, s)), "a kind of its own and register"),
    (lambda: Model(lambda k, x: ({}, {}), lambda p, s, x: (x, s), "mine"), r"saving.register\('mine'"),
    (lambda: Model(lambda k, x: ({}, {}), lambda p, s, x: (x, s), "flatten"), "init is .*lambda"),
    (lambda: dataclasses.replace(nn.dense(2), config={"features": 3}), "features is 2 and 3"),
    (lambda: dataclasses.replace(nn.dense(2), stochastic=True), "stochastic is True and False"),
    (lambda: nn.serial(d=nn.dense(2)).watch({}), "layer h/a/d: .*another 'dense'.*watch"),
    (lambda: dataclasses.replace(nn.flatten(), config={"x": object()}), "x=<object .* cannot be saved"),
    (lambda: dataclasses.replace(nn.flatten(), config={"x": {1.5: 2}}), "names that are not strings"),
    (lambda: dataclasses.replace(nn.flatten(), config={"x": nn.flatten()}), "among the layers"),
    (lambda: dataclasses.replace(nn.flatten(), config={"x": KEY}), "array of key<fry>"),
    (lambda: dataclasses.replace(nn.serial(), layers={3: nn.flatten()}), "must be a string, got 3"),
])  # fmt: skip
def test_what_cannot_be_saved_is_named_with_its_layer_and_argument(bad, message):
    with pytest.raises(ValueError, match=message):
        jd.saving.to_config(nn.serial(h=nn.serial(a=bad())))


def test_a_traced_argument_is_refused():
    def trace(rate):
        with pytest.raises(ValueError, match="layer a: rate=a traced value"):
            jd.saving.to_config(nn.serial(a=nn.dropout(rate)))
        return rate

    jax.jit(trace)(0.5)


# --- one's own functions, layers and modules ------------------------------------------------------


def test_a_registered_function_is_an_activation_a_lambda_and_an_initialiser(names):
    @jd.saving.register("squared_relu")
    def squared_relu(x):
        return jax.nn.relu(x) ** 2

    @jd.saving.register("ramp")
    def ramp(key, shape, dtype):
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    model = nn.serial(
        nn.dense(3, activation=squared_relu, kernel_init=ramp), nn.lambda_(partial(squared_relu))
    )
    found = again(model)
    assert found.layers["dense0"].config["activation"] is squared_relu
    same(model.init(KEY, X), found.init(KEY, X))


def test_what_a_registered_function_makes_is_saved_with_what_it_closes_over(names):
    @jd.saving.register("leaky")
    def leaky(slope, floor=-1.0):
        return lambda x: jnp.maximum(jnp.where(x > 0, x, slope * x), floor)

    config = jd.saving.to_config(nn.activation(leaky(0.1)))["config"]["function"]
    assert config == {"made_by": {"registered": "leaky"}, "keywords": {"slope": 0.1}}
    function = again(nn.activation(leaky(0.25, -2.0))).config["function"]
    assert function(jnp.array([-4.0, -100.0])).tolist() == [-1.0, -2.0]


def twice(layer, factor):
    """A layer of one's own around another."""

    def apply(params, state, x, **switches):
        y, state = layer.apply(params, state, x, **switches)
        return factor * layer.apply(params, state, y, **switches)[0], state

    return Model(layer.init, apply, "twice", {"factor": factor}, {"layer": layer})


def test_a_layer_of_ones_own_with_layers_inside(names, tmp_path):
    with pytest.raises(ValueError, match=r"layer t: the kind 'twice'.*jd.saving.register\('twice'"):
        jd.saving.to_config(nn.serial(t=twice(nn.dense(8), 3.0)))
    jd.saving.register("twice", twice)
    model = nn.serial(t=twice(nn.dense(8, activation=jnp.tanh), 3.0))
    params, state = model.init(KEY, X)
    jd.save(tmp_path / "m", model, params, state)
    found, params, state = jd.load(tmp_path / "m")
    same(model.apply(params, state, X), found.apply(params, state, X))
    registry._registered.pop("twice")
    with pytest.raises(
        ValueError, match=r"model.json': layer t: 'twice' is not registered in this proc"
    ):
        jd.load(tmp_path / "m")


def test_an_argument_that_a_layer_of_ones_own_forgot_in_its_config_is_found(names):
    @jd.saving.register("scale")
    def scale(factor, shift=0.0):
        def apply(params, state, x, **switches):
            return factor * x + shift, state

        return Model(lambda key, x: ({}, {}), apply, "scale", {"factor": factor})

    assert jd.saving.to_config(scale(2.0)) == {"kind": "scale", "config": {"factor": 2.0}}
    with pytest.raises(
        ValueError, match=r"layer a: .* shift is 1.0 and 0.0; put all that it depends on"
    ):
        jd.saving.to_config(nn.serial(a=scale(2.0, 1.0)))


class Net(flax.linen.Module):
    size: int = 3

    @flax.linen.compact
    def __call__(self, x, train: bool = False):
        x = flax.linen.BatchNorm(use_running_average=not train)(flax.linen.Dense(self.size)(x))
        return flax.linen.Dropout(0.5, deterministic=not train)(x)


@pytest.mark.heavy
def test_an_adapted_module_goes_by_the_name_of_its_class(names, tmp_path):
    jd.saving.register("Net", lambda: jd.adapters.from_linen(Net()))
    model = nn.serial(net=jd.adapters.from_linen(Net()), out=nn.dense(2))
    params, state = model.init(KEY, X)
    jd.save(tmp_path / "m", model, params, state)
    found, params_again, state_again = jd.load(tmp_path / "m")
    same((params, state), (params_again, state_again))
    same(model.apply(params, state, X, key=KEY), found.apply(params, state, X, key=KEY))
    with pytest.raises(ValueError, match=r"layer net: .* module is Net.*size = 5"):
        jd.saving.to_config(nn.serial(net=jd.adapters.from_linen(Net(5))))


@pytest.mark.parametrize("name", ["where", "nonzero", "unique", "array_repr"])
def test_a_function_that_no_layer_can_compute_is_refused(name):
    config = jd.saving.to_config(jd.nn.dense(3, activation=jnp.tanh))
    config["config"]["activation"] = {"function": f"jax.numpy.{name}"}
    with pytest.raises(ValueError, match=rf"jax\.numpy\.{name} makes no array of a known shape"):
        jd.saving.from_config(config)


def test_an_adapted_module_with_arguments(names):
    @jd.saving.register("my_net")
    def my_net(size):
        model = jd.adapters.from_linen(Net(size))
        return dataclasses.replace(model, kind="my_net", config={"size": size})

    assert again(my_net(7)).init(KEY, X)[0]["Dense_0"]["kernel"].shape == (8, 7)


def test_an_nnx_module(names):
    from flax import nnx

    class Tiny(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.a(x)

    @jd.saving.register("tiny")
    def tiny():
        return dataclasses.replace(jd.adapters.from_nnx(Tiny), kind="tiny")

    model = tiny()
    model.init(KEY, X)  # what it keeps of a first use does not count
    same(model.init(KEY, X), again(model).init(KEY, X))


def test_names_are_taken_once(names):
    jd.saving.register("f", jnp.tanh)
    assert jd.saving.register("f", jnp.tanh) is jnp.tanh
    with pytest.raises(ValueError, match="'f' is registered already"):
        jd.saving.register("f", jnp.sin)
    jd.saving.register("f", jnp.sin, replace=True)
    assert jd.saving.to_config(nn.activation(jnp.sin))["config"]["function"] == {"registered": "f"}
    for name in ("dense", "serial", "lambda", "model"):
        with pytest.raises(ValueError, match="kind of a layer of jaxdeep itself"):
            jd.saving.register(name, jnp.tanh)
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="must not be empty or contain"):
            jd.saving.register(name, jnp.tanh)
    with pytest.raises(TypeError, match="must be a function, got 3"):
        jd.saving.register("g", 3)
    with pytest.raises(TypeError, match="use a lambda"):
        jd.saving.register("g", nn.dense(2))
    with pytest.raises(TypeError, match="as a decorator"):
        jd.saving.register(jnp.tanh)


@pytest.mark.parametrize("config", [
    [], {}, {"kind": 3}, {"kind": "dense", "layer": {}}, {"kind": "dense", "config": []},
    {"kind": "dense"}, {"kind": "dense", "config": {"features": 0}},
    {"kind": "dense", "config": {"features": "3"}},
    {"kind": "dense", "config": {"features": 3}, "layers": {"a": {"kind": "flatten"}}},
    {"kind": "serial", "layers": {"a": 3}}, {"kind": "serial", "layers": {"a/b": {"kind": "flatten"}}},
    {"kind": "serial", "config": {"x": 1}}, {"kind": "reshape"},
    {"kind": "reshape", "config": {"sizes": [-2]}}, {"kind": "mixed_precision"},
    {"kind": "mixed_precision", "layers": {"a": {"kind": "flatten"}}}, {"kind": "repeat"},
    {"kind": "repeat", "config": {"times": 2}, "layers": {"layer": {"kind": "nobody"}}},
    {"kind": "concatenate", "config": {"axis": 0}, "layers": {"axis": {"kind": "flatten"}}},
    {"kind": "parallel", "config": {"by_position": 1}}, {"kind": "os.system"},
    *({"kind": "activation", "config": {"function": f}} for f in (
        {"function": "os.system"}, {"function": "jax.numpy.load"}, {"function": "jax.numpy._x"}, {},
        {"function": 3}, {"function": "jax.nn.relu", "more": 1}, {"registered": ["a"]}, {"lambda": "x"},
        {"function": "jax.nn.initializers.__loader__"}, {"partial": {"function": "os.system"}},
        {"made_by": {"function": "jax.numpy.tanh"}}, {"made_by": 3}, {"partial": 3}, {"float": "1"},
        {"made_by": {"function": "jax.nn.initializers.normal"}, "keywords": {"x": 3}}, "relu", 3,
        {"numpy": [1], "shape": [2], "dtype": "int8"}, {"numpy": [1], "dtype": "O"},
        {"dtype": "nothing"},
        {"number": 1, "dtype": "object"}, {"numpy": [{}], "shape": [1], "dtype": "O"},
    )),
])  # fmt: skip
def test_a_config_that_to_config_would_not_write_is_refused(config):
    with pytest.raises(ValueError, match=r"^layer x"):
        jd.saving.from_config({"kind": "serial", "layers": {"x": config}})
