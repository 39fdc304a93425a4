"""Saved models: the same in another process, whole after a crash, and never a damaged or foreign one."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import flax.linen
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file

import jaxdeep as jd
from jaxdeep.nn.model import Model
from jaxdeep.saving import files, registry
from jaxdeep.saving.trees import flat

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 8))
IMAGES = jax.random.normal(jax.random.key(2), (2, 6, 6, 2))
nn, init = jd.nn, jd.nn.initializers
ROOT = pathlib.Path(__file__).parent.parent


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
    "embedding": (nn.embedding(9, 4, init=init.truncated_normal(0.5)), jnp.arange(6).reshape(2, 3)),
    "flatten": (nn.flatten(), IMAGES),
    "reshape": (nn.reshape(2, -1), X),
    "conv": (nn.conv(4, (3, 2), strides=(1, 2), dilation=(2, 1), groups=2), IMAGES),
    "conv, padding": (nn.conv(3, 3, padding=((1, 0), (2, 1)), activation=jax.nn.mish), IMAGES),
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
each = pytest.mark.parametrize(("model", "x"), CASES.values(), ids=CASES)

# How a model is used, the same in this process and another.
USES = """
import jax, jax.numpy as jnp
import numpy as np

def results(model, params, state, x):
    def uses(params, state, x, key):
        inference = model.apply(params, state, x)
        training = model.apply(params, state, x, train=True, key=key)
        return model.init(key, x), inference, training

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
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), path


def trained(model, x):
    """Parameters and state that are not those of `init` any more."""
    params, state = jax.jit(model.init)(KEY, x)
    state = jax.tree.map(lambda a: a * 1.1 + 0.1, state)
    return jax.tree.map(lambda a: a + 0.01 if a.dtype.kind == "f" else a, params), state


# --- round trips ----------------------------------------------------------------------------------


def kinds(model):
    return {model.kind}.union(*(kinds(layer) for layer in model.layers.values()))


def test_the_cases_cover_every_layer_of_jaxdeep_and_every_layer_has_a_kind():
    covered = set().union(*(kinds(model) for model, _ in CASES.values()))
    assert covered == {kind for kind, where in registry.KINDS.items() if where.startswith("jaxdeep.nn.")}
    layers = {n for n, f in vars(nn).items() if callable(f) and not n.startswith("_")}
    layers -= {"Model", "summary", "recompute_batch_norm"}
    assert {f"jaxdeep.nn.{name}" for name in layers} <= set(registry.KINDS.values())


@each
def test_a_config_makes_the_same_model_again(model, x):
    config = jd.saving.to_config(model)
    again = jd.saving.from_config(json.loads(json.dumps(config)))
    assert jd.saving.to_config(again) == config
    assert repr(again) == repr(model)
    same(jax.jit(model.init)(KEY, x), jax.jit(again.init)(KEY, x))


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
    cache = {  # the same programs again
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | cache)
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
        st.builds(nn.swish, st.floats(allow_nan=False, allow_infinity=False)),
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
    bits = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, (*shape, dtype.itemsize), np.uint8)
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


@jd.saving.register("test_saving/anything".replace("/", "."))
def anything():
    """A model whose parameters and state may be anything."""
    return Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s), "test_saving.anything")


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
