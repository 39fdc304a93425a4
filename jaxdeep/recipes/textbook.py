"""The textbook's network for a table: a few layers of ReLU, Adam, and patience."""

from typing import Any

import jax

from jaxdeep.nn.linear import dense
from jaxdeep.nn.model import Model
from jaxdeep.optimizers import adam
from jaxdeep.recipes.endings import ending_of
from jaxdeep.recipes.goal import Goal
from jaxdeep.train.monitors import EarlyStopping

LAYER = {"scaling": "standard", "clip": False}  # of fitted columns

_HIDDEN, _RATE, _EPOCHS, _BATCH, _PATIENCE = (100, 100), 1e-3, 100, 32, 10


def textbook(goal: Goal, chosen: dict[str, Any]) -> tuple[dict[str, Model], dict[str, Any]]:
    """The layers behind the inputs by name, and the other parts of the recipe.

    Args:
      goal: the task and what is known of the targets.
      chosen: the arguments of `jaxdeep.nn.mlp` that were given, and None for the others.
    """
    ending = ending_of(goal, chosen["output"], chosen["bounds"], chosen["loss"])
    activation = chosen["activation"] or jax.nn.relu
    hidden = _HIDDEN if chosen["hidden"] is None else chosen["hidden"]
    layers = {f"hidden{i}": dense(width, activation=activation) for i, width in enumerate(hidden, 1)}
    layers |= {ending.name: dense(goal.outputs), **ending.layers}
    batch = chosen["batch_size"] or (_BATCH if goal.rows is None else min(_BATCH, goal.rows))
    options = {"epochs": chosen["epochs"] or _EPOCHS, "batch_size": batch}
    if chosen["best_epoch"]:
        options["early_stopping"] = EarlyStopping(patience=_PATIENCE)
    rate = _RATE if chosen["learning_rate"] is None else chosen["learning_rate"]
    return layers, {
        "loss": ending.loss,
        "metrics": ending.metrics,
        "optimizer": adam(rate),
        "options": options,
    }
