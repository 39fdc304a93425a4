"""A strong network for a table without tuning: the simplified RealMLP of "Better by Default"."""

from typing import Any

import jax
import optax

from jaxdeep import _checks
from jaxdeep.nn import initializers
from jaxdeep.nn.linear import ntk_dense
from jaxdeep.nn.model import Model
from jaxdeep.nn.scales import scaling
from jaxdeep.optimizers import adam, multiply
from jaxdeep.recipes.endings import ending_of
from jaxdeep.recipes.goal import Goal
from jaxdeep.schedules import coslog4
from jaxdeep.train.monitors import EarlyStopping

# Of fitted columns; embeddings begin as large as all else here.
LAYER = {
    "scaling": "robust",
    "clip": True,
    "one_hot": 9,
    "embedding": 8,
    "embedding_init": initializers.normal(1.0),
}

_HIDDEN, _EPOCHS, _BATCH, _SMOOTHING = (256, 256, 256), 256, 256, 0.1
_RATE = {"regression": 0.07}
_RATE_OF_CLASSES = 0.04
_SCALES, _BIASES, _SINGLE_LOGITS = 6.0, 0.1, 2.0  # factors of the rate


def realmlp(goal: Goal, chosen: dict[str, Any]) -> tuple[dict[str, Model], dict[str, Any]]:
    """The layers behind the inputs by name, and the other parts of the recipe.

    A single logit stands for the difference of the two that the paper has. As they begin at 0 and get
    opposite gradients, the difference moves twice as fast as either, so the rate of the last layer is
    doubled where logits are single.

    Args:
      goal: the task and what is known of the targets.
      chosen: the arguments of `jaxdeep.nn.mlp` that were given, and None for the others.

    Raises:
      ValueError: rows that are not known, a batch of more rows than there are.
    """
    if goal.rows is None:
        raise ValueError(
            "rows must be given for recipe='strong', whose schedule runs over the whole run: the number "
            "of training rows; or pass targets="
        )
    smoothing = 0.0 if goal.is_regression else _SMOOTHING
    ending = ending_of(goal, chosen["output"], chosen["bounds"], chosen["loss"], smoothing)
    usual = jax.nn.mish if goal.is_regression else jax.nn.selu
    activation = chosen["activation"] or usual
    hidden = _HIDDEN if chosen["hidden"] is None else chosen["hidden"]
    weights = {
        f"hidden{i}": ntk_dense(width, activation=activation) for i, width in enumerate(hidden, 1)
    }
    zeros = initializers.zeros
    weights[ending.name] = ntk_dense(goal.outputs, kernel_init=zeros, bias_init=zeros)

    epochs = chosen["epochs"] or _EPOCHS
    batch = chosen["batch_size"] or min(_BATCH, goal.rows)
    if batch > goal.rows:
        raise ValueError(f"batch_size must be at most the {goal.rows} training rows, got {batch}")
    options = {"epochs": epochs, "batch_size": batch, "drop_remainder": True}
    if chosen["best_epoch"]:
        options["early_stopping"] = EarlyStopping(
            patience=epochs, monitor=f"val_{ending.monitor}", ties="last"
        )
    rate = chosen["learning_rate"]
    if rate is None:
        rate = _RATE.get(goal.task, _RATE_OF_CLASSES)
    _checks.check_scalar("learning_rate", rate, "[0, inf)")
    factors = [
        multiply(_SCALES, where="scaling/scale"),
        multiply(_BIASES, where=[f"{name}/bias" for name in weights]),
    ]
    if goal.task in ("binary", "multilabel"):
        factors.append(multiply(_SINGLE_LOGITS, where=f"{ending.name}/*"))
    steps = epochs * (goal.rows // batch)
    return {"scaling": scaling(), **weights, **ending.layers}, {
        "loss": ending.loss,
        "metrics": ending.metrics,
        "optimizer": optax.chain(adam(coslog4(rate, steps), b2=0.95), *factors),
        "options": options,
    }
