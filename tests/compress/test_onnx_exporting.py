"""Models as ONNX files: each layer, beside JAX in ONNX Runtime, and what is refused by name."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compressed import dense, draw, network, nn, norm, relu, trained

import jaxdeep as jd

here = importlib.util.find_spec("jax2onnx") is not None
runs = pytest.mark.skipif(not here, reason="needs the extra `onnx`")
IMAGES, NUMBERS, IDS = (9, 8, 3), (6,), (5,)

# What becomes of each primitive that layers are made of.
LAYERS = {
    "dense": (dense(4), NUMBERS),
    "dense of sequences": (dense(4, use_bias=False), (10, 3)),
    "ntk_dense": (nn.ntk_dense(4), NUMBERS),
    "scaling": (nn.scaling(), NUMBERS),
    "bounded": (nn.bounded(0.0, 5.0), NUMBERS),
    "rescale": (nn.rescale(1 / 255, -0.5), IMAGES),
    "embedding": (nn.embedding(11, 3), IDS),
    "conv": (nn.conv(4, 3, activation=jax.nn.relu), IMAGES),
    "conv with strides": (nn.conv(4, 3, strides=2), IMAGES),
    "conv without padding": (nn.conv(4, (3, 2), padding="VALID", use_bias=False), IMAGES),
    "conv in groups": (nn.conv(6, 3, groups=3), IMAGES),
    "conv with holes": (nn.conv(4, 3, dilation=2), IMAGES),
    "conv of sequences": (nn.conv(4, 3), (10, 3)),
    "max_pool": (nn.max_pool(2), IMAGES),
    "max_pool that overlaps": (nn.max_pool(3, strides=(2, 1), padding="SAME"), IMAGES),
    "max_pool of sequences": (nn.max_pool(2), (10, 3)),
    "max_pool of volumes": (nn.max_pool(2), (4, 6, 4, 2)),
    "max_pool in a loop": (nn.repeat(nn.max_pool(3, strides=1, padding="SAME"), 3), IMAGES),
    "average_pool": (nn.average_pool(2), IMAGES),
    "average_pool that overlaps": (nn.average_pool(3, strides=2, padding="SAME"), IMAGES),
    "global pools": (
        nn.concatenate(largest=nn.global_max_pool(), mean=nn.global_average_pool()),
        IMAGES,
    ),
    "batch_norm": (norm(), IMAGES),
    "layer_norm": (nn.layer_norm(), NUMBERS),
    "group_norm": (nn.group_norm(3), IMAGES),
    "prelu": (nn.prelu(), NUMBERS),
    "swish": (nn.swish(), NUMBERS),
    "dropouts that are off": (
        nn.serial(nn.dropout(0.5), nn.alpha_dropout(0.1), nn.gaussian_noise(0.1), nn.rrelu()),
        NUMBERS,
    ),
    "reshape": (nn.serial(nn.reshape(-1, 3), nn.flatten()), IMAGES),
    "resize": (nn.resize(5, 5), IMAGES),
    "a loop": (nn.repeat(nn.residual(nn.serial(dense(6), norm(), relu)), 3), NUMBERS),
    "several outputs": (nn.parallel(main=dense(2), other=nn.serial(dense(3), relu)), NUMBERS),
    "convolutions": (
        nn.serial(nn.conv(4, 3), norm(), relu, nn.max_pool(2), nn.flatten(), dense(3)),
        IMAGES,
    ),
}
ACTIVATIONS = [
    name
    for name in jd.nn.activations.__all__
    if name not in ("prelu", "rrelu")  # of more than one argument, or random; layers of their own
]


def rows_of(shape, n, dtype):
    if jnp.issubdtype(dtype, jnp.integer):
        return np.random.default_rng(n).integers(0, 10, (n, *shape)).astype(dtype)
    return np.random.default_rng(n).normal(size=(n, *shape)).astype(dtype)


def run(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = x if isinstance(x, dict) else {"x": x}
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feed)))


def check(path, model, params, state, shape, dtype=jnp.float32, tolerance=1e-5):
    """The file gives what the model does, for numbers of rows and values that exporting has not seen."""
    like = jax.ShapeDtypeStruct((2, *shape), dtype)
    jd.compress.export_onnx(path, model, params, state, like)
    for n in (1, 7):
        x = rows_of(shape, n, dtype)
        y = model.apply(params, state, x)[0]
        wanted = y if isinstance(y, dict) else {"y": y}
        given = run(path, x)
        assert given.keys() == wanted.keys()
        for name, value in wanted.items():
            assert given[name].dtype == value.dtype
            assert given[name].shape == value.shape
            scale = float(jnp.abs(value).max())
            np.testing.assert_allclose(given[name], value, rtol=0, atol=tolerance * scale)


@runs
@pytest.mark.heavy  # jax2onnx alone takes seconds to import
@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_gives_the_same_in_onnx_runtime(tmp_path, name):
    model, shape = LAYERS[name]
    dtype = jnp.int32 if shape == IDS else jnp.float32
    params, state = trained(model, jax.ShapeDtypeStruct((2, *shape), dtype))
    check(tmp_path / "model.onnx", model, params, state, shape, dtype)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@runs
@pytest.mark.heavy
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_gives_the_same_in_onnx_runtime(tmp_path, name):
    check(tmp_path / "a", nn.activation(getattr(jd.nn.activations, name)), {}, {}, NUMBERS)


@runs
@pytest.mark.heavy
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (network(), NUMBERS),
        (nn.serial(nn.conv(4, 3), relu, nn.flatten(), dense(3)), IMAGES),
        (nn.serial(nn.embedding(11, 3), nn.flatten(), dense(2)), IDS),
    ],
    ids=["dense", "conv", "embedding"],
)
def test_int8_weights_stay_so_in_the_file(tmp_path, model, shape):
    dtype = jnp.int32 if shape == IDS else jnp.float32
    params, state = trained(model, jax.ShapeDtypeStruct((2, *shape), dtype))
    small = jd.compress.quantize(model, params, state)
    check(tmp_path / "small", *small, shape, dtype)
    import onnx

    kinds = [tensor.data_type for tensor in onnx.load(tmp_path / "small").graph.initializer]
    assert onnx.TensorProto.INT8 in kinds


@runs
@pytest.mark.heavy
def test_a_folded_network_and_double_precision(tmp_path):
    from jaxdeep._compat import enable_x64

    model = nn.serial(dense(5), norm(), relu, dense(3))
    params, state = trained(model, draw(2, 6))
    folded = jd.compress.fold_batch_norm(model, params, state)
    check(tmp_path / "folded", *folded, NUMBERS)
    with enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, state))
        check(tmp_path / "wide", model, *wide, NUMBERS, jnp.float64, 1e-12)


@runs
@pytest.mark.heavy
def test_a_table_s_model_takes_encoded_rows_and_is_compared_on_raw_ones(tmp_path):
    rows = {"age": [20, 30, None, 50, 60], "city": ["Rome", "Oslo", "Bonn", None, "Rome"]}
    columns = jd.tables.fit(rows)
    model = nn.serial(columns=columns.layer(), out=dense(2))
    x = columns.encode_inputs(rows)
    params, state = model.init(jax.random.key(0), x)
    jd.compress.export_onnx(tmp_path / "m", model, params, state, rows)
    np.testing.assert_allclose(
        run(tmp_path / "m", x)["y"], jd.predict(model, params, state, rows), rtol=1e-5, atol=1e-6
    )


@runs
@pytest.mark.heavy
def test_a_fixed_number_of_rows_and_an_operator_set(tmp_path):
    model = network()
    params, state = trained(model, draw(2, 6))
    proto = jd.compress.export_onnx(
        tmp_path / "m", model, params, state, draw(2, 6), batch_size=4, opset=21
    )
    sizes = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [4, 6]
    assert [imported.version for imported in proto.opset_import if not imported.domain] == [21]


@runs
@pytest.mark.heavy
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_of_a_fixed_number_of_rows_are_convolutions(tmp_path, groups):
    model, x = nn.repeat(nn.conv(4, 3, groups=groups), 2), draw(2, 6, 6, 4)
    model = nn.serial(first=nn.conv(4, 3, groups=groups), others=model)
    params, state = model.init(jax.random.key(0), x)
    proto = jd.compress.export_onnx(tmp_path / "m", model, params, state, x, batch_size=4)
    assert "Conv" in [node.op_type for node in proto.graph.node]


@runs
@pytest.mark.heavy
def test_what_cannot_be_exported_is_refused_by_the_layer_s_path(tmp_path):
    volumes = nn.serial(front=nn.activation(jax.nn.relu), block=nn.serial(deep=nn.conv(4, (3, 3, 3))))
    x = draw(2, 4, 4, 4, 1)
    params, state = trained(volumes, x)
    with pytest.raises(ValueError, match=r"layer block/deep \(conv\(.*jax2onnx cannot write it"):
        jd.compress.export_onnx(tmp_path / "m", volumes, params, state, x)
    low = nn.mixed_precision(nn.serial(a=dense(4), b=dense(2)))
    params, state = trained(low, draw(2, 6))
    with pytest.raises(ValueError, match=r"layer a \(dense\(.*ONNX Runtime cannot run it"):
        jd.compress.export_onnx(tmp_path / "m", low, params, state, draw(2, 6))
    assert not list(tmp_path.iterdir())


@runs
@pytest.mark.heavy
def test_outputs_that_differ_are_refused(tmp_path, monkeypatch):
    """As if jax2onnx wrote another function: a file whose weights were changed on the way."""
    import onnx

    from jaxdeep.compress import onnx_exporting

    def damaged(graph):
        for tensor in graph.initializer:
            if len(tensor.dims) == 2:
                values = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    monkeypatch.setattr(onnx_exporting, "_pool_over_space", damaged)
    model = nn.serial(relu=relu, out=dense(3))
    params, state = trained(model, draw(2, 6))
    with pytest.raises(ValueError, match=r"layer out \(dense\(.*ONNX Runtime gives .* for y\[.*JAX"):
        jd.compress.export_onnx(tmp_path / "m", model, params, state, draw(2, 6))
    assert not list(tmp_path.iterdir())
    jd.compress.export_onnx(tmp_path / "m", model, params, state, draw(2, 6), tolerance=0.1)


@pytest.mark.skipif(here, reason="jax2onnx is installed")
def test_without_jax2onnx_it_says_what_to_install(tmp_path):
    model = network()
    params, state = trained(model, draw(2, 6))
    with pytest.raises(ImportError, match=r"export_onnx needs jax2onnx: pip install 'jaxdeep\[onnx\]'"):
        jd.compress.export_onnx(tmp_path / "m", model, params, state, draw(2, 6))


def test_arguments_are_checked_first(tmp_path, monkeypatch):
    from jaxdeep.compress import onnx_exporting

    monkeypatch.setattr(onnx_exporting, "needed", lambda *names: None)
    model = network()
    params, state = trained(model, draw(2, 6))
    for wrong, words in (
        ({"opset": 0}, "opset must be"),
        ({"tolerance": 0.0}, "tolerance must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"x": jnp.ones(())}, "x must be arrays with the rows first"),
        ({"params": {}}, "params"),
    ):
        given = {"model": model, "params": params, "state": state, "x": draw(2, 6)} | wrong
        with pytest.raises((ValueError, TypeError), match=words):
            jd.compress.export_onnx(tmp_path / "m", **given)
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        jd.compress.export_onnx(tmp_path, model, params, state, draw(2, 6))
