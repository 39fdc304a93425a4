"""Settings of the whole suite: eight CPU devices, recorded reference values, float64 on request."""

import json
import os
import pathlib
import shutil
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

from jaxdeep._compat import enable_x64

# Many tests compile the same programs. A cache for each process of a session: JAX does not write to it
# in a way that others may read meanwhile.
_OWN = not os.environ.get("JAX_COMPILATION_CACHE_DIR")
_CACHE = tempfile.mkdtemp(prefix="jaxdeep-tests-") if _OWN else os.environ["JAX_COMPILATION_CACHE_DIR"]
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ci")

_HURRY = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_configure(config):
    """The fast tests compile in a hurry, unless told otherwise.

    What runs once or twice spends its time in the compiler: without most of LLVM's passes it takes 0.7
    of the time. XLA's own passes, which decide what is computed, stay. Subprocesses inherit it.
    """
    os.environ.setdefault(_HURRY, "1" if config.option.markexpr == "not slow" else "0")
    jax.config.update("jax_disable_most_optimizations", os.environ[_HURRY] != "0")


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


def pytest_unconfigure(config):
    """The cache goes with the session."""
    if _OWN:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def golden():
    """Values computed by optax, Keras, PyTorch, flax and scikit-learn, and from the textbook."""
    return json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())


@pytest.fixture
def x64():
    """Run the test with float64 on."""
    with enable_x64(True):
        yield
