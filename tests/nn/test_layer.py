"""A layer is one function: kind, config, identity and walks follow from it."""

import dataclasses
import functools
import inspect

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep._identity import key_of
from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS, Layer, build, layer, remake
from jaxdeep.nn.traits import Traits

KEY = jax.random.key(0)
nn, init = jd.nn, jd.nn.initializers


@pytest.fixture
def scale():
    """A layer of a test's own; its kind is forgotten afterwards."""

    @layer
    def scale_(factor: float = 2.0, *sizes: int, shift: float = 0.0) -> Layer:
        def apply(params, x):
            return params["by"] * x + shift

        return Layer(apply, lambda key, x: {"by": jnp.asarray(factor, x.dtype)})

    yield scale_
    KINDS.pop("scale")


def test_kind_config_and_form_follow_from_the_function(scale):
    model = scale(3.0, shift=1.0)
    assert (model.kind, model.config, model.stochastic) == (
        "scale",
        {"factor": 3.0, "shift": 1.0},
        False,
    )
    assert scale().config == {}
    assert repr(model) == "scale(factor=3.0, shift=1.0)"
    params, state = model.init(KEY, jnp.ones((1, 2)))
    y, same = model.apply(params, state, jnp.ones((2, 2)), train=True, key=KEY, mask=None)
    assert same is state
    np.testing.assert_array_equal(y, 4)
    with pytest.raises(ValueError, match=r"lack 'by'; there are \['other'\]"):
        model.apply({"other": 1}, {}, jnp.ones(2))
    with pytest.raises(TypeError, match="key must be a random key"):
        model.init(0, jnp.ones(2))
    with pytest.raises(TypeError, match=r"scale_\(\): .*'colour'"):
        scale(colour=3)
    assert inspect.signature(scale).return_annotation is nn.Model


def test_every_layer_can_be_made_again_and_names_no_default_twice():
    for kind, make in KINDS.items():
        signature = inspect.signature(make)
        assert make.__name__.rstrip("_") == kind
        if all(p.default is not p.empty for p in signature.parameters.values()):
            assert (
                make()
                == build(kind, {})
                == make(**{n: p.default for n, p in signature.parameters.items()})
            )
    assert remake(nn.dense(3, use_bias=False), use_bias=True) == nn.dense(3)
    with pytest.raises(ValueError, match="other is not the kind of a layer"):
        build("other", {})


def both(make):
    return make(), make()


EQUAL = {
    "arguments": lambda: nn.dense(3, activation=jax.nn.relu),
    "initialisers": lambda: nn.dense(3, kernel_init=init.he_normal(), bias_init=init.constant(0.5)),
    "own initialiser": lambda: nn.dense(3, kernel_init=init.identity(2.0)),
    "partials": lambda: nn.activation(functools.partial(jax.nn.leaky_relu, negative_slope=0.2)),
    "lists and arrays": lambda: nn.dropout(np.float32(0.1), noise_shape=[None, 1]),
    "array in an initialiser": lambda: nn.dense(3, bias_init=init.constant(np.arange(3.0))),
    "combinators": lambda: nn.serial(a=nn.repeat(nn.dense(3), 2), b=nn.mixed_precision(nn.swish())),
    "held": lambda: nn.serial(a=nn.batch_norm(), b=nn.dense(2)).frozen(
        {"a": {"scale": False, "bias": False}, "b": {"kernel": True, "bias": True}}
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_models_made_alike_are_equal_and_hash_alike(name):
    a, b = both(EQUAL[name])
    assert a is not b
    assert a == b
    assert hash(a) == hash(b)
    assert key_of(a) == key_of(b)


def test_a_default_that_is_given_makes_no_difference():
    assert nn.batch_norm(momentum=0.99, axis=-1) == nn.batch_norm()
    assert nn.conv(3, 2, padding="same") == nn.conv(3, 2)
    assert nn.reshape(2, 3) == nn.reshape((2, 3))


def scaled(factor):
    return lambda x: factor * x


DIFFERENT = {
    "argument": (nn.dense(3), nn.dense(4)),
    "kind": (nn.max_pool(), nn.average_pool()),
    "number's type": (nn.dropout(0.5), nn.dropout(np.float32(0.5))),
    "sign of zero": (nn.prelu(0.0), nn.prelu(-0.0)),
    "dtype": (nn.mixed_precision(nn.dense(3)), nn.mixed_precision(nn.dense(3), jnp.float16)),
    "name": (nn.serial(a=nn.dense(3)), nn.serial(b=nn.dense(3))),
    "order": (
        nn.serial(a=nn.flatten(), b=nn.reshape(-1, 2)),
        nn.serial(b=nn.reshape(-1, 2), a=nn.flatten()),
    ),
    "two closures": (nn.activation(scaled(2.0)), nn.activation(scaled(2.0))),
    "two lambdas": (nn.lambda_(lambda x: x), nn.lambda_(lambda x: x)),
    "initialiser's argument": (
        nn.dense(3, kernel_init=init.normal(0.1)),
        nn.dense(3, kernel_init=init.normal(0.2)),
    ),
    "initialiser's array": (
        nn.dense(2, bias_init=init.constant(np.array([0.0, 1.0]))),
        nn.dense(2, bias_init=init.constant(np.array([0.0, 2.0]))),
    ),
    "pair of functions": both(lambda: nn.Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s))),
    "adapted": both(lambda: jd.adapters.from_linen(flax.linen.Dense(3))),
    "replaced": (nn.dense(3), dataclasses.replace(nn.dense(3), apply=nn.dense(3).apply)),
    "replaced twice": both(lambda: dataclasses.replace(nn.dense(3), config={})),
    "one inside": both(lambda: nn.serial(a=dataclasses.replace(nn.dense(3), config={}))),
    "rows of a batch": both(lambda: nn.serial(a=nn.dropout(0.5).rows_from(0, 2))),
    "watched": both(lambda: nn.dense(3).watch({})),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_models_that_may_differ_are_not_equal(name):
    a, b = DIFFERENT[name]
    assert a != b
    assert a == a  # noqa: PLR0124
    assert len({a, b}) == 2


def test_a_traced_argument_only_equals_itself():
    def trace(rate):
        model = nn.dropout(rate)
        assert model == model  # noqa: PLR0124
        assert model != nn.dropout(rate + 0)
        return rate

    jax.jit(trace)(0.5)


def test_keys_of_programs_agree():
    for make in EQUAL.values():
        assert key_of(make()) == key_of(make())
    for name, (a, b) in DIFFERENT.items():
        assert key_of(a) != key_of(b), name
    function = scaled(2.0)
    assert key_of(nn.activation(function)) == key_of(nn.activation(function))


def test_an_equal_model_compiles_nothing():
    traces = 0

    @functools.partial(jax.jit, static_argnames="model")
    def run(params, x, model):
        nonlocal traces
        traces += 1
        return model.apply(params, {}, x)[0]

    x = jnp.ones((1, 2))
    params, _ = nn.dense(3).init(KEY, x)
    for _ in range(3):
        run(params, x, nn.serial(nn.dense(3)).layers["dense0"])
    assert traces == 1


# --- walks ----------------------------------------------------------------------------------------


def network():
    return nn.serial(
        a=nn.dense(4),
        half=nn.mixed_precision(nn.serial(b=nn.dense(4))),
        deep=nn.repeat(nn.serial(c=nn.repeat(nn.dense(4), 3), d=nn.dense(4)), 2),
        same=nn.repeat(nn.dense(4), 5, shared=True),
    )


@pytest.mark.heavy
def test_places_know_paths_keys_and_stacked_axes():
    found = {place.path: place for place in walk.leaves(network())}
    assert list(found) == ["a", "half/b", "deep/layer/c/layer", "deep/layer/d", "same/layer"]
    assert [place.times for place in found.values()] == [(), (), (2, 3), (2,), (5,)]
    assert [place.stacked for place in found.values()] == [(), (), (2, 3), (2,), ()]
    params, _ = network().init(KEY, jnp.ones((1, 4)))
    for place in found.values():
        assert walk.at(params, place.keys)["kernel"].shape == (*place.stacked, 4, 4)
    assert found["half/b"].names == ("half", "", "b")
    assert walk.leaves(nn.dense(3))[0].name == "dense"


def test_a_model_is_rebuilt_and_stays_itself_where_nothing_changes():
    model = network()
    assert walk.rebuild(model, lambda place: place.layer) is model
    wider = walk.rebuild(model, lambda place: remake(place.layer, use_bias=False))
    assert wider.layers["half"].layers[""].layers["b"] == nn.dense(4, use_bias=False)
    assert list(wider.layers) == list(model.layers)
    kinds = [place.layer.kind for place in walk.leaves(model, walk.outside_loops)]
    assert kinds == ["dense", "dense", "repeat", "repeat"]


def test_a_wrapper_is_opened_by_those_who_ask_for_it():
    wrapped = nn.mixed_precision(nn.mixed_precision(nn.serial(a=nn.dense(2))), jnp.float16)
    assert walk.unwrapped(wrapped).kind == "serial"
    again = walk.rewrapped(wrapped, nn.dense(3))
    assert again == nn.mixed_precision(nn.mixed_precision(nn.dense(3)), jnp.float16)
    doubled = nn.Model(
        lambda key, x: ({}, {}), lambda p, s, x, **_: (2 * x, s), layers={"": nn.dense(2)},
        combine=lambda layers: doubled,
    )  # fmt: skip
    chain = nn.serial(a=doubled, bn=nn.batch_norm())
    params, state = chain.init(KEY, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="a: a model is in between"):  # it may do anything to its layer
        jd.compress.fold_batch_norm(chain, params, state)


def test_traits_are_unknown_unless_they_are_stated():
    model = nn.Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s))
    assert model.traits == Traits()
    assert walk.meaning(model) is None
    assert walk.meaning(nn.dense(3, activation=jax.nn.sigmoid)) == "probabilities"


X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: jd.nn.serial(only=layer)])
def test_an_input_may_be_what_numpy_takes(wrap):
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    model = wrap(jd.nn.dense(2))
    params, state = model.init(jax.random.key(0), X)
    expected = model.apply(params, state, X)[0]
    for other in (
        torch.tensor(X),
        pd.DataFrame(X),
        X.tolist(),
        np.ma.masked_greater(X, 99),
        X.astype(float),
    ):
        np.testing.assert_allclose(model.apply(params, state, other)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        jd.nn.dense(2),
        jd.nn.batch_norm(),
        jd.nn.layer_norm(),
        jd.nn.dropout(0.5),
        jd.nn.flatten(),
        jd.nn.activation(jax.nn.relu),
        jd.nn.prelu(),
        jd.nn.gaussian_noise(0.1),
    ],
    ids=lambda layer: layer.kind,
)
def test_complex_masked_and_too_large_inputs_are_refused_by_every_layer(layer):
    params, state = layer.init(jax.random.key(0), X)
    for x in (X + 1j, jnp.asarray(X) + 1j):
        for apply in (layer.apply, jax.jit(layer.apply)):
            with pytest.raises(
                TypeError, match="x must be an array of real numbers, got one of dtype complex"
            ):
                apply(params, state, x)
    with pytest.raises(TypeError, match="x is a masked array with masked values"):
        layer.apply(params, state, np.ma.masked_greater(X, 0))
    with pytest.raises(ValueError, match="x holds 1099511627776, which needs more than 32 bits"):
        layer.apply(params, state, np.full((5, 3), 2**40))
    with pytest.raises(ValueError, match=r"x holds 1e\+50, which float32 cannot hold"):
        layer.apply(params, state, np.full((5, 3), 1e50))


@pytest.mark.parametrize(
    "layer", [jd.nn.dense(2), jd.nn.flatten(), jd.nn.dropout(0.5), jd.nn.batch_norm()]
)
@pytest.mark.parametrize("x", [np.ones((2, 3)) * 1j, jax.ShapeDtypeStruct((2, 3), jnp.complex64)])
def test_complex_examples_are_refused(layer, x):
    with pytest.raises(TypeError, match="x must be an array of real numbers"):
        layer.init(jax.random.key(0), x)
