"""The command export: what train, compare and jd.save wrote, as one file."""

import importlib.util
import json

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.__main__ import main

nn = jd.nn
ROWS = {
    "age": [20.0, 30.0, None, 50.0, 60.0, 41.0],
    "city": ["Rome", "Oslo", "Bonn", None, "Rome", "Oslo"],
    "income": ["low", "high", "high", "low", "low", "high"],
}
FORMS = [
    "stablehlo",
    pytest.param(
        "onnx",
        marks=[
            pytest.mark.heavy,
            pytest.mark.skipif(
                importlib.util.find_spec("jax2onnx") is None, reason="needs the extra `onnx`"
            ),
        ],
    ),
]


def export(capsys, *arguments):
    status = main(["export", *map(str, arguments), "--no-cache"])
    return status, capsys.readouterr().out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["export", *map(str, arguments), "--no-cache"])
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


@pytest.fixture
def of_a_table(tmp_path):
    """A folder as train writes it."""
    columns = jd.tables.fit(ROWS, "income")
    model = nn.serial(columns=columns.layer(), out=nn.dense(1))
    params, state = model.init(jax.random.key(0), columns.encode_inputs(ROWS))
    jd.save(tmp_path / "people", model, params, state)
    return tmp_path / "people", columns, (model, params, state)


@pytest.fixture
def of_images(tmp_path):
    model = nn.serial(flatten=nn.flatten(), logits=nn.dense(10))
    x = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    params, state = model.init(jax.random.key(0), x)
    jd.save(tmp_path / "winner" / "model", model, params, state)
    return tmp_path / "winner", x, model.apply(params, state, x)[0]


def run(form, file, x):
    if form == "stablehlo":
        return jd.compress.load_exported(file)(x)
    import onnxruntime

    feed = x if isinstance(x, dict) else {"x": x}
    return onnxruntime.InferenceSession(file).run(None, feed)[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_table_s_model_goes_out_with_what_encodes_its_rows(capsys, of_a_table, form):
    folder, _, variables = of_a_table
    status, said = export(capsys, folder, "--form", form)
    file = folder / {"stablehlo": "model.jax", "onnx": "model.onnx"}[form]
    assert status == 0
    assert f"wrote {file}" in said
    assert "inputs.json" in said
    again = jd.tables.from_json((folder / "inputs.json").read_text())  # all that a server needs
    y = run(form, file, again.encode_inputs(ROWS))
    np.testing.assert_allclose(y, jd.predict(*variables, ROWS), rtol=1e-5, atol=1e-6)
    assert str(file) in refused(capsys, folder, "--form", form)  # which would overwrite it
    assert jd.load(folder)[0] == variables[0]


@pytest.mark.parametrize("form", FORMS)
def test_rows_may_be_those_of_a_file(capsys, tmp_path, of_a_table, form):
    folder, columns, _ = of_a_table
    (tmp_path / "new.csv").write_text("city,age\nRome,3\nOslo,\n")
    out = tmp_path / "out.bin"
    assert export(capsys, folder, "--form", form, "--data", tmp_path / "new.csv", "--out", out)[0] == 0
    assert run(form, out, columns.encode_inputs(ROWS)).shape == (6, 1)


@pytest.mark.parametrize("form", FORMS)
def test_the_winner_of_a_comparison_has_the_inputs_that_were_asked_for(
    capsys, tmp_path, of_images, form
):
    folder, x, y = of_images
    (folder / "runs").mkdir()
    (folder / "runs" / "asked.json").write_text(json.dumps({"data": "digits"}))
    out = tmp_path / "winner.bin"
    assert export(capsys, folder, "--form", form, "--out", out)[0] == 0
    np.testing.assert_allclose(run(form, out, x), y, rtol=1e-4, atol=1e-5)


def test_other_models_need_to_be_told_their_inputs(capsys, tmp_path, of_images):
    folder, x, y = of_images
    assert "say what the model's inputs are with --input" in refused(capsys, folder / "model")
    out = tmp_path / "fixed"
    arguments = ("--input", "8,8", "--batch-size", "3", "--out", out)
    assert export(capsys, folder / "model", *arguments)[0] == 0
    np.testing.assert_allclose(run("stablehlo", out, x), y, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"(?i)shape|dimension"):
        run("stablehlo", out, x[:2])


@pytest.mark.heavy
def test_what_is_wrong_is_said_in_a_line(capsys, tmp_path, of_a_table, of_images):
    folder, winner = of_a_table[0], of_images[0]
    for arguments, words in (
        ((tmp_path / "nothing",), "argument DIR: there is no folder '"),
        ((folder, "--form", "tflite"), "argument --form: must be one of stablehlo, onnx, got 'tflite'"),
        ((folder, "--input", "3"), "argument --input: is for arrays"),
        ((folder, "--input", "3", "--data", "x.csv"), "argument --input: says what --data says too"),
        ((folder, "--dtype", "int32"), "argument --dtype: goes with --input"),
        ((folder, "--data", "no.csv"), "argument --data: there is no file 'no.csv'"),
        ((winner, "--data", "no.csv"), "argument --data: must be digits"),
        ((winner, "--input", "5"), "initialised for 64 features"),
        ((folder, "--out", tmp_path / "no" / "file"), "argument --out: "),
    ):
        assert words in refused(capsys, *arguments)
    (folder / "inputs.json").write_text("{}")
    assert "inputs.json beside it is of another model" in refused(capsys, folder)
    assert not list(tmp_path.glob("*.jax"))
