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

# Many tests compile the same programs: a cache that lives as long as the session, for all its processes.
_CACHE = None
if not jax.config.jax_compilation_cache_dir:
    _CACHE = tempfile.mkdtemp(prefix="jaxdeep-tests-")
    for _name, _value in {
        "jax_compilation_cache_dir": _CACHE,
        "jax_persistent_cache_min_compile_time_secs": 0.05,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        jax.config.update(_name, _value)
        os.environ[_name.upper()] = str(_value)

hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ci")


def pytest_unconfigure(config):
    """The process that made the cache removes it."""
    if _CACHE is not None:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def golden():
    """Values computed by optax, Keras, PyTorch, flax and scikit-learn, and from the textbook."""
    return json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())


@pytest.fixture
def x64():
    """Run the test with float64 on."""
    with jax.enable_x64(True):
        yield
