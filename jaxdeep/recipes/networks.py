"""`mlp`: networks of dense layers by task, with all that trains them."""

from collections.abc import Sequence
from typing import Any

from jaxdeep import _checks
from jaxdeep._shapes import ArrayLike
from jaxdeep.nn.activation_layers import check_activation
from jaxdeep.nn.combinators import serial
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import Activation
from jaxdeep.optimizers.scalars import Numeric
from jaxdeep.recipes import realmlp, textbook
from jaxdeep.recipes.goal import Goal, goal_of, is_columns
from jaxdeep.recipes.recipe import Recipe
from jaxdeep.train.data import rows_held_out

_RECIPES = {
    "textbook": (textbook.textbook, textbook.LAYER),
    "strong": (realmlp.realmlp, realmlp.LAYER),
}


def mlp(
    task: str,
    inputs: Any = None,
    *,
    recipe: str = "textbook",
    outputs: int | None = None,
    targets: ArrayLike | None = None,
    rows: int | None = None,
    validation: float | None = None,
    hidden: Sequence[int] | None = None,
    activation: Activation | None = None,
    output: str | None = None,
    bounds: tuple[float, float] | None = None,
    loss: str | None = None,
    learning_rate: Numeric | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    best_epoch: bool = True,
) -> Recipe:
    """A network of dense layers for a task, with the loss, metrics, optimizer and options to train it.

    ============ ===================== =============== ==================== =====================
    task         outputs               y               loss                 metrics
    ============ ===================== =============== ==================== =====================
    "regression" 1, or one a target    numbers         mse, mae or huber    mae, rmse, r2
    "binary"     1 logit               0 and 1         cross-entropy of σ   accuracy, auc
    "multilabel" 1 logit a label       0 and 1         cross-entropy of σ   accuracy over labels
    "multiclass" 1 logit a class       0, 1, 2, …      cross-entropy        accuracy
    ============ ===================== =============== ==================== =====================

    ``recipe="textbook"`` is plain: two layers of 100 with ReLU and He's initialisation, Adam at 0.001,
    batches of 32 rows (of all, if they are fewer), at most 100 epochs, of which the best is kept after
    10 without improvement (of the validation loss, or without validation data of the loss).

    ``recipe="strong"`` is the simplified RealMLP (TD-S), whose defaults were tuned once, on many tables:
    a learned scale for each input, at 6 times the rate; three layers of 256 in NTK parametrisation,
    biases at 0.1 of the rate; SELU for classes and Mish for numbers; a last layer that begins at 0;
    label smoothing of 0.1; Adam (β₂ = 0.95) at 0.04, for regression 0.07, by
    `jaxdeep.schedules.coslog4` over the whole run; batches of 256 without the remainder; 256 epochs, of
    which that of the best validation accuracy (or loss) is kept, of ties the last. So it needs
    validation data, here as `validation` or when it is fitted; with ``best_epoch=False`` it needs none,
    and the last epoch is kept. Of single logits the last layer has twice the rate, which is what two of
    opposite sign do.

    Args:
      task: "regression", "binary", "multilabel" or "multiclass".
      inputs: what stands in front: None for any matrix of floats, which you scale yourself (for "strong"
        by ``jd.preprocessing.robust_scaler(flat="range", clip=3.0)``); the columns that
        `jaxdeep.tables.fit` makes of a table, whose layer scales numbers (for "textbook" by mean and
        standard deviation, for "strong" robustly and with a smooth clip) and encodes categories (one
        column for each of up to 9 levels, else an embedding of 8); or a `jaxdeep.nn.Model` of your own.
      recipe: "textbook" or "strong".
      outputs: how many there are. It is read off the targets or the columns; without both it is needed
        for "multilabel" and "multiclass".
      targets: the training targets, from which outputs and rows are read. For a regression their mean
        and standard deviation too: the network then learns as from standardised targets, gives numbers
        in their unit, and is cut at inference to their range (`jaxdeep.nn.rescale`). Fitted columns know
        their targets by themselves; pass targets beside them if only some of their rows are trained on,
        in standard deviations if they are standardised, as ``columns.encode`` gives them.
      rows: the number of training rows, from which "strong" computes the length of the run; by default
        that of the targets or else of the columns.
      validation: a share in (0, 1) of these rows, which `fit` then holds out for validation: it is among
        the options. None leaves it to whoever calls `fit` to pass validation data.
      hidden: the widths of the hidden layers; () for none.
      activation: of the hidden layers.
      output: of a regression: None; "softplus" for positive numbers, with known targets std · softplus(x
        + c), which at x = 0 is their mean; "sigmoid" or "tanh" for numbers within `bounds`, whatever the
        mean and standard deviation.
      bounds: ``(low, high)``; by default (0, 1), of "tanh" (−1, 1).
      loss: of a regression: "mse" (the default), "mae" or "huber". With known targets, errors are
        counted in their standard deviation, and so is Huber's δ of 1.
      learning_rate: of "textbook" a number, a schedule or a scalar array, of "strong" the peak.
      epochs, batch_size: of the run.
      best_epoch: whether the parameters of the best epoch are kept rather than those of the last.

    Returns:
      A `Recipe`: ``model, loss, metrics, optimizer, options``.

    Raises:
      ValueError: an unknown task, recipe or name; targets or columns of another task; numbers that are
        not known and needed; what is not of the task; a batch larger than the rows; targets beside
        columns that are not encoded as these encode them.
      TypeError: inputs that are none of the three.

    Source: "textbook": Géron, "Hands-On Machine Learning", chapter 10, the tables of typical
    architectures. "strong": Holzmüller, Grinsztajn & Steinwart, "Better by Default: Strong Pre-Tuned
    MLPs and Boosted Trees on Tabular Data" (arXiv:2407.04491), RealMLP-TD-S.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(1), (256, 5)); y = (x[:, 0] * x[:, 1] > 0).astype(int)
    >>> train, validation = (x[:192], y[:192]), (x[192:], y[192:])
    >>> recipe = mlp("binary", recipe="strong", targets=train[1], hidden=(32, 32), epochs=40)
    >>> result = jd.fit(recipe.model, train, loss=recipe.loss, metrics=recipe.metrics,
    ...                 optimizer=recipe.optimizer, validation=validation, key=jax.random.key(0),
    ...                 progress=False, **recipe.options)
    >>> bool(result.history["val_accuracy"][result.best_epoch] > 0.85)
    True
    >>> columns = jd.tables.fit({"age": [31, 52, None, 44], "city": ["Rome", "Oslo", "Oslo", "Bonn"],
    ...                          "income": ["low", "high", "high", "low"]}, target="income")
    >>> recipe = mlp("binary", columns, recipe="strong", validation=0.25, hidden=(8,))
    >>> list(recipe.model.layers), recipe.options["batch_size"]
    (['inputs', 'scaling', 'hidden1', 'logits'], 3)
    >>> mlp("regression", hidden=(30,), output="sigmoid", bounds=(0, 5)).model
    serial(
        hidden1=dense(features=30, activation=relu),
        output=dense(features=1),
        range=bounded(low=0.0, high=5.0),
    )
    """
    _checks.check_choice("recipe", recipe, tuple(_RECIPES))
    goal = goal_of(task, inputs, outputs, rows, targets)
    if validation is not None:
        goal = _without(goal, validation)
    _checks.check_flag("best_epoch", best_epoch)
    if activation is not None:
        check_activation("activation", activation)
    widths = None if hidden is None else _widths(hidden)
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        if count is not None:
            _checks.check_count(name, count)
    make, layer_options = _RECIPES[recipe]
    layers, parts = make(
        goal,
        {
            "hidden": widths,
            "activation": activation,
            "output": output,
            "bounds": bounds,
            "loss": loss,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": batch_size,
            "best_epoch": best_epoch,
        },
    )
    if validation is not None:
        parts["options"]["validation"] = float(validation)
    first = {} if inputs is None else {"inputs": _first(inputs, layer_options)}
    return Recipe(model=serial(**first, **layers), **parts)


def _without(goal: Goal, share: Any) -> Goal:
    """The goal without the rows that are held out."""
    _checks.check_number("validation", share, "(0, 1)")
    if goal.rows is None:
        return goal
    if goal.rows < 2:
        raise ValueError(
            f"validation={share} needs at least two rows, of which one stays, got {goal.rows}"
        )
    return goal._replace(rows=goal.rows - rows_held_out(goal.rows, float(share)))


def _first(inputs: Any, options: dict[str, Any]) -> Model:
    """The layer in front."""
    if isinstance(inputs, Model):
        return inputs
    if is_columns(inputs):
        return inputs.layer(**options)
    raise TypeError(
        "inputs must be None, the columns that jaxdeep.tables.fit makes of a table, or a Model, got "
        f"{inputs!r}; the data go to fit"
    )


def _widths(hidden: Any) -> tuple[int, ...]:
    _checks.check_sequence("hidden", hidden)
    return tuple(_checks.check_count("hidden", width) for width in hidden)
