"""The networks that the commands train."""

from typing import Any


def classes_of(data: Any) -> int:
    """One more than the largest label."""
    return 1 + int(max(data.train[1].max(), data.validation[1].max()))


def network(classes: int) -> Any:
    """Three hidden layers of 100 ReLU units, He initialisation."""
    import jax

    from jaxdeep import nn

    def hidden() -> Any:
        return nn.dense(100, activation=jax.nn.relu, kernel_init=nn.initializers.he_normal())

    return nn.serial(
        flatten=nn.flatten(),
        hidden1=hidden(),
        hidden2=hidden(),
        hidden3=hidden(),
        logits=nn.dense(classes),
    )
