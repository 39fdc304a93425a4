"""Models saved in the form of the Hub, and arrays in any order in memory."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import jaxdeep as jd

KEY = jax.random.key(0)
MODEL = jd.nn.serial(
    hidden=jd.nn.dense(3, activation=jax.nn.relu), bn=jd.nn.batch_norm(), out=jd.nn.dense(2)
)
PARAMS, STATE = MODEL.init(KEY, jnp.ones((1, 4)))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_files_are_those_of_the_hub_and_load_reads_them(tmp_path):
    folder = tmp_path / "net"
    jd.save(folder, MODEL, PARAMS, STATE, form="huggingface")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    with safe_open(folder / "model.safetensors", framework="numpy") as opened:
        assert opened.metadata() == {"format": "flax", "jaxdeep_format_version": "1"}
        assert "params/hidden/kernel" in opened.keys()  # noqa: SIM118
    assert json.loads((folder / "config.json").read_text())["architecture"]["kind"] == "serial"
    head = (folder / "README.md").read_text().split("---")[1]
    assert "library_name: jaxdeep" in head
    model, *trees = jd.load(folder)
    assert model == MODEL
    same(tuple(trees), (PARAMS, STATE))
    same(jd.load_into(MODEL, PARAMS, STATE, folder), (PARAMS, STATE))


def test_saving_again_keeps_the_card_that_somebody_wrote(tmp_path):
    jd.save(tmp_path / "net", MODEL, PARAMS, STATE, form="huggingface")
    (tmp_path / "net" / "README.md").write_text("mine")
    doubled = jax.tree.map(lambda a: 2 * a, PARAMS)
    jd.save(tmp_path / "net", MODEL, doubled, STATE, form="huggingface")
    assert (tmp_path / "net" / "README.md").read_text() == "mine"
    same(jd.load(tmp_path / "net")[1], doubled)


def test_neither_form_replaces_the_other_or_what_is_of_others(tmp_path):
    for form, other in (("huggingface", "jaxdeep"), ("jaxdeep", "huggingface")):
        jd.save(tmp_path / form, MODEL, PARAMS, STATE, form=form)
        with pytest.raises(FileExistsError, match="a directory of other files"):
            jd.save(tmp_path / form, MODEL, PARAMS, STATE, form=other)
    foreign = tmp_path / "bert"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FileExistsError, match=r"config\.json' is not of a model that jaxdeep saved"):
        jd.save(foreign, MODEL, PARAMS, STATE, form="huggingface")
    with pytest.raises(ValueError, match=r"config\.json' is not of a model that jaxdeep saved"):
        jd.load(foreign)
    with pytest.raises(ValueError, match="form must be 'jaxdeep' or 'huggingface', got 'torch'"):
        jd.save(tmp_path / "c", MODEL, PARAMS, STATE, form="torch")


def test_what_was_damaged_is_refused(tmp_path):
    jd.save(tmp_path / "net", MODEL, PARAMS, STATE, form="huggingface")
    file = tmp_path / "net" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors' was damaged .* another config\.json"):
        jd.load(tmp_path / "net")


@pytest.mark.parametrize("form", ["jaxdeep", "huggingface"])
def test_arrays_in_any_order_in_memory_are_saved_as_they_read(form, tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3)).astype(np.float32)
    orders = {
        "transposed": np.ascontiguousarray(kernel.T).T,
        "fortran": np.asfortranarray(kernel),
        "strided": np.repeat(kernel, 2, axis=1)[:, ::2],
        "backwards": kernel[::-1].copy()[::-1],
        "of JAX": jnp.asarray(np.ascontiguousarray(kernel.T)).T,
    }
    for name, array in orders.items():
        params = {**PARAMS, "hidden": {**PARAMS["hidden"], "kernel": array}}
        jd.save(tmp_path / name, MODEL, params, STATE, form=form)
        np.testing.assert_array_equal(jd.load(tmp_path / name)[1]["hidden"]["kernel"], kernel)
        (file,) = (tmp_path / name).glob("*.safetensors")
        np.testing.assert_array_equal(load_file(file)["params/hidden/kernel"], kernel)
