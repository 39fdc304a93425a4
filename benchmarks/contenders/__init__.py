"""Who trains in `benchmarks.throughput`, each a function ``train(variant, data, epochs)`` in its file.

Every one shuffles each epoch, computes the mean loss and accuracy of the epoch and passes them to
`tell` at its end.
"""

import dataclasses
import importlib


@dataclasses.dataclass(frozen=True)
class Contender:
    """Its name in the table, the file, arguments of its `train`; `apart` if it is no rival."""

    label: str
    module: str
    arguments: dict = dataclasses.field(default_factory=dict)
    apart: bool = False

    def train(self, variant, data, epochs):
        module = importlib.import_module(f"benchmarks.contenders.{self.module}")
        module.train(variant, data, epochs, **self.arguments)

    def load(self):
        """Import what it needs, before the clock of the first step begins."""
        importlib.import_module(f"benchmarks.contenders.{self.module}")


CONTENDERS = {
    "jaxdeep": Contender("`jaxdeep.fit`", "ours"),
    "keras1": Contender("Keras on JAX, `model.fit`", "keras_fit", {"steps_per_execution": 1}),
    "keras32": Contender("the same, 32 steps an execution", "keras_fit", {"steps_per_execution": 32}),
    "torch-fused": Contender("PyTorch eager, `Adam(fused=True)`", "torch_loop", {"fused": True}),
    "torch": Contender("PyTorch eager, `Adam`", "torch_loop"),
    "nnx": Contender("Flax NNX, `nnx.jit`", "nnx_loop"),
    "nnx-cached": Contender("Flax NNX, `nnx.cached_partial`", "nnx_loop", {"cached": True}),
    "linen": Contender("Flax Linen and optax, a jitted donated step", "linen_loop"),
    "equinox": Contender("Equinox and optax, `eqx.filter_jit`", "equinox_loop"),
    "optax": Contender("functions and optax, a jitted donated step", "optax_loop"),
    "torch-compiled": Contender(
        "PyTorch, `torch.compile`, `Adam(fused=True)`",
        "torch_loop",
        {"fused": True, "compiled": True},
        apart=True,
    ),
}


def tell(loss, accuracy):
    print(f"epoch {float(loss)} {float(accuracy)}", flush=True)
