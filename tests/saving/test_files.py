"""Saved models on disk: whole after a crash, and never a damaged, foreign or unfitting one."""

import functools
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import jaxdeep as jd
from jaxdeep._compat import enable_x64
from jaxdeep.nn.model import Model
from jaxdeep.saving import writing

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 8))
nn = jd.nn
ROOT = pathlib.Path(__file__).parents[2]


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


@jd.saving.register("test_saving_files.anything")
def anything():
    """A model whose parameters and state may be anything."""
    kind = "test_saving_files.anything"
    return Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s), kind)


# --- parameters and state -------------------------------------------------------------------------


@functools.cache
def network():
    model = nn.serial(
        h=nn.dense(3, activation=jax.nn.relu),
        bn=nn.batch_norm(),
        r=nn.repeat(nn.dense(3), 2),
        c=nn.reshape(3, 1),
        k=nn.conv(2, 2),
        p=nn.prelu(),
    )
    return model, *jax.jit(model.init)(KEY, X)


def test_arrays_in_other_orders_on_other_devices_and_of_numpy(tmp_path):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    params = {
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "strided": np.arange(10, dtype=np.int32)[::-2],
        "sharded": jax.device_put(jnp.arange(16.0), jax.NamedSharding(mesh, jax.P("d"))),
        "transposed": jax.random.normal(KEY, (4, 3)).T,
        "number": 3,
        "scalar": jnp.float32(2),
    }
    jd.save(tmp_path / "m", anything(), params, {})
    found = jd.load(tmp_path / "m")[1]
    same(jax.tree.map(jnp.asarray, params), found)
    assert len(found["sharded"].devices()) == 1


def test_random_keys_of_every_kind(tmp_path):
    state = {kind: jax.random.split(jax.random.key(3, impl=kind), 2) for kind in jd.saving.trees._KEYS}
    jd.save(tmp_path / "m", anything(), {}, state)
    same(state, jd.load(tmp_path / "m")[2])


def test_float64_arrays_need_x64_and_say_so(tmp_path):
    model = nn.dense(2)
    wide = {"kernel": np.ones((8, 2)), "bias": np.zeros(2)}
    with pytest.raises(
        ValueError, match="params/kernel is float64, which JAX makes float32 as long as x64"
    ):
        jd.save(tmp_path / "m", model, wide, {})
    with enable_x64(True):
        params = jax.tree.map(jnp.asarray, wide)
        jd.save(tmp_path / "m", model, params, {})
        same(params, jd.load(tmp_path / "m")[1])
    with pytest.raises(ValueError, match=r"model.json': params/.* is float64.*before loading it, jax.c"):
        jd.load(tmp_path / "m")


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_cast_to_another_dtype_fit_the_model(tmp_path, dtype):
    model, params, state = network()
    cast = jax.tree.map(lambda a: a.astype(dtype), params)
    jd.save(tmp_path / "m", model, cast, state)
    same((cast, state), jd.load(tmp_path / "m")[1:])


@pytest.mark.heavy
def test_the_stacked_parameters_of_an_ensemble_fit_the_model(tmp_path):
    model = network()[0]
    params, state = jax.tree.map(lambda a: jnp.stack([a, 2 * a, 3 * a, 4 * a]), network()[1:])
    jd.save(tmp_path / "m", model, params, state)
    found, *again = jd.load(tmp_path / "m")
    same([params, state], again)
    assert jax.vmap(found.apply, (0, 0, None))(*again, X)[0].shape == (4, 6, 3, 2)


def changed(tree, path, value):
    """The tree with another entry at a path, or without it."""
    name, _, rest = path.partition("/")
    if rest:
        return tree | {name: changed(tree[name], rest, value)}
    return {n: a for n, a in tree.items() if n != name} if value is None else tree | {name: value}


@pytest.mark.parametrize(("root", "path", "value", "message"), [
    ("params", "h/kernel", jnp.ones((8, 4)), r"params/h/kernel has shape \(8, 4\).*needs \(8, 3\)"),
    ("params", "h/kernel", jnp.ones(3), r"has shape \(3,\), but dense.*needs \(3, 3\)"),
    ("params", "h/kernel", None, r"params or state/h lack 'kernel', which dense\(features=3"),
    ("params", "h/bias", None, "params/h/bias is missing; dense"),
    ("params", "h", None, "params or state/h lack 'kernel'"),
    ("params", "h/more", jnp.ones(3), "params/h/more is not part of dense"),
    ("params", "other", {"kernel": jnp.ones(3)}, "params/other is of no layer .* are h, bn, r, c, k, p"),
    ("params", "c", {"kernel": jnp.ones(3)}, "params/c/kernel is of no layer .* nothing is learnt"),
    ("params", "r/layer/bias", jnp.ones((3, 3)), r"params/r/layer/bias has shape \(3, 3\), but repeat"),
    ("params", "k/kernel", jnp.ones((3, 1, 2)), r"params/k/kernel has shape .* needs \(2, 1, 2\)"),
    ("params", "k/kernel", jnp.ones(2), "params or state/k do not fit conv"),
    ("params", "bn/scale", jnp.ones(4), r"params/bn/scale has shape \(4,\)"),
    ("params", "p", {}, "params or state/p lack 'alpha', which prelu"),
    ("state", "bn/var", None, "state/bn/var is missing"),
    ("state", "h", {"x": jnp.ones(1)}, "state/h/x is not part of dense"),
    ("state", "bn/mean", {"a": jnp.ones(3)}, "lack 'mean'"),
    ("params", "h/kernel", "text", "params/h/kernel is str, which cannot be saved"),
    ("params", "h/kernel", np.array(["a"]), "params/h/kernel is an array of <U1, which cannot"),
    ("params", "h/kernel", np.ones((8, 3), ">c8"), "params/h/kernel is an array of >c8, which cannot"),
])  # fmt: skip
def test_arrays_that_are_not_those_of_the_model_are_refused(tmp_path, root, path, value, message):
    model, params, state = network()
    trees = {"params": params, "state": state}
    trees[root] = changed(trees[root], path, value)
    with pytest.raises(ValueError, match=message):
        jd.save(tmp_path / "m", model, trees["params"], trees["state"])
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_a_loaded_model_goes_on_training(tmp_path):
    model = nn.serial(h=nn.dense(8, activation=jax.nn.relu), bn=nn.batch_norm(), out=nn.dense(3))
    params, state = model.init(KEY, X)
    labels = jnp.arange(6) % 3
    jd.save(tmp_path / "a", model, params, state)
    model, params, state = jd.load(tmp_path / "a")
    head = model.combine(dict(model.layers) | {"out": nn.dense(2)})
    params = params | {"out": head.init(KEY, X)[0]["out"]}
    result = jd.fit(
        head, (X, labels % 2), loss=jd.losses.softmax_cross_entropy, optimizer=optax.sgd(0.1), epochs=2,
        batch_size=3, params=params, state=state, key=KEY,
    )  # fmt: skip
    assert not np.array_equal(params["out"]["kernel"], result.params["out"]["kernel"])
    jd.save(tmp_path / "b", head, result.params, result.state)
    same((result.params, result.state), jd.load(tmp_path / "b")[1:])


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    jd.save(tmp_path / "m", *network())
    return tmp_path / "m"


def resealed(data):
    """A ``model.json`` with the checksum of what it says now."""
    head = data[: data.rindex(b',\n  "sha256"')]
    return head + f',\n  "sha256": "{hashlib.sha256(head).hexdigest()}"\n}}\n'.encode()


def test_a_saved_model_is_two_files_that_people_and_others_can_read(saved):
    assert sorted(p.name for p in saved.iterdir()) == ["arrays.safetensors", "model.json"]
    assert [p.name for p in saved.parent.iterdir()] == ["m"]
    about = json.loads((saved / "model.json").read_text())
    assert (about["format"], about["format_version"]) == ("jaxdeep-model", 1)
    assert about["architecture"]["layers"]["r"] == {
        "kind": "repeat", "config": {"times": 2},
        "layers": {"layer": {"kind": "dense", "config": {"features": 3}}},
    }  # fmt: skip
    assert about["params"]["h"] == {"kernel": "float32[8, 3]", "bias": "float32[3]"}
    read = load_file(saved / "arrays.safetensors")
    np.testing.assert_array_equal(read["params/h/kernel"], network()[1]["h"]["kernel"])
    assert about["arrays"]["sha256"] == hashlib.sha256(
        (saved / "arrays.safetensors").read_bytes()
    ).hexdigest()  # fmt: skip
    modes = {(saved / name).stat().st_mode for name in ("model.json", "arrays.safetensors")}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["model.json", "arrays.safetensors"])
def test_any_changed_byte_is_found(saved, name):
    sound = (saved / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in {0, len(sound) - 1, *rng.integers(0, len(sound), 150).tolist()}:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        (saved / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            jd.load(saved)
    (saved / name).write_bytes(sound)
    jd.load(saved)


@pytest.mark.parametrize("name", ["model.json", "arrays.safetensors"])
def test_a_file_cut_off_or_longer_is_found(saved, name):
    sound = (saved / name).read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(sound) // 2, len(sound) - 2, len(sound) - 1):
        (saved / name).write_bytes(sound[:length])
        with pytest.raises(ValueError, match=rf"{name}' (is damaged|was damaged|has {length} bytes)"):
            jd.load(saved)
    for more in (b"\0", b"\n", b" ", sound):
        (saved / name).write_bytes(sound + more)
        with pytest.raises(ValueError, match=name):
            jd.load(saved)
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        jd.load(saved)


@pytest.mark.parametrize(("old", "new", "message"), [
    (b'"format_version": 1', b'"format_version": 3', "version 3, written by jaxdeep .* install a"),
    (b'"format_version": 1', b'"format_version": 2', "fields of this format; look at 'format_version'"),
    (b'"format_version": 1', b'"format_version": 0', "fields of this format; look at 'format_version'"),
    (b'"format_version": 1', b'"format_version": true', "fields of this format|version"),
    (b'"jaxdeep-model"', b'"other-model"', "not of a model that jaxdeep saved"),
    (b'"state"', b'"stat"', "does not have the fields"),
    (b'"bytes"', b'"byte"', "does not have the fields"),
    (b'"features": 3', b'"features": -3', "layer h: dense cannot be made .* features must be at"),
    (b'"features": 3', b'"features": 4', r"params/h/kernel has shape|params/h/bias has shape"),
    (b'"features": 3', b'"features": "3"', "features must be a whole number"),
    (b'"features": 3', b'"unit": 3', "layer h: dense cannot be made of its config"),
    (b'"kind": "batch_norm"', b'"kind": "eval"', "layer bn: 'eval' is not registered in this process"),
    (b'"jax.nn.relu"', b'"os.system"', "layer h: activation: .* is not the name of a function"),
    (b'"jax.nn.relu"', b'"jax.nn.relux"', "layer h: activation: jax.nn has no function 'relux'"),
    (b'"kind": "dense"', b'"kind": "dense", "code": "1"', "layer h: a layer has kind, config"),
    (b'"float32[8, 3]"', b'"int8[8, 3]"', "params/h/kernel is float32.* there, and int8"),
    (b'"float32[8, 3]"', b'"float32[4, 3]"', r"is float32\[8, 3\] there, and float32\[4, 3\]"),
    (b'"float32[8, 3]"', b'"float32[-1, 3]"', "params/h/kernel is .* which does not describe an array"),
    (b'"float32[8, 3]"', b'"object[8, 3]"', "params/h/kernel is"),
    (b'"float32[8, 3]"', b'"key<evil>[8]"', "does not describe an array"),
    (b'"float32[8, 3]"', b'["set", 3]', "does not describe an array"),
    (b'"float32[8, 3]"', b'["dict", 3]', "does not describe a dict"),
    (b'"arrays": {', b'"arrays": {"file": "/etc/passwd", ', "does not have the fields"),
])  # fmt: skip
def test_a_file_tampered_with_is_refused_even_with_a_right_checksum(saved, old, new, message):
    file = saved / "model.json"
    sound = file.read_bytes()
    assert old in sound
    file.write_bytes(sound.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"model.json"):
        jd.load(saved)
    file.write_bytes(resealed(sound.replace(old, new, 1)))
    with pytest.raises(ValueError, match=message):
        jd.load(saved)


def test_json_as_deep_as_one_likes_is_refused(saved):
    file = saved / "model.json"
    sound = file.read_bytes()
    for depth in (600, 100_000):
        deep = b'{"kind": "serial", "layers": {"a": ' * depth + b'{"kind": "flatten"}' + b"}}" * depth
        first, _, rest = sound.partition(b'"architecture": ')
        rest = rest[rest.index(b',\n  "params"') :]
        file.write_bytes(resealed(first + b'"architecture": ' + deep + rest))
        try:  # Pythons differ in how deep they read: what is read has other layers than the arrays
            json.loads(deep)
            message = r"of no layer of the model"
        except RecursionError:
            message = r"model.json"
        with pytest.raises(ValueError, match=message):
            jd.load(saved)


def test_arrays_of_another_model_are_refused(saved, tmp_path):
    jd.save(tmp_path / "n", *network()[:1], *jax.tree.map(lambda a: a + 1, network()[1:]))
    os.replace(tmp_path / "n" / "arrays.safetensors", saved / "arrays.safetensors")
    with pytest.raises(ValueError, match=r"arrays.safetensors' was damaged or changed, or belongs to"):
        jd.load(saved)


def test_what_is_no_saved_model_is_said_to_be_none(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, error, message in [
        ("nothing", FileNotFoundError, "there is no saved model at .*nothing"),
        ("file", ValueError, "is a file; a saved model is a directory"),
        ("empty", FileNotFoundError, "there is no .*model.json"),
    ]:
        with pytest.raises(error, match=message):
            jd.load(tmp_path / name)
    for bad in (3, None, b"x", ""):
        with pytest.raises(TypeError, match="path must be"):
            jd.load(bad)


def test_a_model_is_replaced_and_nothing_else_is(saved, tmp_path):
    model, params, state = network()
    (saved / "notes.txt").write_text("mine")
    new = jax.tree.map(lambda a: a + 1, params)
    jd.save(saved, model, new, state)
    same(new, jd.load(saved)[1])
    assert sorted(p.name for p in saved.iterdir()) == ["arrays.safetensors", "model.json", "notes.txt"]

    for name in ("file", "other", "foreign"):
        place = tmp_path / name
        if name != "file":
            place.mkdir()
            place = place / ("model.json" if name == "foreign" else "data.txt")
        place.write_text("{}")
        with pytest.raises(FileExistsError, match=name):
            jd.save(tmp_path / name, model, params, state)
        assert place.read_text() == "{}"
    (tmp_path / "empty").mkdir()
    jd.save(str(tmp_path / "empty"), model, params, state)
    jd.save(tmp_path / "one" / "two" / "m", model, params, state)
    same(jd.load(tmp_path / "empty")[1:], jd.load(tmp_path / "one" / "two" / "m")[1:])


def test_a_damaged_model_can_be_saved_over(saved):
    (saved / "model.json").write_bytes((saved / "model.json").read_bytes()[:50])
    (saved / "arrays.safetensors").unlink()
    jd.save(saved, *network())
    same(network()[1:], jd.load(saved)[1:])


def test_a_link_to_a_model_stays_a_link(saved, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(saved)
    model, params, state = network()
    new = jax.tree.map(lambda a: a + 1, params)
    jd.save(link, model, new, state)
    assert link.is_symlink()
    same(new, jd.load(saved)[1])
    # a link in place of a file is replaced, not what it leads to
    (tmp_path / "elsewhere").write_bytes((saved / "model.json").read_bytes())
    before = (tmp_path / "elsewhere").read_bytes()
    (saved / "model.json").unlink()
    (saved / "model.json").symlink_to(tmp_path / "elsewhere")
    jd.save(saved, model, params, state)
    assert (tmp_path / "elsewhere").read_bytes() == before
    same(params, jd.load(saved)[1])


class Killed(BaseException):
    """What a process does not live to handle."""


def steps(monkeypatch, limit):
    """Let the process die at its file operation number `limit`, and count them."""
    done = []
    for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (writing, "digest_of")):
        real = getattr(module, name)

        def counted(*args, real=real):
            if limit is not None and len(done) >= limit:
                raise Killed
            done.append(real)
            return real(*args)

        monkeypatch.setattr(module, name, counted)
    # a process that is killed does not clean up
    monkeypatch.setattr(pathlib.Path, "unlink", lambda *args, **kwargs: None)
    monkeypatch.setattr(writing.shutil, "rmtree", lambda *args, **kwargs: None)
    return done


@pytest.mark.few(1)
@pytest.mark.parametrize("first", [True, False])
def test_at_every_step_there_is_the_old_model_or_the_new_one(tmp_path, monkeypatch, first):
    model, params, state = network()
    new = jax.tree.map(lambda a: a + 1, params)
    outcomes = []
    for limit in range(30):
        place = tmp_path / f"{limit}" / "m"
        if not first:
            jd.save(place, model, params, state)
        with monkeypatch.context() as patch:
            done = steps(patch, limit)
            try:
                jd.save(place, model, new, state)
            except Killed:
                pass
            else:
                break
            assert len(done) == limit
        if first and not place.exists():
            outcomes.append("nothing")
        else:
            found = jd.load(place)[1]
            outcomes.append("new" if np.array_equal(found["p"]["alpha"], new["p"]["alpha"]) else "old")
            same(new if outcomes[-1] == "new" else params, found)
        third = jax.tree.map(lambda a: a + 2, params)  # and the next saving cleans up
        jd.save(place, model, third, state)
        same(third, jd.load(place)[1])
        assert sorted(p.name for p in place.iterdir()) == ["arrays.safetensors", "model.json"]
    early = "nothing" if first else "old"
    assert outcomes == [early] * outcomes.count(early) + ["new"] * outcomes.count("new")
    assert outcomes.count(early) > 4
    assert outcomes.count("new") > 1 - first


def test_an_error_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    model, params, state = network()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        jd.save(tmp_path / "m", model, params, state)
    assert not list(tmp_path.iterdir())


SAVE_FOR_EVER = """
import sys, jax, jax.numpy as jnp, jaxdeep as jd
model = jd.nn.dense(200)
params, state = model.init(jax.random.key(0), jnp.ones((1, 500)))
n = 0
while True:
    params = jax.tree.map(lambda a: jnp.full_like(a, n), params)
    jd.save(sys.argv[1], model, params, state)
    if n == 0:
        print("begun", flush=True)
    n += 1
"""


@pytest.mark.slow
def test_killed_processes_and_readers_meanwhile_find_a_whole_model(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(8):
        command = [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path / "m")]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
        for writer in writers:
            assert writer.stdout.readline() == b"begun\n"
        for _ in range(20):
            _, params, _ = jd.load(tmp_path / "m")
            assert len({float(a) for leaf in params.values() for a in (leaf.min(), leaf.max())}) == 1
        for writer in writers:
            try:
                writer.wait(timeout=float(rng.uniform(0, 0.2)))
            except subprocess.TimeoutExpired:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
            writer.stdout.close()
        _, params, _ = jd.load(tmp_path / "m")
        assert len({float(a) for leaf in params.values() for a in (leaf.min(), leaf.max())}) == 1


def test_without_safetensors_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdeep\[checkpoint\]'"):
        jd.save(tmp_path / "m", *network())
    with pytest.raises(ImportError, match=r"pip install 'jaxdeep\[checkpoint\]'"):
        jd.load(tmp_path / "m")


def test_saving_is_documented_with_examples():
    for function in (jd.save, jd.load, jd.saving.register, jd.saving.to_config, jd.saving.from_config):
        assert ">>>" in function.__doc__
        for part in ("Args:", "Raises:", "Source:"):
            assert part in function.__doc__


def test_saving_inside_a_trace_is_refused(tmp_path):
    model = jd.nn.dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    with pytest.raises(TypeError, match="save writes to files and cannot be traced"):
        jax.jit(lambda params: jd.save(tmp_path / "model", model, params, state))(params)
    curve = jax.jit(lambda x: jd.compress.sparsity_curve(model, params, state, (x, x), [0.5]))
    with pytest.raises(TypeError, match="sparsity_curve drives devices from the host"):
        curve(jnp.ones((2, 3)))


def test_what_killed_processes_left_is_no_hindrance_and_is_removed(tmp_path):
    place, hour_ago = tmp_path / "m", time.time() - 4000
    place.mkdir()
    (place / ".tmpQnhsxm").write_bytes(b"half of the arrays")  # safetensors' own name for it
    abandoned, fresh = tmp_path / ".m.0123abcd.tmp", tmp_path / ".m.4567abcd.tmp"
    others = tmp_path / ".mine.0123abcd.tmp"
    for left in (abandoned, fresh, others):
        left.mkdir()
        (left / ".0123abcd.tmp").write_bytes(b"half")
        for path in (left / ".0123abcd.tmp", left):
            os.utime(path, (hour_ago, hour_ago))
    os.utime(fresh / ".0123abcd.tmp")  # another process writes there now
    jd.save(place, nn.flatten(), {}, {})
    assert sorted(p.name for p in place.iterdir()) == ["arrays.safetensors", "model.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["m", fresh.name, others.name])
    (tmp_path / "of_others").mkdir()
    (tmp_path / "of_others" / ".tmp").write_text("")
    with pytest.raises(FileExistsError, match="directory of other files"):
        jd.save(tmp_path / "of_others", nn.flatten(), {}, {})


@pytest.mark.parametrize("name", ["touch", "mkdir"])
@pytest.mark.parametrize("before", [False, True])
def test_a_place_that_cannot_be_written_is_named_as_it_was_given(name, before, tmp_path, monkeypatch):
    def refused(place, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(place))

    directory = tmp_path / "model"
    if before:
        jd.save(directory, nn.flatten(), {}, {})
    if name == "touch" or not before:
        monkeypatch.setattr(pathlib.Path, name, refused)
        with pytest.raises(
            PermissionError, match=r"cannot be saved at .*/model' \(Permission"
        ) as caught:
            jd.save(directory, nn.flatten(), {}, {})
        assert ".tmp" not in str(caught.value)
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be saved at .*/file/model'.*give another path"):
        jd.save(tmp_path / "file" / "model", nn.flatten(), {}, {})
