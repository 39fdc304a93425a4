"""Settings of the whole suite: eight CPU devices, kept programs, reference values, float64 at wish."""

import gc
import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import sys

ROOT = pathlib.Path(__file__).parents[1]

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
# The devices of the host share a pool of as many threads. Two reductions at once, of which each waits
# for all devices, may wait for one another there on a busy machine, until XLA gives up. (XLA reads it.)
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Subprocesses import this checkout and these helpers.
_PATHS = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
os.environ["PYTHONPATH"] = os.pathsep.join(_PATHS)

# Compiled programs are kept from one session to the next, and shared by workers and subprocesses. JAX
# neither locks the folder nor writes beside and renames, so a worker may meet half an entry: then JAX
# warns, which pyproject.toml lets pass, and compiles. Its locking cache (a maximal size) takes 80 ms a
# write at 2,000 entries, as it looks at all of them.
_KEPT = ROOT / ".cache" / "jax" / importlib.metadata.version("jaxlib")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_KEPT))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import pytest
from helpers import hurry
from helpers.tiers import mark_heavy_cases

import jaxdeep
from jaxdeep._compat import enable_x64
from jaxdeep._compilation import forget

# Before pytest imports a module for its examples, which would put it in the place of a function of its
# name: jaxdeep.nn.conv.
for name in jaxdeep.__all__:
    getattr(jaxdeep, name)

hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ci")

_HURRY = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_configure(config):
    """What is not slow compiles in a hurry, unless told otherwise.

    What runs once or twice spends its time in the compiler: without most of LLVM's passes it takes 0.7
    of the time, and half of that with XLA's plain emitter of machine code. Subprocesses inherit the
    former.
    """
    fast = config.option.markexpr == "heavy" or "not slow" in config.option.markexpr
    os.environ.setdefault(_HURRY, "1" if fast else "0")
    jax.config.update("jax_disable_most_optimizations", os.environ[_HURRY] != "0")
    if os.environ[_HURRY] != "0":
        hurry.emit_plainly(lambda: os.environ[_HURRY] != "0")
        hurry.share_contexts()


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """A test is fast, heavy or slow."""
    mark_heavy_cases(items)
    for item in items:
        if item.get_closest_marker("slow") and item.get_closest_marker("heavy"):
            raise pytest.UsageError(f"{item.nodeid} is marked both heavy and slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """What promises equal bits compiles as users do."""
    if os.environ[_HURRY] == "0" or not item.get_closest_marker("optimized"):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_HURRY, "0")
        jax.config.update("jax_disable_most_optimizations", False)
        try:
            return (yield)
        finally:
            jax.config.update("jax_disable_most_optimizations", True)


def pytest_sessionstart(session):
    """Ctrl-C is heard, and a folder of programs that has grown is begun anew.

    A shell ignores SIGINT for what it runs in the background, and all that this starts would ignore it:
    tests send it to themselves and to their children. Programs of code that is gone are not read again.
    Of what is traced little is garbage, so that it is looked for seldom.
    """
    gc.set_threshold(50_000, 20, 50)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = hasattr(session.config, "workerinput")
    if not worker and sum(file.stat().st_size for file in _KEPT.glob("*")) > 2**30:
        shutil.rmtree(_KEPT, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Every compiled program holds parts of a table of the kernel's, beyond whose end LLVM crashes."""
    yield
    if sys.platform == "linux" and pathlib.Path("/proc/self/maps").read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        forget()
        gc.collect()


@pytest.fixture(scope="session")
def golden():
    """Values computed by optax, Keras, PyTorch, flax and scikit-learn, and from the textbook."""
    return json.loads((ROOT / "tests" / "golden.json").read_text())


@pytest.fixture
def x64():
    """Run the test with float64 on."""
    with enable_x64(True):
        yield
