"""Settings of the whole suite: eight CPU devices, recorded reference values, float64 on request."""

import json
import os
import pathlib

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def golden():
    """Values computed by optax, Keras, PyTorch, flax and scikit-learn, and from the textbook."""
    return json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())


@pytest.fixture
def x64():
    """Run the test with float64 on."""
    with jax.enable_x64(True):
        yield
