"""Eight devices, and two processes, compute what one does."""

import os
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.runs import close, fit
from jax.sharding import PartitionSpec as P

import jaxdeep as jd
from jaxdeep.fitting import drive
from jaxdeep.fitting.placement import placed

COLLECTIVE = r" = .*?\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def eight():
    return jax.make_mesh((8,), ("data",))


@pytest.fixture(scope="module")
def alone():
    return fit(epochs=3)


@pytest.mark.heavy
def test_eight_devices_compute_what_one_does(alone):
    spread = fit(epochs=3, mesh=eight())
    close(spread.history, alone.history, rtol=1e-4)
    close(spread.params, alone.params, rtol=1e-4)
    assert all(leaf.sharding.num_devices == 8 for leaf in jax.tree.leaves(spread.params))


@pytest.mark.heavy
def test_streamed_to_eight_devices(alone):
    spread = fit(epochs=3, mesh=eight(), stream=True, block_bytes=700)
    close(spread.history, alone.history, rtol=1e-4)


@pytest.mark.heavy
def test_parameters_and_what_the_optimizer_keeps_may_be_split(alone):
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    stopping = jd.train.EarlyStopping(patience=9)
    split = fit(epochs=3, mesh=mesh, shard="hidden/*", early_stopping=stopping)
    close(split.history, alone.history, rtol=1e-4)
    assert split.params["hidden"]["kernel"].sharding.spec == P(None, "model")
    assert split.params["hidden"]["bias"].sharding.spec == P("model")
    assert split.params["out"]["kernel"].sharding.spec == P()
    moments = [
        leaf.sharding.spec
        for path, leaf in jax.tree_util.tree_leaves_with_path(split.train_state.opt_state)
        if "hidden" in jax.tree_util.keystr(path) and leaf.ndim == 2
    ]
    assert moments == [P(None, "model")] * 2


def test_codes_of_the_state_are_split_as_their_parameters_are():
    params = {"hidden": {"kernel": jnp.ones((4, 32))}, "out": jnp.ones((4, 32))}
    tx = jd.optimizers.low_precision(optax.trace(0.9), min_size=1)
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    where = placed(mesh, tx.init(params), params, "hidden/*").run
    assert where.inner.trace["hidden"]["kernel"].codes.spec == P(None, "model")
    assert where.inner.trace["out"].codes.spec == P()


@pytest.mark.heavy
def test_a_step_has_one_group_of_sums_and_gathers_nothing(monkeypatch):
    texts, compiled = [], drive.compiled

    def spy(*args, **kwargs):
        program = compiled(*args, **kwargs)
        texts.append(program.as_text())
        return program

    monkeypatch.setattr("jaxdeep.fitting.drive.compiled", spy)
    model = jd.nn.serial(jd.nn.dense(8, activation=jax.nn.relu), jd.nn.dense(2))
    fit(model=model, validation=None, epochs=1, mesh=eight())
    assert re.findall(COLLECTIVE, "\n".join(texts)) == ["all-reduce"]


@pytest.mark.heavy
def test_a_run_goes_on_with_other_devices(alone, tmp_path):
    fit(epochs=1, mesh=eight(), checkpoint=tmp_path)
    close(fit(epochs=2, checkpoint=tmp_path).history["loss"], alone.history["loss"][:2], rtol=1e-4)
    whole = fit(epochs=3, mesh=eight(), checkpoint=tmp_path)
    close(whole.history, alone.history, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": 8}, "mesh must be a jax.sharding.Mesh"),
        ({"mesh": ("rows",)}, "mesh needs an axis called 'data', it has"),
        ({"mesh": ("data",), "batch_size": 12}, "batch_size must be a multiple .* 8, got 12"),
        ({"mesh": ("data",), "shard": "*"}, "mesh needs an axis called 'model'"),
        ({"shard": "*"}, r"shard='\*' needs a mesh="),
        ({"mesh": ("data", "model"), "shard": "nothing/*"}, r"where='nothing/\*' matches no leaf"),
        (
            {"mesh": ("data", "model"), "shard": "out/bias"},
            "shard='out/bias' selects no leaf with an axis",
        ),
    ],
)
def test_wrong_meshes(changes, message):
    mesh = changes.get("mesh")
    if isinstance(mesh, tuple):
        changes = changes | {
            "mesh": jax.make_mesh((2, 4)[-len(mesh) :] if len(mesh) > 1 else (8,), mesh)
        }
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


WORKER = """
import sys
import jax, numpy as np
count, number, address, mode, place = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
jax.config.update("jax_num_cpu_devices", 4 // count)
if count > 1:
    jax.distributed.initialize(address, count, number)
from helpers.runs import MODEL
import jaxdeep as jd
from jaxdeep.fitting import drive
from jaxdeep.fitting.placement import placed
x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
y = (x[:, 0] > x[:, 1]).astype(int)
sizes = ((4,), ("data",)) if mode != "split" else ((2, 2), ("data", "model"))
data, more, share = (x, y), {}, 16 // count
if mode == "split":
    more = {"shard": "hidden/*", "checkpoint": place}
if mode == "streamed":
    more = {"stream": True, "block_bytes": 500}
if mode == "shares":
    def data(epoch):
        for first in range(0, 96, 16):
            rows = slice(first + number * share, first + (number + 1) * share)
            yield x[rows], y[rows]
if mode == "different":
    data = (x + number, y)
for epochs in (1, 3) if mode == "split" else (3,):
    result = jd.fit(
        MODEL, data, validation=(x, y), loss=jd.losses.softmax_cross_entropy, batch_size=16,
        optimizer=jd.optimizers.adam(0.01), epochs=epochs, key=jax.random.key(0), progress=False,
        mesh=jax.make_mesh(*sizes), **more,
    )
print("losses", *result.history["loss"], *result.history["val_loss"], flush=True)
"""


def losses(count, mode, place):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count), str(i), address, mode, str(place / str(count))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for i in range(count)
    ]
    texts = [process.communicate(timeout=300)[0] for process in processes]
    found = [re.findall(r"^losses (.*)$", text, re.M) for text in texts]
    return [np.array(line[0].split(), float) if line else text for line, text in zip(found, texts)]


@pytest.mark.heavy
def test_two_processes_compute_what_one_does(tmp_path):
    (one,) = losses(1, "whole", tmp_path)
    for other in losses(2, "whole", tmp_path):
        np.testing.assert_allclose(other, one, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["streamed", "split", "shares"])
def test_two_processes_in_every_mode(mode, tmp_path):
    (one,) = losses(1, mode, tmp_path)
    for other in losses(2, mode, tmp_path):
        np.testing.assert_allclose(other, one, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_with_different_arrays_are_refused(tmp_path):
    for text in losses(2, "different", tmp_path):
        assert "data must hold the same arrays in every process" in text
