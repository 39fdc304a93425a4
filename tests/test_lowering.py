"""Programs lowered here for TPUs and GPUs: nothing of the host, of float64, or of the CPU alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdeep as jd

KEY = jax.random.key(0)
X, Y = jnp.ones((16, 6, 6, 2)), jnp.zeros(16, jnp.int32)
MODEL = jd.nn.serial(
    conv=jd.nn.conv(4, 3, padding="SAME", activation=jax.nn.relu),
    bn=jd.nn.batch_norm(),
    pool=jd.nn.max_pool(),
    flat=jd.nn.flatten(),
    drop=jd.nn.dropout(0.5),
    logits=jd.nn.dense(3),
)
OBJECTIVE = jd.train.supervised(
    MODEL, jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}
)


def optimizer(rate=1e-3):
    rule = jd.optimizers.adamw(jd.schedules.one_cycle(rate, 100))
    return optax.chain(jd.optimizers.clip_by_global_norm(1.0), rule, jd.optimizers.max_norm(2.0))


STEP = jd.train.make_step(OBJECTIVE, optimizer())
HOW = {"batch_size": 5, "epochs": 2}
RUN = jd.train.make_run(OBJECTIVE, optimizer(), early_stopping=jd.train.EarlyStopping(patience=1), **HOW)


def state():
    return jd.train.init(MODEL, optimizer(), X[:1], key=KEY)


def in_low_precision():
    params = jnp.ones((64, 300), jnp.bfloat16)
    tx = jd.optimizers.low_precision(optax.adam(1e-3), "int8", "bfloat16+8")
    return lambda state, grads, params: tx.update(grads, state, params), (
        tx.init(params),
        params,
        params,
    )


def two():
    return jax.tree.map(lambda a: jnp.stack([a, a]), state())


def over_devices():
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
    return jax.device_put(state(), everywhere), jax.device_put((X, Y), rows)


# a program, its arguments, and whether the first is donated
PROGRAMS = {
    "step": lambda: (STEP, (state(), (X, Y)), True),
    "step on 8 devices": lambda: (STEP, over_devices(), True),
    "update in low precision": lambda: (*in_low_precision(), True),
    "epoch": lambda: (jd.train.make_epoch(STEP, batch_size=5), (state(), (X, Y)), True),
    "run": lambda: (RUN, (state(), (X, Y), (X, Y)), False),
    "sweep": lambda: (jax.vmap(RUN, in_axes=(0, None, None)), (two(), (X, Y), (X, Y)), False),
    "MC dropout": lambda: (
        lambda ts, x: jd.uncertainty.mc_dropout(
            MODEL, ts.params, ts.state, x, KEY, samples=3, outputs="logits"
        ),
        (state(), X),
        False,
    ),
}


DEAR = ("epoch", "run")  # what a sweep is made of


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.heavy) if n in DEAR else n for n in PROGRAMS]
)
def test_programs_are_lowered_for_other_devices(name):
    function, args, donates = PROGRAMS[name]()
    traced = jax.jit(function, donate_argnums=0 if donates else ()).trace(*args)
    for platform in ("tpu", "cuda"):
        check(traced.lower(lowering_platforms=(platform,)).as_text(), donates)


@pytest.mark.parametrize("quantized", [False, True])
def test_models_for_inference_are_lowered_for_other_devices(quantized):
    ts = state()
    model, params, own = jd.compress.fold_batch_norm(MODEL, ts.params, ts.state)
    if quantized:
        model, params, own = jd.compress.quantize(model, params, own)
    traced = jax.jit(lambda params, x: model.apply(params, own, x)[0]).trace(params, X)
    for platform in ("tpu", "cuda"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        check(text, donates=False)
        assert ("xi8>" in text) == quantized


def check(text, donates):
    assert "callback" not in text
    assert not re.search(r"\bf64\b|xf64>", text)
    assert not re.search(r"tensor<\?|x\?x", text)  # sizes that are known when it runs
    assert not donates or "jax.buffer_donor" in text or "tf.aliasing_output" in text


def test_each_platform_has_the_form_that_is_fast_there():
    """On a CPU small convolutions are products, and the gradients of maxima have no scatter."""
    ts = state()
    loss = lambda params, x: OBJECTIVE(params, ts.state, (x, Y), key=KEY, train=True)[0]  # noqa: E731
    traced = jax.jit(jax.grad(loss)).trace(ts.params, X)
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu", "cuda")}
    orders = {p: re.findall(r"dim_numbers = (\[.*?\]), window", text) for p, text in texts.items()}
    assert orders["cpu"] == []
    assert orders["tpu"] == orders["cuda"] != []
    scatters = {platform: "select_and_scatter" in text for platform, text in texts.items()}
    assert scatters == {"cpu": False, "tpu": True, "cuda": True}


@pytest.mark.heavy
def test_a_program_for_several_platforms_computes_the_same_here():
    ts = state()
    gradients = jax.jit(
        jax.grad(lambda params, x: OBJECTIVE(params, ts.state, (x, Y), key=KEY, train=True)[0])
    )
    exported = jax.export.export(gradients, platforms=("cpu", "cuda", "tpu"))(ts.params, X)
    jax.tree.map(np.testing.assert_array_equal, exported.call(ts.params, X), gradients(ts.params, X))
