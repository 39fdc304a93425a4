"""Models in files that run without jaxdeep."""

import functools
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compressed import dense, draw, network, nn, norm, relative, relu, trained

import jaxdeep as jd

EXPORTED = {
    "dense": (nn.serial(norm(), nn.dropout(0.5), network()), (5, 6)),
    "convolutions": (
        nn.serial(
            nn.conv(4, 3, activation=jax.nn.relu),
            nn.max_pool(2),
            nn.conv(4, 3, groups=2),
            nn.average_pool(2, padding="SAME"),
            nn.reshape(-1, 4),
            nn.flatten(),
            dense(3),
        ),
        (3, 8, 8, 1),
    ),
    "loops": (nn.serial(nn.repeat(nn.serial(dense(6), norm(), relu), 3), nn.residual(dense(6))), (5, 6)),
    "bfloat16": (nn.mixed_precision(network()), (5, 6)),
}


@pytest.fixture
def flatbuffers():
    return pytest.importorskip("flatbuffers")


def scaled_and_filled():
    """A network that begins with fitted preprocessors, and inputs with holes."""
    x = np.where(np.random.default_rng(0).random((9, 3)) < 0.3, np.nan, draw(9, 3)).astype(np.float32)
    fill, scale = jd.preprocessing.imputer(indicators="all"), jd.preprocessing.robust_scaler(clip=3.0)
    holes = fill.fit(x)
    scaled = scale.fit(fill.transform(holes, x))
    fitted = jd.preprocessing.fitted
    return nn.serial(fitted(fill, holes), fitted(scale, scaled), network()), x


def of_codes():
    """A network on one-hot columns of codes."""
    rows = {"a": ["u", "v", None, "w"], "b": [1, 2, 1, 2]}
    encoder = jd.preprocessing.one_hot_encoder()
    fitted = encoder.fit(rows)
    return nn.serial(jd.preprocessing.fitted(encoder, fitted), dense(2)), encoder.codes(fitted, rows)


ROWS = {
    "age": [None if i % 7 == 0 else 1.5 * i for i in range(40)],
    "city": [f"city {i % 12}" for i in range(40)],
    "day": [f"2020-01-{1 + i % 28:02d}" for i in range(40)],
    "sex": ["m" if i % 2 else "f" for i in range(40)],
}


def of_a_table():
    """A network on the columns of a table."""
    columns = jd.tables.fit(ROWS)
    return nn.serial(columns=columns.layer(), out=dense(2)), columns.encode_inputs(ROWS)


@pytest.mark.few("codes")
@pytest.mark.parametrize(
    "made", [of_a_table, scaled_and_filled, of_codes], ids=["table", "numbers", "codes"]
)
def test_what_prepares_the_inputs_is_exported_with_the_model(flatbuffers, tmp_path, made):
    model, x = made()
    params, state = model.init(jax.random.key(0), x)
    jd.compress.export(tmp_path / "model.jax", model, params, state, x)
    y = jd.predict(model, params, state, x)
    predict = jd.compress.load_exported(tmp_path / "model.jax")
    for rows in (1, len(y)):
        part = jax.tree.map(lambda a, rows=rows: a[:rows], x)
        np.testing.assert_allclose(predict(part), y[:rows], rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_a_table_s_model_runs_without_jaxdeep(flatbuffers, tmp_path):
    model, x = of_a_table()
    params, state = model.init(jax.random.key(0), x)
    jd.compress.export(tmp_path / "model.jax", model, params, state, ROWS)  # raw rows are an example
    np.savez(tmp_path / "x.npz", **x)
    np.save(tmp_path / "y.npy", jd.predict(model, params, state, ROWS))
    code = (
        "import sys, numpy as np, jax.export\n"
        "run = jax.export.deserialize(bytearray(open('model.jax', 'rb').read())).call\n"
        "y = run(dict(np.load('x.npz')))\n"
        "np.testing.assert_allclose(y, np.load('y.npy'), rtol=1e-5, atol=1e-6)\n"
        "assert 'jaxdeep' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)


@pytest.mark.heavy
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_model_takes_any_number_of_rows(flatbuffers, tmp_path, name):
    model, shape = EXPORTED[name]
    params, state = trained(model, draw(*shape))
    path = tmp_path / "model.jax"
    like = jax.ShapeDtypeStruct(shape, jnp.float32)
    exported = jd.compress.export(path, model, params, state, like, platforms=("cpu", "cuda", "tpu"))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    predict = jd.compress.load_exported(path)
    for rows in (1, 7):
        x = draw(rows, *shape[1:])
        assert relative(predict(x), jax.jit(model.apply)(params, state, x)[0]) < 1e-6
    plain = jax.export.deserialize(bytearray(path.read_bytes()))
    np.testing.assert_array_equal(plain.call(x), predict(x))
    assert path.stat().st_size > jd.compress.size_bytes(params, state)
    assert list(tmp_path.iterdir()) == [path]


def test_other_platforms_are_lowered_without_the_device(flatbuffers, tmp_path):
    model, x = network(), draw(5, 6)
    params, state = trained(model, x)
    for platform in ("cuda", "tpu"):
        jd.compress.export(tmp_path / platform, model, params, state, x, platforms=(platform,))
        again = jax.export.deserialize(bytearray((tmp_path / platform).read_bytes()))
        assert again.platforms == (platform,)
        assert "stablehlo.dot_general" in again.mlir_module()
        with pytest.raises(ValueError, match=f"(?i){platform}"):
            jd.compress.load_exported(tmp_path / platform)(x)


@pytest.mark.heavy
def test_an_exported_file_runs_without_jaxdeep(flatbuffers, tmp_path):
    model, x = nn.serial(nn.conv(4, 3), norm(), nn.max_pool(), nn.flatten(), dense(3)), draw(6, 8, 8, 1)
    params, state = trained(model, x)
    jd.compress.export(tmp_path / "model", model, params, state, x[:1])
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, jax.export\n"
        "with open('model', 'rb') as file:\n"
        "    y = jax.export.deserialize(bytearray(file.read())).call(numpy.load('x.npy'))\n"
        "numpy.save('y.npy', y)\n"
        "print('jaxdeep' in sys.modules, 'optax' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", code]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
    assert relative(np.load(tmp_path / "y.npy"), model.apply(params, state, x)[0]) < 1e-6


def test_int8_weights_stay_small_in_the_file(flatbuffers, tmp_path):
    model, x = nn.serial(out=dense(100)), draw(5, 64)
    params, state = trained(model, x)
    small = jd.compress.quantize(model, params, state)
    for name, values in (("whole", (model, params, state)), ("small", small)):
        jd.compress.export(tmp_path / name, *values, x)
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    saved = jd.compress.size_bytes(params) - jd.compress.size_bytes(small[1])
    assert sizes["whole"] - sizes["small"] > 0.8 * saved > 10_000
    y = jd.compress.load_exported(tmp_path / "small")(x)
    assert relative(y, small[0].apply(small[1], state, x)[0]) < 1e-5


def test_dicts_of_inputs_and_a_fixed_number_of_rows(flatbuffers, tmp_path):
    model = nn.concatenate(a=nn.select("a"), b=nn.serial(nn.select("b"), dense(2)))
    x = {"a": draw(4, 3), "b": draw(4, 5)}
    params, state = trained(model, x)
    jd.compress.export(tmp_path / "model", model, params, state, x)
    predict = jd.compress.load_exported(tmp_path / "model")
    assert predict(jax.tree.map(lambda a: a[:3], x)).shape == (3, 5)
    total = nn.lambda_(lambda x: x / x.shape[0] if x.shape[0] > 3 else x)
    counting = nn.serial(nn.lambda_(lambda x: x.reshape(len(x), -1)))  # a module that asks how many rows
    with pytest.raises(ValueError, match="batch_size="):
        jd.compress.export(tmp_path / "counting", counting, {}, {}, draw(4, 3))
    jd.compress.export(tmp_path / "counting", counting, {}, {}, draw(4, 3), batch_size=4)
    with pytest.raises(ValueError, match="batch_size="):
        jd.compress.export(tmp_path / "total", total, {}, {}, draw(4, 3))
    jd.compress.export(tmp_path / "total", total, {}, {}, draw(4, 3), batch_size=4)
    fixed = jd.compress.load_exported(tmp_path / "total")
    np.testing.assert_allclose(fixed(x["a"]), x["a"] / 4)
    with pytest.raises(ValueError, match="shape"):
        fixed(x["a"][:2])


def test_files_that_are_not_whole_are_refused(flatbuffers, tmp_path):
    model, x = nn.serial(out=dense(3)), draw(5, 6)
    path, load = tmp_path / "model", jd.compress.load_exported
    jd.compress.export(path, model, *trained(model, x), x)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content, reason in {
        b"": "truncated, or not a file",
        b"PK\x03\x04 something else" * 50: "truncated, or not a file",
        whole[:-1]: "truncated, or not a file",
        whole[:middle]: "truncated, or not a file",
        flipped: "damaged",
        whole[1:]: "damaged",
        whole[-48:]: "damaged",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "other")


def test_where_export_writes(flatbuffers, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = nn.dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    write = lambda path: jd.compress.export(path, model, params, state, jnp.ones((1, 3)))  # noqa: E731
    write("~/model")
    assert (tmp_path / "model").is_file()
    assert jd.compress.load_exported("~/model")(jnp.ones((5, 3))).shape == (5, 2)
    with pytest.raises(IsADirectoryError, match="path must be a file, got the directory"):
        write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"path could not be written .* a folder that is there"):
        write(tmp_path / "nowhere" / "model")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"path could not be written \(No space left.* has room for it"):
        write("~/model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_arguments_of_export(flatbuffers, tmp_path, monkeypatch):
    model, x = network(), draw(5, 6)
    params, state = trained(model, x)
    export = functools.partial(jd.compress.export, tmp_path / "model", model, params, state)
    for platforms in ("cpu", (), ("gpu",)):
        with pytest.raises(ValueError, match="platforms"):
            export(x, platforms=platforms)
    with pytest.raises(ValueError, match="rows first"):
        export(jnp.float32(1))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        export(x, batch_size=0)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda p: jd.compress.export(tmp_path / "m", model, p, state, x))(params)
    with pytest.raises(ValueError, match="6 features"):
        export(draw(5, 7))
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ImportError, match=r"jaxdeep\[export\]"):
        export(x)
    assert not list(tmp_path.iterdir())


def test_an_exported_model_takes_what_predict_takes(tmp_path):
    pd = pytest.importorskip("pandas")
    model, x = jd.nn.dense(2), np.arange(12.0, dtype=np.float32).reshape(4, 3)
    params, state = model.init(jax.random.key(0), x)
    jd.compress.export(tmp_path / "m", model, params, state, x[:1])
    call = jd.compress.load_exported(tmp_path / "m")
    expected = jd.predict(model, params, state, x)
    for given in (x, pd.DataFrame(x), pd.DataFrame(x).astype("Int64"), x.tolist(), x.astype(int)):
        np.testing.assert_allclose(call(given), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(call)(x), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"x must have the structure that was exported, float32\["):
        call({"x": x})
    with pytest.raises(TypeError, match="x must be an array"):
        call([["a", "b", "c"]])
