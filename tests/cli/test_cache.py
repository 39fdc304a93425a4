"""Programs that the commands keep from one process to the next."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import warnings

import jax
import jaxlib
import pytest

from jaxdeep.cli import cache


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def unset():
    """JAX as it is when it was told of no folder."""
    own = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", own)


FULL = "Error writing persistent compilation cache entry for 'jit_f': OSError: full"


def environment(folder):
    """That of a user whose cache is in `folder`."""
    ours = {name: str(folder) for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME")}
    others = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    return others | ours | {"MPLCONFIGDIR": tempfile.gettempdir()}


def test_the_folder_is_this_users_this_machines_and_this_jaxlibs(home, monkeypatch):
    folder = cache.own_folder()
    assert folder == cache.own_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.name.endswith(f"jaxlib-{jaxlib.__version__}")
    monkeypatch.setattr(cache, "_cpu", lambda: "of another generation")
    assert cache.own_folder() != folder
    assert cache.own_folder().parent == folder.parent


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners")
def test_a_folder_that_others_may_write_to_is_not_used(home, unset, monkeypatch, capsys):
    folder = cache.own_folder()
    folder.parent.chmod(0o777)
    with pytest.raises(PermissionError, match=f"others may write to {folder.parent}"):
        cache.own_folder()
    folder.parent.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 1 + folder.stat().st_uid)
    with cache.kept():
        assert jax.config.jax_compilation_cache_dir is None
    assert capsys.readouterr().err == (
        "jaxdeep: compiled programs are not kept for the next time (others may write to "
        f"{folder.parent.parent}); --no-cache does not try\n"
    )


def test_a_file_where_the_folder_should_be_is_no_error(home, unset, capsys):
    home.write_text("")
    with cache.kept():
        assert jax.config.jax_compilation_cache_dir is None
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert str(home) in err


def test_a_folder_that_jax_was_told_of_stays(home):
    names = [name for name in jax.config.values if "cache" in name]
    before = {name: getattr(jax.config, name) for name in names}
    assert before["jax_compilation_cache_dir"]
    with cache.kept():
        assert before == {name: getattr(jax.config, name) for name in names}
    assert not home.exists()


def test_other_warnings_pass(tmp_path):
    failures = []
    with warnings.catch_warnings(record=True) as shown, cache._mending(tmp_path, failures):
        warnings.simplefilter("always")
        for text in ("something else", FULL, FULL):  # the same text twice is handled twice
            warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]
    assert failures == ["OSError: full"] * 2


TROUBLE = """
import contextlib, json, os, pathlib, resource, sys
import jax, jax.numpy as jnp
from jaxdeep.cli import cache

def value(scale):
    jax.clear_caches()
    return float(jax.jit(lambda x: (x @ x.T * scale).sum())(jnp.ones((8, 8))))

def entries():
    return {path.name: path.stat().st_size > 100 for path in folder.iterdir()}  # a time is in each

def say(**what):
    print(json.dumps(what))

folder = cache.own_folder()
with cache.kept():
    whole = value(2), entries()
    entry, = folder.glob("jit__lambda-*-cache")
    entry.write_bytes(entry.read_bytes()[:100])
    say(torn=[value(2) == whole[0], entries() == whole[1]])

resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
jax.config.update("jax_compilation_cache_dir", None)
with cache.kept():
    say(full=[value(3) == 1.5 * whole[0], entries() == whole[1]])

if os.geteuid() == 0:  # may write everywhere
    for path in (folder.parent.parent.parent, folder.parent.parent, folder.parent, folder):
        os.chown(path, 65534, -1)
    os.seteuid(65534)
folder.chmod(0o500)
jax.config.update("jax_compilation_cache_dir", None)
with cache.kept():
    say(read_only=[value(2) == whole[0], value(4) == 2 * whole[0], entries() == whole[1]])
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="neither limits nor modes")
def test_a_torn_entry_a_full_and_a_read_only_folder_are_no_errors():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        env = environment(os.path.join(folder, "cache")) | {"PYTHONWARNINGS": "error"}
        command = [sys.executable, "-c", TROUBLE]
        found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    told = [json.loads(line) for line in found.stdout.splitlines()]
    assert told == [
        {"torn": [True, True]},
        {"full": [True, True]},
        {"read_only": [True, True, True]},
    ]
    full, read_only = found.stderr.splitlines()  # a line for each, whatever the number of programs
    assert "File too large" in full
    assert "Permission denied" in read_only


COUNTED = """
import collections, json, sys
import jax
from jaxdeep.__main__ import main

events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
status = main(sys.argv[1:])
counted = ("compile_requests_use_cache", "cache_hits", "cache_misses")
print(json.dumps([events[name] for name in counted]))
sys.exit(status)
"""


@pytest.mark.slow
def test_a_second_comparison_compiles_nothing_and_finds_the_same(tmp_path):
    def begin(name, *options, home="home"):
        args = ["compare", "--data", "digits", "--epochs", "1", "--seeds", "2", "--budget", "1"]
        args += ["--optimizers", "sgd,adam", "--out", str(tmp_path / name), *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", COUNTED, *args]
        return subprocess.Popen(command, env=environment(tmp_path / home), **pipes)

    def end(process):
        out, err = process.communicate(timeout=600)
        assert (process.returncode, err) == (0, "")
        return json.loads(out.splitlines()[-1])

    def results(name):
        answer = json.loads((tmp_path / name / "results.json").read_text())
        del answer["times"]
        return answer

    def entries(home="home"):
        folder = tmp_path / home
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*-cache")}

    at_once = [begin("one"), begin("other"), begin("without", "--no-cache", home="elsewhere")]
    one, other, without = [end(process) for process in at_once]
    assert one[2] > 0
    assert other[2] > 0
    assert without == [0, 0, 0]
    assert not entries("elsewhere")
    kept = entries()
    requests, hits, misses = end(begin("second"))
    assert requests == hits > 0
    assert misses == 0
    assert entries() == kept
    assert results("one") == results("other") == results("second") == results("without")
