"""`Recipe`: a model, and the arguments of `fit` that go with it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import optax

from jaxdeep._shapes import PyTree
from jaxdeep.metrics import Metric
from jaxdeep.nn.model import Model
from jaxdeep.train.state import PerExample


class Recipe(NamedTuple):
    """A network with the loss, metrics, optimizer and options that suit it: `jaxdeep.nn.mlp` makes one.

    Each is a value of the kind that `jaxdeep.fit` takes, and may be replaced:
    ``recipe._replace(loss=…)``, ``recipe.options | {"checkpoint": "runs/a"}``. Epochs and batch size are
    arguments of `jaxdeep.nn.mlp`, since the schedule of an optimizer may be as long as the run.

    Attributes:
      model: a `jaxdeep.nn.Model`.
      loss: ``(outputs, y) -> losses``.
      metrics: by name.
      optimizer: an optax transformation.
      options: the further arguments of `fit`: "epochs", "batch_size", "early_stopping" and so on.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> recipe = jd.nn.mlp("regression", hidden=(8,), epochs=2)
    >>> result = jd.fit(recipe.model, (jnp.ones((64, 3)), jnp.ones(64)), loss=recipe.loss,
    ...                 metrics=recipe.metrics, optimizer=recipe.optimizer, key=jax.random.key(0),
    ...                 progress=False, **recipe.options)
    >>> list(result.history)
    ['loss', 'learning_rate', 'mae', 'r2', 'rmse']
    """

    model: Model
    loss: PerExample
    metrics: Mapping[str, PerExample | Metric]
    optimizer: optax.GradientTransformation
    options: Mapping[str, Any]

    def arguments(self) -> dict[str, Any]:
        """All of it as arguments of `jaxdeep.fit`, or as what the builder of a sweep returns.

        >>> import jax, jax.numpy as jnp, jaxdeep as jd
        >>> recipe = jd.nn.mlp("binary", hidden=(), epochs=1)
        >>> sorted(recipe.arguments())[:4]
        ['batch_size', 'early_stopping', 'epochs', 'loss']
        >>> result = jd.fit(data=(jnp.ones((64, 3)), jnp.ones(64, int)), key=jax.random.key(0),
        ...                 progress=False, **recipe.arguments())
        >>> result.params["logits"]["kernel"].shape
        (3, 1)
        """
        arguments: dict[str, PyTree] = {
            "model": self.model,
            "loss": self.loss,
            "metrics": dict(self.metrics),
            "optimizer": self.optimizer,
        }
        return arguments | dict(self.options)
