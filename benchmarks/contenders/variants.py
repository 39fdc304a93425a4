"""What is trained in `benchmarks.throughput`, and what jaxdeep is to reach."""

import dataclasses

BATCH, RATE, DROPOUT, DEPTH = 32, 1e-3, 0.2, 100


@dataclasses.dataclass(frozen=True)
class Variant:
    """Examples of an epoch, and goals.

    Goals: by contender, the largest ratio of jaxdeep's time to its, for a step and for the first epoch;
    `first_step`, the most seconds from imports and data at hand to the first step.
    """

    name: str
    about: str
    examples: int
    step_goals: dict = dataclasses.field(default_factory=dict)
    epoch_goals: dict = dataclasses.field(default_factory=dict)
    first_step: float | None = None

    @property
    def steps(self):
        return -(-self.examples // BATCH)


VARIANTS = {
    v.name: v
    for v in (
        Variant(
            "plain",
            "784-100-100-100-10, ReLU, He initialisation",
            55_000,
            {"keras1": 0.45, "optax": 1.00, "torch-fused": 0.45},
            {"keras1": 0.45},
        ),
        Variant(
            "bn",
            "batch norm between each hidden layer and its activation",
            55_000,
            {"keras1": 0.40, "optax": 1.00},
        ),
        Variant(
            "dropout",
            "dropout of 0.2 before each dense layer",
            55_000,
            {"keras1": 0.45, "optax": 1.00},
        ),
        Variant(
            "deep",
            "784-100, 100 layers of 100 SELU units, 10; a loop over layers where the library has one "
            "(jaxdeep `nn.repeat`, Flax `scan`, `jax.lax.scan`), else one after another",
            9_600,
            {"optax": 0.80},
            first_step=2.0,
        ),
        Variant(
            "conv",
            "28×28×1, conv 16 of 3×3, ReLU, max pool 2, conv 32 of 3×3, ReLU, max pool 2, dense 10",
            9_600,
            {"keras1": 0.40, "optax": 1.00},
        ),
    )
}


def data(variant):
    """``x, y``: Fashion-MNIST if it is at hand, noise of that shape otherwise."""
    import numpy as np

    from jaxdeep import datasets

    try:
        x, y = datasets.fashion_mnist().train
    except (FileNotFoundError, ImportError):
        rng = np.random.default_rng(0)
        x = rng.random((55_000, 28, 28), dtype=np.float32)
        y = rng.integers(0, 10, 55_000).astype(np.int32)
    x, y = x[: variant.examples], y[: variant.examples]
    return (x[..., None] if variant.name == "conv" else x.reshape(len(x), -1)), y
