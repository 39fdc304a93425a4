"""Saved models of Keras read without Keras: what they gave there, and what no file may make it do."""

import contextlib
import functools
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxdeep as jd
from jaxdeep.nn.linear import of_size

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "keras"
NAMES = ["table", "wired", "image", "words", "activations"]
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def recorded():
    with np.load(FIXTURES / "expected.npz") as file:
        return dict(file)


def part(recorded, name, what):
    found = {
        key.split("/", 2)[2]: own for key, own in recorded.items() if key.startswith(f"{name}/{what}/")
    }
    return found[""] if list(found) == [""] else found


def read(name):
    return jd.adapters.from_keras(FIXTURES / f"{name}.keras")


def as_dict(outputs):
    if isinstance(outputs, dict):
        return outputs
    several = isinstance(outputs, tuple)
    return {str(i): y for i, y in enumerate(outputs)} if several else {"": outputs}


@pytest.mark.few("table", "wired", "words")
@pytest.mark.parametrize("name", NAMES)
def test_a_model_gives_what_it_gave_in_keras(name, recorded):
    model, params, state = read(name)
    y, _ = model.apply(params, state, part(recorded, name, "x"))
    expected = part(recorded, name, "y")
    expected = expected if isinstance(expected, dict) else {"": expected}
    assert set(as_dict(y)) == set(expected)
    for key, own in as_dict(y).items():
        np.testing.assert_allclose(own, expected[key], rtol=1e-6, atol=1e-6, err_msg=key)


@pytest.mark.few("table")
@pytest.mark.parametrize("name", ["table", "image"])
def test_statistics_move_as_in_keras(name, recorded):
    model, params, state = read(name)
    after = model.apply(params, state, part(recorded, name, "x"), train=True)[1]["norm"]
    for own in ("mean", "var"):
        np.testing.assert_allclose(after[own], part(recorded, name, own)["norm"], rtol=1e-6, atol=1e-6)


def test_a_chain_is_serial_by_the_names_of_its_layers_and_the_rest_is_a_graph():
    model, params, _ = read("table")
    assert model.kind == "serial"
    names = ["scaled", "hidden", "norm", "act", "drop", "hidden2", "layer_norm", "probabilities"]
    assert list(model.layers) == names
    assert params["hidden"]["kernel"].shape == (4, 6)
    assert model.layers["norm"] == jd.nn.batch_norm(momentum=0.7, epsilon=1e-3)
    assert model.meaning == "probabilities"
    wired, params, _ = read("wired")
    assert wired.kind == "graph"
    assert wired.traits.wires.layers.count("twice") == 2
    assert set(params["nested"]) == {"first", "second"}


def test_what_was_not_trainable_is_told_in_the_structure_of_the_parameters():
    learns = jd.adapters.keras_trainable(FIXTURES / "table.keras")
    _, params, _ = read("table")
    assert jax.tree.structure(learns) == jax.tree.structure(params)
    assert learns["hidden"] == {"kernel": False}
    assert learns["hidden2"] == {"kernel": True, "bias": True}


def test_tools_take_what_was_read(recorded, tmp_path):
    model, params, state = read("table")
    x = part(recorded, "table", "x")
    y, _ = model.apply(params, state, x)
    folded, fparams, fstate = jd.compress.fold_batch_norm(model, params, state)
    assert fstate == {}
    assert "norm" not in fparams
    np.testing.assert_allclose(folded.apply(fparams, fstate, x)[0], y, rtol=1e-5, atol=1e-6)
    jd.save(tmp_path / "m", model, params, state)
    again = jd.load(tmp_path / "m")
    np.testing.assert_array_equal(again[0].apply(again[1], again[2], x)[0], y)
    new, nparams, _ = jd.transfer.replace_head(model, params, state, jd.nn.dense(2), x, key=KEY)
    assert nparams["probabilities"]["kernel"].shape == (5, 2)
    assert "scaled" in new.layers


@pytest.mark.heavy
def test_it_trains_with_what_keras_froze_held(recorded):
    model, params, state = read("table")
    x = part(recorded, "table", "x")
    result = jd.fit(
        model,
        (x, np.arange(5) % 3),
        loss=functools.partial(jd.losses.softmax_cross_entropy, from_logits=False),
        optimizer=jd.optimizers.adam(1e-2),
        params=params,
        state=state,
        trainable=jd.adapters.keras_trainable(FIXTURES / "table.keras"),
        epochs=2,
        batch_size=5,
        key=0,
        progress=False,
    )
    np.testing.assert_array_equal(result.params["hidden"]["kernel"], params["hidden"]["kernel"])
    assert not np.array_equal(result.params["hidden2"]["kernel"], params["hidden2"]["kernel"])


def test_an_embedding_takes_whole_numbers_where_keras_calls_its_input_float32(recorded, tmp_path):
    def change(config):
        config["config"]["layers"][0]["config"]["dtype"] = "float32"  # the default

    model, params, state = jd.adapters.from_keras(described(tmp_path, change, "words"))
    x = part(recorded, "words", "x")
    assert jnp.issubdtype(x.dtype, jnp.integer)
    y, _ = model.apply(params, state, x)
    np.testing.assert_allclose(y, part(recorded, "words", "y"), rtol=1e-6, atol=1e-6)


def test_of_several_inputs_only_those_of_embeddings_are_whole_numbers(tmp_path):
    """A convolution, which takes floats only, beside an embedding whose input Keras calls float32."""
    graph = jd.nn.graph(
        {"t": ("table", "words"), "c": ("conv", "signal"), "y": ("join", ("t", "c"))},
        "y",
        {"words": "words", "signal": "signal"},
        table=jd.nn.embedding(5, 2),
        conv=jd.nn.conv(2, 3),
        join=jd.nn.merge("add"),
    )
    x = {"words": jnp.arange(8).reshape(2, 4) % 5, "signal": jnp.ones((2, 4, 3))}
    params, state = graph.init(KEY, x)
    jd.adapters.to_keras(graph, params, state, tmp_path / "m.keras", x)
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b"int32", b"float32")
    found, fparams, fstate = jd.adapters.from_keras(packed(tmp_path / "floats.keras", parts))
    y, _ = found.apply(fparams, fstate, x)
    np.testing.assert_allclose(y, graph.apply(params, state, x)[0], rtol=1e-6)


# --- files ------------------------------------------------------------------------------------------


def members(name="table"):
    with zipfile.ZipFile(FIXTURES / f"{name}.keras") as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def packed(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def changed(content, change):
    """The weights after a change."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as weights:
        change(weights)
    return file.getvalue()


def with_weights(tmp_path, change, name="table"):
    parts = members(name)
    parts["model.weights.h5"] = changed(parts["model.weights.h5"], change)
    return packed(tmp_path / "changed.keras", parts)


def described(tmp_path, change, name="table"):
    parts = members(name)
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config)
    return packed(tmp_path / "changed.keras", parts)


def layer(config, name):
    return next(one for one in config["config"]["layers"] if one["config"]["name"] == name)


def assert_same(found, expected):
    assert found[0] == expected[0]
    jax.tree.map(np.testing.assert_array_equal, found[1:], expected[1:])


def test_a_folder_and_weights_beside_a_description_are_read_too(tmp_path):
    expected = read("wired")
    for name, content in members("wired").items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_text("of Hugging Face")
    assert_same(jd.adapters.from_keras(tmp_path), expected)
    shutil.move(tmp_path / "model.weights.h5", tmp_path / "other.weights.h5")
    found = jd.adapters.from_keras(tmp_path / "config.json", weights=tmp_path / "other.weights.h5")
    assert_same(found, expected)
    with pytest.raises(ValueError, match=r"has no model\.weights\.h5; there are README"):
        jd.adapters.from_keras(tmp_path)


def test_empty_groups_may_lack_and_those_of_an_optimizer_be_there(tmp_path):
    def change(weights):
        for group in ("layers/activation", "layers/dropout", "vars"):
            del weights[group]
        weights["optimizer/vars/0"] = np.int64(3)
        weights["_loss_tracker/vars/0"] = np.float32(1)

    path = with_weights(tmp_path, change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/more.txt", "text")
    assert_same(jd.adapters.from_keras(path), read("table"))


def test_names_are_not_looked_at_and_modules_neither(tmp_path):
    def change(config):
        config["module"] = "keras.src.engine.sequential"
        layer(config, "hidden")["config"]["name"] = "renamed"

    _, params, _ = jd.adapters.from_keras(described(tmp_path, change))
    np.testing.assert_array_equal(params["renamed"]["kernel"], read("table")[1]["hidden"]["kernel"])


def test_missing_variables_are_said_with_those_that_are_there(tmp_path):
    def change(weights):
        weights.move("layers/dense_1", "layers/dense_7")

    with pytest.raises(
        ValueError, match=r"Dense 'hidden2'.* at layers/dense_1/vars, and there are .*dense_7"
    ):
        jd.adapters.from_keras(with_weights(tmp_path, change))

    def fewer(weights):
        del weights["layers/dense_1/vars/1"]

    with pytest.raises(
        ValueError, match=r"has 2 variables \(kernel, bias\), and the file 1: \[\(6, 5\)\]"
    ):
        jd.adapters.from_keras(with_weights(tmp_path, fewer))

    def other(weights):
        del weights["layers/dense_1/vars/1"]
        weights["layers/dense_1/vars/1"] = np.zeros(4, np.float32)

    with pytest.raises(ValueError, match=r"hidden2/bias has shape \(4,\)"):
        jd.adapters.from_keras(with_weights(tmp_path, other))


def huge(weights):
    weights.create_dataset("layers/huge/vars/0", (1 << 40,), "f4", chunks=(1024,))


def soft(weights):
    weights["layers/soft"] = h5py.SoftLink("/layers/dense")


def external(weights):
    weights["layers/external"] = h5py.ExternalLink("/etc/passwd", "/")


def hard(weights):
    weights["layers/again"] = weights["layers/dense"]


def virtual(weights):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (2,))
    weights.create_virtual_dataset("layers/virtual/vars/0", layout)


def elsewhere(weights):
    weights.create_dataset("layers/raw/vars/0", (2,), "f4", external=[("/etc/passwd", 0, 8)])


def objects(weights):
    weights["layers/text/vars/0"] = "text"


HOSTILE = {
    huge: r"layers/huge/vars/0 has 0 bytes and claims to hold 4,398,046,511,104",
    soft: r"layers/soft is a link to elsewhere",
    external: r"layers/external is a link to elsewhere",
    hard: r"is in the file under another name already",
    virtual: r"layers/virtual/vars/0 has its data in other files",
    elsewhere: r"layers/raw/vars/0 has its data in other files",
    objects: r"layers/text/vars/0 has numbers of object",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_weights_that_are_not_ordinary_are_refused(change, tmp_path):
    with pytest.raises(ValueError, match=HOSTILE[change]):
        jd.adapters.from_keras(with_weights(tmp_path, change))


def test_members_that_lead_out_or_claim_too_much_are_refused(tmp_path):
    parts = members()
    for name in ("../config.json", "/config.json", "a/../../b", "..\\b", "C:/b"):
        with pytest.raises(ValueError, match="leads out of the archive"):
            jd.adapters.from_keras(packed(tmp_path / "m.keras", {**parts, name: b""}))
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (1 << 24))
    with pytest.raises(ValueError, match="that claims to hold 16,777,216"):
        jd.adapters.from_keras(bomb)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", b"{}")
    with pytest.raises(ValueError, match="two members of the name"):
        jd.adapters.from_keras(tmp_path / "m.keras")
    link = zipfile.ZipInfo("config.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(ValueError, match="that is a link"):
        jd.adapters.from_keras(tmp_path / "m.keras")


def test_code_is_refused_before_the_weights_are_looked_at(tmp_path):
    def change(config):
        one = layer(config, "act")
        one["class_name"] = "Lambda"
        one["config"]["function"] = {
            "class_name": "__lambda__",
            "config": {"value": ["4wEAAAA=", None, None]},
        }

    path = described(tmp_path, change)
    parts = {
        **{"config.json": zipfile.ZipFile(path).read("config.json")},
        "model.weights.h5": b"nothing",
    }
    with pytest.raises(ValueError, match=r"holds (Lambda|__lambda__).* code of Python: it is never run"):
        jd.adapters.from_keras(packed(tmp_path / "m.keras", parts))
    with pytest.raises(ValueError, match="is no JSON"):
        jd.adapters.from_keras(packed(tmp_path / "m.keras", {"config.json": b"[" * 100_000}))


def cut(name, where):
    """A member without its end, or its beginning."""
    return lambda parts: {**parts, name: parts[name][where]}


def swapped(name, content):
    return lambda parts: {**parts, name: content}


def without_signature(parts):
    weights = parts["model.weights.h5"]
    return {**parts, "model.weights.h5": weights.replace(b"TREE", b"EERT")}


OF_MEMBERS = {
    "the weights are cut": cut("model.weights.h5", slice(3000)),
    "the weights are nothing": swapped("model.weights.h5", b""),
    "the weights are no HDF5": swapped("model.weights.h5", b"PK\3\4" * 500),
    "the weights have no tree": without_signature,
    "the description is cut": cut("config.json", slice(900)),
    "the description is nothing": swapped("config.json", b""),
    "the description is no text": swapped("config.json", b"\xff\xfe\x00{"),
}
OF_BYTES = {
    "the end is cut": lambda content: content[:-400],
    "half is cut": lambda content: content[: len(content) // 2],
    "it is HDF5": lambda content: b"\x89HDF\r\n\x1a\n" + bytes(600),
    "it is empty": lambda content: b"",
    "a bit of the weights is another": lambda content: flipped(content, b"model.weights.h5", 5000),
    "a bit of the description is another": lambda content: flipped(content, b"config.json", 200),
    "a member has no header": lambda content: content.replace(b"PK\3\4", b"PK\0\0"),
    "a member is compressed in no known way": lambda content: content.replace(
        b"PK\3\4\x14\0\0\0\0", b"PK\3\4\x14\0\0\0\x63"
    ).replace(b"PK\1\2\x14\3\x14\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x63"),
}


def flipped(content, member, by):
    place = content.index(member) + by
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("way", [*OF_MEMBERS, *OF_BYTES])
def test_a_damaged_file_is_said_to_be_damaged(way, tmp_path):
    path = tmp_path / "m.keras"
    packed(path, OF_MEMBERS.get(way, dict)(members()))
    path.write_bytes(OF_BYTES.get(way, bytes)(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^source: .*m\.keras.* is damaged: ."):
        jd.adapters.from_keras(path)


def test_damaged_weights_beside_a_description_are_named(tmp_path):
    (tmp_path / "w.weights.h5").write_bytes(members()["model.weights.h5"][:2000])
    with pytest.raises(ValueError, match=r"^weights .*w\.weights\.h5 is damaged: "):
        jd.adapters.from_keras(FIXTURES / "table.keras", weights=tmp_path / "w.weights.h5")


def test_a_model_that_was_not_built_is_said_to_be(tmp_path):
    def change(weights):
        del weights["layers"]

    with pytest.raises(ValueError, match=r"must be built, .*: call the model on an input first"):
        jd.adapters.from_keras(with_weights(tmp_path, change, "wired"))


REFUSED = {
    "a flag that is a text": ({}, {"use_bias": "no"}, "use_bias='no', which must be true or false"),
    "a flag that is a number": ({}, {"trainable": 0}, "trainable of layer .* must be true or false"),
    "a number that is a text": ({}, {"units": "5"}, "units='5', which must be a whole number"),
    "a number that is a flag": ({}, {"units": True}, "units=True, which must be a whole number"),
    "a share of a unit": ({}, {"units": 5.0}, r"units=5\.0, which must be a whole number"),
    "a name that is a number": ({}, {"name": 3}, "name of layer .* must be a text"),
    "an order of axes": ({}, {"data_format": "last"}, "data_format='last', which is neither"),
    "a class of its own": (
        {"class_name": "Mine", "registered_name": "my_package>Mine"},
        {},
        "Mine 'hidden2': is a my_package>Mine, a class of its own",
    ),
    "an unknown class": (
        {"class_name": "LSTM"},
        {},
        "LSTM 'hidden2': is a LSTM, which jaxdeep does not have; jaxdeep.adapters.from_keras_model runs",
    ),
    "half precision": (
        {},
        {"dtype": {"config": {"name": "mixed_float16"}}},
        "has dtype 'mixed_float16'",
    ),
    "no boolean": ({}, {"use_bias": "no"}, "has use_bias='no', which must be true or false"),
    "quantised": ({}, {"quantization_config": {"mode": "int8"}}, "has quantization_config="),
    "an activation": (
        {},
        {"activation": "sparsemax"},
        "has the activation 'sparsemax', which is none of",
    ),
    "channels first": ({}, {"data_format": "channels_first"}, "has data_format='channels_first'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_jaxdeep_does_not_have_is_refused_by_name(case, tmp_path):
    outside, inside, message = REFUSED[case]

    def change(config):
        one = layer(config, "hidden2")
        one.update(outside)
        one["config"].update(inside)

    with pytest.raises(ValueError, match=message):
        jd.adapters.from_keras(described(tmp_path, change))


ROWS = "over the rows of a batch, which jaxdeep does not have; jaxdeep.adapters.from_keras_model runs"


@pytest.mark.parametrize(("kind", "axis", "axes"), [
    ("Softmax", 0, None), ("Softmax", [0], None), ("Softmax", -2, 2), ("Softmax", [1, 0], 3),
    ("Softmax", None, None), ("BatchNormalization", 0, None), ("BatchNormalization", -3, 3),
    ("LayerNormalization", [0, 1], None), ("LayerNormalization", [-2], 2),
    ("RMSNormalization", [0], None), ("GroupNormalization", 0, None), ("Normalization", [0], None),
    ("Concatenate", -2, 2), ("Concatenate", None, None),
])  # fmt: skip
def test_a_layer_over_the_rows_of_a_batch_is_refused(kind, axis, axes):
    from jaxdeep.adapters.keras_models.layers import LayerSpec, layer_of

    arrays = [np.ones(3, np.float32)] * {"BatchNormalization": 4, "Normalization": 3}.get(kind, 2)
    spec = LayerSpec({"axis": axis}, arrays, [None, *[3] * (axes - 1)] if axes else None)
    with pytest.raises(ValueError, match=re.escape(f"has axis={axis!r}, {ROWS}")):
        layer_of(kind, spec)


def softmax_at_the_end(axis):
    """A Sequential: a dense layer for 4 numbers and a softmax, whose shape no description has."""

    def change(config):
        layers = config["config"]["layers"]
        own = {"name": "shares", "axis": axis}
        layers.append({"module": "keras.layers", "class_name": "Softmax", "config": own})

    return change


@pytest.mark.parametrize("axis", [-2, [-1, -2]])
def test_the_axes_in_front_of_a_layer_of_a_sequential_are_counted(axis, tmp_path):
    message = re.escape(f"Softmax 'shares': has axis={axis!r}, {ROWS}")
    with pytest.raises(ValueError, match=message):
        jd.adapters.from_keras(described(tmp_path, softmax_at_the_end(axis)))


def test_softmax_over_other_axes_than_the_rows_is_read(recorded, tmp_path):
    path = described(tmp_path, softmax_at_the_end([-1]))
    model, params, state = jd.adapters.from_keras(path)
    y = model.apply(params, state, part(recorded, "table", "x"))[0]
    before = part(recorded, "table", "y")
    np.testing.assert_allclose(y, scipy.special.softmax(before, -1), rtol=1e-4)


CONFIGS = {
    "Dot": ({"axes": 1}, "is a Dot, which jaxdeep does not have"),
    "Embedding": ({"input_dim": 3, "output_dim": 2, "mask_zero": True}, "mask_zero=True"),
    "Conv1D": ({"filters": 2, "kernel_size": [2], "padding": "causal"}, "padding='causal'"),
    "Conv2DTranspose": ({"filters": 2, "kernel_size": [2], "output_padding": [1, 1]}, "output_padding"),
    "Concatenate": ({"axis": 0}, "axis=0, over the rows of a batch"),
    "ReLU": ({"max_value": 2.0}, "max_value=2.0"),
    "LayerNormalization": ({"rms_scaling": True}, "rms_scaling=True"),
    "BatchNormalization": ({"renorm": True}, "renorm=True"),
    "Resizing": ({"height": 2, "width": 2, "crop_to_aspect_ratio": True}, "crop_to_aspect_ratio=True"),
    "Normalization": ({"axis": -1}, "has neither statistics nor variables"),
    "GroupNormalization": ({"groups": -1, "scale": False, "center": False}, "groups=-1"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_argument_that_means_something_else_is_refused(name):
    from jaxdeep.adapters.keras_models.layers import LayerSpec, layer_of

    config, message = CONFIGS[name]
    with pytest.raises(ValueError, match=message) as refused:
        layer_of(name, LayerSpec(config, []))
    assert ("from_keras_model" in str(refused.value)) == (name in KNOWN_TO_KERAS)


KNOWN_TO_KERAS = {
    *("Dot", "Embedding", "Conv1D", "Conv2DTranspose", "ReLU", "LayerNormalization"),
    *("BatchNormalization", "Resizing", "Concatenate"),
}
WRONG_KINDS = {
    "Dropout": {"rate": "0.5"},
    "Conv2D": {"filters": 2, "kernel_size": [3, "3"]},
    "Conv1D": {"filters": 2, "kernel_size": [3], "padding": 1},
    "Embedding": {"input_dim": 3.5, "output_dim": 2},
    "BatchNormalization": {"scale": 1},
    "Softmax": {"axis": "last"},
    "Resizing": {"height": 2, "width": 2, "antialias": "false"},
    "GlobalAveragePooling2D": {"keepdims": None},
    "LeakyReLU": {"negative_slope": True},
    "Reshape": {"target_shape": [2, True]},
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_an_argument_of_another_kind_is_refused(name):
    from jaxdeep.adapters.keras_models.layers import LayerSpec, layer_of

    with pytest.raises(ValueError, match=r"^has .*=.*, which must be (a|true)"):
        layer_of(name, LayerSpec(WRONG_KINDS[name], []))


def span(start=None, stop=None, step=None):
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


ALL, DOTS = span(), {"class_name": "__ellipsis__", "config": {}}


def tanh_gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


OPERATIONS = [
    ("Negative", [None], {}, lambda x: -x),
    ("Absolute", [None], {}, abs),
    ("Square", [None], {}, lambda x: x * x),
    ("Exp", [None], {}, np.exp),
    ("Mean", [None], {"axis": [1, 2], "keepdims": False}, lambda x: x.mean((1, 2))),
    ("Mean", [None], {"axis": -1, "keepdims": True}, lambda x: x.mean(-1, keepdims=True)),
    ("Sum", [None], {"axis": 1, "keepdims": False}, lambda x: x.sum(1)),
    ("Max", [None], {"axis": 2, "keepdims": False, "initial": None}, lambda x: x.max(2)),
    ("Amax", [None], {"axis": 2, "keepdims": False}, lambda x: x.max(2)),
    ("Amin", [None], {"axis": [1, -1], "keepdims": True}, lambda x: x.min((1, 2), keepdims=True)),
    ("Subtract", [2.0, None], {}, lambda x: 2 - x),
    ("GetItem", [None, [ALL, -1]], {}, lambda x: x[:, -1]),
    ("GetItem", [None, [ALL, span(1, 3), 0]], {}, lambda x: x[:, 1:3, 0]),
    ("GetItem", [None, [ALL, 2, 1]], {}, lambda x: x[:, 2, 1]),
    ("GetItem", [None, [ALL, span(step=2), span(stop=-1)]], {}, lambda x: x[:, ::2, :-1]),
    ("GetItem", [None, ALL], {}, lambda x: x),
    ("GetItem", [None, [span(step=1), span(stop=2)]], {}, lambda x: x[:, :2]),
    ("GetItem", [None, [span(0), -1]], {}, lambda x: x[:, -1]),
    ("GetItem", [None, span(0, step=1)], {}, lambda x: x),
    ("GetItem", [None, [ALL, span(2, 100)]], {}, lambda x: x[:, 2:100]),
    ("GetItem", [None, [ALL, span(-100, 3), -1]], {}, lambda x: x[:, -100:3, -1]),
    ("GetItem", [None, [ALL, ALL, span(1, 9)]], {}, lambda x: x[:, :, 1:9]),
    ("GetItem", [None, [ALL, span(7, 9)]], {}, lambda x: x[:, 7:9]),
    ("Gelu", [None], {"approximate": True}, tanh_gelu),
    ("Gelu", [None], {"approximate": False}, lambda x: x * scipy.stats.norm.cdf(x)),
    ("Softmax", [None], {"axis": -1}, lambda x: scipy.special.softmax(x, -1)),
    ("Softmax", [None], {"axis": [1, 2]}, lambda x: scipy.special.softmax(x, (1, 2))),
    ("LogSoftmax", [None], {"axis": 1}, lambda x: scipy.special.log_softmax(x, 1)),
    ("LeakyRelu", [None], {"negative_slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
    ("LeakyRelu", [None], {"negative_slope": 0.01}, lambda x: np.where(x > 0, x, 0.01 * x)),
    ("Elu", [None], {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    ("Celu", [None], {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5))),
    ("HardSigmoid", [None], {}, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
]


@pytest.mark.parametrize(("name", "arguments", "settings", "expected"), OPERATIONS)
def test_an_operation_is_that_of_numpy_and_can_be_saved(name, arguments, settings, expected, tmp_path):
    from jaxdeep.adapters.keras_models.operations import operation_of

    model, params, state = operation_of(name, arguments, settings)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(model.apply(params, state, x)[0], expected(x), rtol=1e-5)
    jd.save(tmp_path / "m", model, dict(params), dict(state))
    assert jd.load(tmp_path / "m")[0] == model


@pytest.mark.parametrize(("name", "arguments", "settings", "message"), [
    ("GetItem", [None, 0], {}, r"slicing, x\[0\],"),
    ("GetItem", [None, [ALL, span(step=-1)]], {}, r"slicing, x\[:, ::-1\],"),
    ("GetItem", [None, [span(step=2), 0]], {}, r"slicing, x\[::2, 0\],"),
    ("GetItem", [None, [span(1), 0]], {}, r"slicing, x\[1:, 0\],"),
    ("GetItem", [None, [span(step=-1), 0]], {}, r"slicing, x\[::-1, 0\],"),
    ("Amax", [None], {"axis": None, "keepdims": False}, r"Amax\(…\), over the rows"),
    ("Amin", [None], {"axis": -3, "keepdims": False}, r"Amin\(…, axis=-3\), over the rows"),
    ("GetItem", [None, [DOTS, 0]], {}, r"slicing, x\[\.\.\., 0\],"),
    ("GetItem", [None, [ALL, None]], {}, r"slicing, x\[:, None\],"),
    ("Mean", [None], {"axis": None, "keepdims": False}, r"keras\.ops\.Mean\(…\),"),
    ("Mean", [None], {"axis": [0, 1]}, r"keras\.ops\.Mean\(…, axis=\[0, 1\]\),"),
    ("Mean", [None], {"axis": 0, "keepdims": True},
     r"Mean\(…, axis=0, keepdims=True\), over the rows of a batch,"),
    ("Mean", [None], {"axis": -3, "keepdims": False}, r"Mean\(…, axis=-3\), over the rows"),
    ("Sum", [None], {"axis": 1, "keepdims": 0}, r"Sum\(…, axis=1, keepdims=0\), which"),
    ("Max", [None], {"axis": 1, "keepdims": False, "initial": 0.0}, r"Max\(…, axis=1, initial=0\.0\), "),
    ("Std", [None], {"axis": 0, "keepdims": False}, r"Std\(…, axis=0, keepdims=False\), which"),
    ("Concatenate", [None], {"axis": 0}, r"Concatenate\(…\), over the rows of a batch,"),
    ("Concatenate", [None], {"axis": -3}, r"Concatenate\(…, axis=-3\), over the rows"),
    ("Softmax", [None], {"axis": 0}, r"Softmax\(…, axis=0\), over the rows"),
    ("GetItem", [None, [ALL, span(step=0)]], {}, r"slicing, x\[:, ::0\],"),
    ("Power", [None, 2], {}, r"keras\.ops\.Power\(…, 2\),"),
    ("Gelu", [None], {"approximate": 1}, "approximate=1"),
    ("Elu", [None], {"alpha": "1"}, "alpha='1'"),
    ("LogSoftmax", [None], {"axis": 1, "mask": True}, r"LogSoftmax\(…, axis=1, mask=True\),"),
])  # fmt: skip
def test_an_operation_that_is_not_known_is_shown(name, arguments, settings, message):
    from jaxdeep.adapters.keras_models.operations import operation_of

    with pytest.raises(ValueError, match=message + ".*from_keras_model"):
        operation_of(name, arguments, settings, 3)


def tensor(*shape):
    return {"class_name": "__keras_tensor__", "config": {"shape": [None, *shape], "keras_history": []}}


def test_tensors_of_other_axes_are_not_taken_together():
    from jaxdeep.adapters.keras_models.calls import axes_of, check_together

    several = {"class_name": "__tuple__", "config": {"value": [tensor(3), {"b": tensor(2, 3)}]}}
    assert axes_of([0.5, several]) == 2
    assert axes_of(["x", None]) is None
    check_together([tensor(3), 2.0, [tensor(1)]])
    with pytest.raises(ValueError, match="takes tensors of 2 and 3 axes together"):
        check_together([several])


def test_a_layer_that_was_never_built_is_named(tmp_path):
    parts = members()
    config = json.loads(parts["config.json"])
    layer(config, "hidden2")["build_config"] = None
    parts["config.json"] = json.dumps(config)
    parts["model.weights.h5"] = changed(
        parts["model.weights.h5"], lambda file: file["layers"].pop("dense_1", None)
    )
    message = "Dense 'hidden2': is not built and has no variables: call the model on an input"
    with pytest.raises(ValueError, match=message):
        jd.adapters.from_keras(packed(tmp_path / "m.keras", parts))


def test_damaged_files_are_named_and_nothing_else_is_raised(tmp_path):
    whole, rng, path = (FIXTURES / "table.keras").read_bytes(), np.random.default_rng(0), tmp_path / "m"
    refused = 0
    for size in rng.integers(100, len(whole), 20):
        damaged = bytearray(whole if size % 2 else whole[:size])
        damaged[size // 2] ^= 255
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            jd.adapters.from_keras(path)
            continue
        refused += 1
    assert refused > 10
    path.write_bytes(whole.replace(b"\x89HDF", b"\x89HDG"))
    with pytest.raises(ValueError, match=r"source: .*model.weights.h5 is damaged: Bad CRC"):
        jd.adapters.from_keras(path)


def test_other_things_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="source: there is no"):
        jd.adapters.from_keras(tmp_path / "none.keras")
    with pytest.raises(TypeError, match="source must be a path or a model of Keras, got 3"):
        jd.adapters.from_keras(3)
    (tmp_path / "old.h5").write_bytes(b"\x89HDF")
    with pytest.raises(ValueError, match=r"source must be a \.keras file"):
        jd.adapters.from_keras(tmp_path / "old.h5")
    own = {"class_name": "Mine", "config": {}, "module": "mine"}
    path = packed(tmp_path / "m.keras", {**members(), "config.json": json.dumps(own)})
    with pytest.raises(ValueError, match="source is a Mine, a class of its own"):
        jd.adapters.from_keras(path)


@pytest.mark.heavy
def test_keras_is_not_imported(tmp_path):
    code = (
        "import sys, jaxdeep as jd\n"
        f"jd.adapters.from_keras({str(FIXTURES / 'table.keras')!r})\n"
        "assert 'keras' not in sys.modules and 'marshal' not in dir(jd)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=pathlib.Path(jd.__file__).parents[1])


# --- and back ---------------------------------------------------------------------------------------


def drawn(model, x):
    params, state = model.init(KEY, x)
    leaves, structure = jax.tree.flatten((params, state))
    keys = jax.random.split(KEY, len(leaves) + 1)
    moved = [jnp.abs(leaf + 0.3 * jax.random.normal(k, leaf.shape)) for k, leaf in zip(keys, leaves)]
    return jax.tree.unflatten(structure, moved)


def networks():
    nn = jd.nn
    image = nn.serial(
        conv=nn.conv(4, 3, strides=2, activation=jax.nn.leaky_relu),
        pad=nn.conv(4, 3, padding=((1, 2), (0, 1)), groups=4),
        bn=nn.batch_norm(),
        res=nn.residual(nn.serial(a=nn.conv(4, 1), b=nn.activation(jax.nn.relu))),
        both=nn.concatenate(l=nn.conv(2, 1), r=nn.serial(nn.conv(2, 3), nn.prelu(shared_axes=(1, 2)))),
        up=nn.conv_transpose(3, 3, strides=2),
        pool=nn.average_pool(2, padding="SAME"),
        flat=nn.flatten(),
        rest=nn.serial(h=nn.dense(5), loop=nn.repeat(nn.dense(5, activation=jnp.tanh), 3)),
        out=nn.parallel(p=nn.dense(2, activation=jax.nn.softmax), q=nn.dense(1)),
    )
    graph = nn.graph(
        {
            "a": ("twin", "l"),
            "b": ("twin", "a"),
            "unused": ("twin", "b"),
            "m": ("join", ("b", "r", "a")),
            "y": ("outputs", "m"),
            "z": ("norm", "a"),
        },
        ("y", "z"),
        {"left": "l", "right": "r"},
        twin=nn.dense(3, activation=jnp.tanh),
        join=nn.merge("concatenate"),
        outputs=nn.dense(2),
        norm=nn.layer_norm(),
    )
    words = nn.serial(table=nn.embedding(7, 4), pool=nn.global_average_pool(), out=nn.dense(1))
    key = jax.random.key(3)
    rows = jax.random.normal(key, (5, 3))
    return {
        "image": (image, jax.random.normal(key, (3, 9, 9, 2))),
        "graph": (graph, {"left": rows, "right": 2 * rows}),
        "words": (words, jax.random.randint(key, (4, 6), 0, 7)),
        "shared": (nn.serial(nn.shared(nn.dense(2)), nn.merge("subtract")), (rows, rows[::-1])),
    }


WRITTEN = ["graph", "words", "shared", "image"]


@pytest.mark.few("graph")
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_read_again(name, tmp_path):
    model, x = networks()[name]
    params, state = drawn(model, x)
    path = tmp_path / "m.keras"
    jd.adapters.to_keras(model, params, state, path, jax.eval_shape(lambda: x))
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    found, fparams, fstate = jd.adapters.from_keras(path)
    expected = jax.tree.leaves(model.apply(params, state, x)[0])
    again = jax.tree.leaves(found.apply(fparams, fstate, x)[0])
    for a, b in zip(again, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_in_another_order_of_memory_are_written_as_they_are(tmp_path):
    model = jd.nn.serial(out=jd.nn.dense(3))
    kernel = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    params = {"out": {"kernel": kernel, "bias": np.zeros(6, np.float32)[::2]}}
    jd.adapters.to_keras(model, params, {}, tmp_path / "m.keras", np.ones((1, 4), np.float32))
    found = jd.adapters.from_keras(tmp_path / "m.keras")[1]
    np.testing.assert_array_equal(found["out"]["kernel"], kernel)


def test_a_model_of_one_size_is_written_as_one_of_the_size_of_its_input(tmp_path):
    """What `lift` puts in front of layers of one size is the shape of the input in Keras."""
    model = jd.nn.serial(of_size0=of_size(8, 8, 3), out=jd.nn.conv(4, 3))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params, state = drawn(model, x)
    jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
    found, fparams, fstate = jd.adapters.from_keras(tmp_path / "m.keras")
    assert list(found.layers) == ["out"]
    np.testing.assert_array_equal(found.apply(fparams, fstate, x)[0], model.apply(params, state, x)[0])


def test_a_path_that_leads_nowhere_is_said(tmp_path):
    model = jd.nn.serial(out=jd.nn.dense(3))
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder '.*missing'"):
        jd.adapters.to_keras(model, {}, {}, tmp_path / "missing" / "m.keras", np.ones((1, 4)))
    with pytest.raises(TypeError, match="source must be a path or a model of Keras, got ''"):
        jd.adapters.from_keras("")


def test_a_path_that_cannot_be_written_is_named_as_it_was_given(tmp_path, monkeypatch):
    def refused(place, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(place))

    model, x = jd.nn.serial(out=jd.nn.dense(3)), np.ones((1, 4), np.float32)
    params, state = drawn(model, x)
    monkeypatch.setattr(pathlib.Path, "write_bytes", refused)
    with pytest.raises(
        PermissionError, match=r"path could not be written \(Permission denied\): '.*/m\.keras'"
    ) as caught:
        jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
    assert caught.value.filename == str(tmp_path / "m.keras")


@pytest.mark.parametrize("model", [jd.nn.serial(), jd.nn.serial(identity=jd.nn.serial())])
def test_a_model_without_layers_is_written_and_read_again(model, tmp_path):
    x = jnp.arange(6.0).reshape(2, 3)
    jd.adapters.to_keras(model, {}, {}, tmp_path / "m.keras", x)
    found, params, state = jd.adapters.from_keras(tmp_path / "m.keras")
    np.testing.assert_array_equal(found.apply(params, state, x)[0], x)


def test_a_layer_with_the_name_of_the_input_is_another_one(tmp_path):
    x = jnp.ones((2, 3))
    serial = jd.nn.serial(input=jd.nn.dense(2))
    graph = jd.nn.graph({"y": ("rows", "rows_in")}, "y", "rows_in", rows=jd.nn.dense(2))
    for model in (serial, graph, jd.nn.graph({"y": ("x", "x")}, "y", "x", x=jd.nn.dense(2))):
        params, state = model.init(KEY, x)
        jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
        found, found_params, _ = jd.adapters.from_keras(tmp_path / "m.keras")
        np.testing.assert_array_equal(
            found.apply(found_params, {}, x)[0], model.apply(params, state, x)[0]
        )


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_of_jaxdeep_is_written_as_that_of_jax(approximate, tmp_path):
    x, written = jnp.linspace(-3, 3, 12).reshape(3, 4), []
    for gelu in (jd.nn.activations.gelu, jax.nn.gelu):
        function = gelu if approximate else functools.partial(gelu, approximate=False)
        model = jd.nn.serial(act=jd.nn.activation(function), out=jd.nn.dense(2, activation=function))
        params, state = model.init(KEY, x)
        jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
        written.append(jd.adapters.from_keras(tmp_path / "m.keras"))
    assert_same(*written)


def test_what_is_read_by_slice_and_mean_is_written_and_read_again(tmp_path):
    mean = functools.partial(jnp.mean, axis=(1, -1), keepdims=False)
    model = jd.nn.serial(
        part=jd.nn.get_item((2, 100), (None, 3, 2)),
        gelu=jd.nn.activation(jax.nn.gelu),
        abs=jd.nn.activation(jnp.abs),
        hidden=jd.nn.dense(3),
        mean=jd.nn.lambda_(mean),
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4)), jnp.float32)
    params, state = model.init(KEY, x)
    jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
    assert_same(jd.adapters.from_keras(tmp_path / "m.keras"), (model, params, state))


NOT_WRITTEN = [
    (jd.nn.serial(a=jd.nn.swish()), "a: is a swish, which Keras does not have"),
    (jd.nn.serial(a=jd.nn.dense(2, activation=jnp.sin)), "a: has the function .* Keras has no name"),
    (
        jd.nn.serial(a=jd.nn.lambda_(functools.partial(jnp.mean, axis=0, keepdims=True))),
        r"a: has the function .*axis=0.* are written those over axes other than the batch's",
    ),
    (
        jd.nn.serial(a=jd.nn.lambda_(lambda x: x[:, :1])),
        r"a: has the function <function .*, which is not written; .*jaxdeep\.nn\.get_item for slices",
    ),
    (jd.nn.serial(a=jd.nn.lambda_(jnp.sin)), "a: has the function .*sin.*, which is not written"),
    (jd.nn.mixed_precision(jd.nn.dense(2)), "computes in bfloat16"),
    (jd.nn.serial(a=jd.nn.batch_norm(unbiased_running_var=True)), "a: has unbiased_running_var=True"),
    (jd.nn.serial(b=jd.nn.serial(a=jd.nn.rescale(1.0, low=0.0))), "b/a: has low=0.0"),
]


@pytest.mark.parametrize(("model", "message"), NOT_WRITTEN)
def test_what_keras_does_not_have_is_refused_by_its_path(model, message, tmp_path):
    x = jnp.ones((2, 3))
    params, state = model.init(KEY, x)
    with pytest.raises(ValueError, match=message):
        jd.adapters.to_keras(model, params, state, tmp_path / "m.keras", x)
    assert not list(tmp_path.iterdir())


def test_other_faults_of_writing_are_said(tmp_path):
    model = jd.nn.dense(2)
    params, state = model.init(KEY, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"path must end in \.keras"):
        jd.adapters.to_keras(model, params, state, tmp_path / "m.h5", jnp.ones((1, 3)))
    with pytest.raises(TypeError, match=r"^path must be a path, got Array"):
        jd.adapters.to_keras(model, params, state, jnp.ones((1, 3)), tmp_path / "m.keras")
    with pytest.raises(TypeError, match=r"^weights must be a path, got 3"):
        jd.adapters.from_keras(tmp_path / "config.json", weights=3)
    with pytest.raises(TypeError, match="must be a Model"):
        jd.adapters.to_keras(3, params, state, tmp_path / "m.keras", jnp.ones((1, 3)))
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    with pytest.raises(ValueError, match="of bfloat16, and float32 is written"):
        jd.adapters.to_keras(model, half, state, tmp_path / "m.keras", jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="params/kernel has shape"):
        jd.adapters.to_keras(
            model, {**params, "kernel": jnp.ones((3, 5))}, state, tmp_path / "m.keras", 0
        )


@pytest.mark.heavy
def test_further_tools_take_a_graph_that_was_read(recorded, tmp_path):
    model, params, state = read("image")
    x = part(recorded, "image", "x")
    y = part(recorded, "image", "y")
    with pytest.raises(
        ValueError, match=r"cannot fold norm: .*zeros are padded in front"
    ):  # behind a ReLU
        jd.compress.fold_batch_norm(model, params, state)
    small = jd.compress.quantize(model, params, state)
    assert small[1]["conv"]["kernel"].dtype == jnp.int8
    assert small[1]["separable"]["pointwise"]["kernel"].dtype == jnp.int8
    jd.compress.export(tmp_path / "m.jax", model, params, state, x[:1])
    run = jd.compress.load_exported(tmp_path / "m.jax")
    np.testing.assert_allclose(run(x), y, rtol=1e-5, atol=1e-5)
    draw = functools.partial(jd.uncertainty.mc_dropout, model, params, state, x, key=0, samples=8)
    whole, chunked = draw(from_logits=True), draw(from_logits=True, batch_size=2)
    assert float(whole.std.max()) > 0
    np.testing.assert_allclose(chunked.std, whole.std, rtol=1e-4, atol=1e-6)  # the same masks


# --- descriptions that are not built as Keras builds them -----------------------------------------


def twin(own):
    own["layers"][2]["name"] = own["layers"][2]["config"]["name"] = own["layers"][1]["config"]["name"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("table", lambda own: own.pop("layers"), r"Sequential '\w+' must have a list of layers"),
        ("table", lambda own: own["layers"].insert(1, 3), r"layer 1 of .* must be an object, got 3"),
        ("table", lambda own: own["layers"][2].pop("config"), r"layer 2 of .* must have its arguments"),
        ("table", lambda own: own["layers"][2].pop("class_name"), r"layer 2 of .* the name of a class"),
        ("table", twin, r"two layers of Sequential '\w+' have the name 'scaled'"),
        ("wired", twin, r"two layers of Functional 'wired' have the name"),
        (
            "wired",
            lambda own: own.update(output_layers=[["nowhere", 0, 0]]),
            r"output_layers of Functional 'wired' names 'nowhere', and the layers are add",
        ),
        ("wired", lambda own: own.update(output_layers=[]), r"must have a list of tensors"),
        (
            "wired",
            lambda own: own.update(output_layers=[["last", 7, 0]]),
            r"call 7 of layer 'last' is taken, and is not there",
        ),
        (
            "wired",
            lambda own: own["layers"][-1].update(inbound_nodes=3),
            r"inbound_nodes of layer 'last'",
        ),
        ("wired", lambda own: own["layers"][-1].update(inbound_nodes=[3]), r"a call of layer 'last'"),
    ],
)
def test_a_damaged_description_is_refused_by_the_layer(name, change, message, tmp_path):
    with pytest.raises(ValueError, match=rf"^source: config\.json: .*{message}"):
        jd.adapters.from_keras(described(tmp_path, lambda config: change(config["config"]), name))


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["table", "wired", "words"])
def test_no_damage_ends_in_an_error_of_python(name):
    """At any place of a description: what was there is gone, or something else."""
    rng = np.random.default_rng(0)
    archive = jd.adapters.keras_models.archive.opened(FIXTURES / f"{name}.keras", None)
    refused = 0
    for _ in range(200):
        config = json.loads(json.dumps(archive.config))
        places = list(places_in(config["config"]))
        node, key = places[rng.integers(len(places))]
        node[key] = [3, None, [], {}, "x", [3], {"a": 1}][rng.integers(7)]
        if rng.random() < 0.2:
            del node[key]
        try:
            jd.adapters.keras_models.reading._translated(archive._replace(config=config))
        except ValueError:
            refused += 1
    assert refused > 20


def places_in(node):
    inside = node.items() if isinstance(node, dict) else enumerate(node)
    for key, below in inside:
        yield node, key
        if isinstance(below, (dict, list)):
            yield from places_in(below)
