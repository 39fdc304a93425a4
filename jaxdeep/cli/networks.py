"""The networks that the commands train."""

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset
    from jaxdeep.nn import Model


def classes_of(data: "Dataset") -> int:
    """One more than the largest label."""
    return 1 + int(max(data.train[1].max(), data.validation[1].max()))


def network(classes: int, *, dropout: float = 0.0) -> "Model":
    """Three hidden layers of 100 ReLU units, He initialisation; dropout is before each layer."""
    from jaxdeep import nn

    layers: dict[str, Any] = {"flatten": nn.flatten()}
    for i in range(1, 5):
        if dropout:
            layers[f"dropout{i}"] = nn.dropout(dropout)
        if i < 4:
            layers[f"hidden{i}"] = nn.dense(
                100, activation=jax.nn.relu, kernel_init=nn.initializers.he_normal()
            )
    return nn.serial(**layers, logits=nn.dense(classes))
