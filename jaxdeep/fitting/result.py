"""`FitResult`, what `jaxdeep.fit` returns, which is evaluated and predicts by itself."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.evaluation import evaluate
from jaxdeep.fitting.prediction import predict
from jaxdeep.train.state import Network, TrainState

# What `FitResult.training` tells besides the optimizer, and what was minimised.
TRAINED_WITH = (
    "class_weight", "trainable", "freeze_batch_norm", "ema", "update_args", "on_nonfinite",
)  # fmt: skip


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Problem:
    """What a run was about. It is no part of a pickle, since functions may not be.

    Attributes:
      model: the model.
      minimised: what `jaxdeep.evaluate` takes by name, such as the loss and the metrics.
      trained_with: the optimizer and the other arguments of `jaxdeep.fit` that decide what a step does.
    """

    model: Network | None = None
    minimised: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trained_with: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def loss(self) -> Any:
        """The loss, also of an objective of `jaxdeep.train.supervised`; None if it is not known."""
        return self.minimised.get("loss") or getattr(self.minimised.get("objective"), "of_loss", None)

    def __hash__(self) -> int:
        return hash(Problem)  # a dict has none; equality tells them apart

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Problem, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Problem":
        return self


class FitResult(NamedTuple):
    """The result of a run of `jaxdeep.fit`.

    ``result.params`` and ``result.state`` are the model to use: of the best epoch where early stopping
    restores it, the average with ``ema=True``, and `jaxdeep.optimizers.evaluation_params` where an
    optimizer has others, such as a schedule-free one. `evaluate` and `predict` use these. In every case
    ``result.train_state`` is as the last step has left it, for a next step to go on from.

    Attributes:
      train_state: the whole state after the last step, from which training can go on.
      history: ``"loss"``, each metric, ``"val_loss"`` and each validation metric as NumPy arrays, one
        value an epoch. ``learning_rate``, ``momentum`` and every hyperparameter that a schedule
        drives are those in force at the end of the epoch.
      best_epoch: with early stopping, the index of the best epoch in the history, −1 if there was none.
      stopped: why the run has ended before its last epoch: "early_stopping", "callback", "diverged" (a
        loss was not finite) or "interrupted"; None if it has not. Early stopping and an interruption
        are named in the last epoch, too. Of phases, it is that of the last one run.
      problem: the model and what was minimised, with which the result is evaluated and predicts. A
        pickle is without it.
      evaluated: parameters and state of the model to use, if they are others than those of
        `train_state`; else None.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]
    best_epoch: int | None = None
    stopped: str | None = None
    problem: Problem = Problem()
    evaluated: tuple[PyTree, PyTree] | None = None

    @property
    def params(self) -> PyTree:
        """The parameters of the model to use."""
        return self.train_state.params if self.evaluated is None else self.evaluated[0]

    @property
    def state(self) -> PyTree:
        """The state of the model to use: batch-norm statistics."""
        return self.train_state.state if self.evaluated is None else self.evaluated[1]

    @property
    def training(self) -> dict[str, Any]:
        """The arguments of `jaxdeep.fit` with which the run goes on, which `jaxdeep.save` takes, too.

        These are the optimizer, the loss, the metrics and whatever else decides what a step does, and
        the `train_state`: ``jaxdeep.fit(model, data, **result.training, epochs=2)`` goes on in the same
        order of batches, with the same dropout. What belongs to a call is passed again: `batch_size`,
        `shuffle`, `accumulation_steps`, `augment`, `validation`, callbacks. Four things begin anew: the
        history, the counting of early stopping and of a plateau (a rate that it has lowered stays), the
        passes of a loader, and, where other parameters are evaluated than trained (``ema=True``,
        schedule-free optimizers), the batch-norm statistics of these. A run in `checkpoint=` goes on
        with all of it.

        Numbers of the optimizer are in the state, and one that begins with others is refused; another
        rate is set there, ``ts._replace(opt_state=jd.optimizers.set_hyperparams(ts.opt_state, …))``.

        Raises:
          ValueError: a result that was pickled, and does not know it.

        >>> import jax.numpy as jnp, jaxdeep as jd
        >>> x = jnp.linspace(-1, 1, 64)[:, None]
        >>> how = dict(loss=jd.losses.mse, optimizer=jd.optimizers.adam(0.01))
        >>> model, data = jd.nn.dense(1), (x, 3 * x)
        >>> whole = jd.fit(model, data, **how, epochs=4, key=0, progress=False)
        >>> half = jd.fit(model, data, **how, epochs=2, key=0, progress=False)
        >>> rest = jd.fit(model, data, **half.training, epochs=2, progress=False)
        >>> bool((whole.params["kernel"] == rest.params["kernel"]).all())
        True
        """
        if not self.problem.trained_with:
            raise ValueError(
                "this result does not know how it was trained, as one that was pickled: pass the "
                "optimizer, the loss and train_state=result.train_state to jaxdeep.fit"
            )
        how = {**self.problem.minimised, **self.problem.trained_with}
        return {**how, "train_state": self.train_state}

    def evaluate(self, data: PyTree, **options: Any) -> dict[str, Any]:
        """The loss and the metrics of the run on other data: `jaxdeep.evaluate` of what was trained.

        `options` are those of `jaxdeep.evaluate`. ``metrics=`` takes the place of those of the run, and
        an ``objective=`` that of all it minimised.
        """
        minimised = {} if options.get("objective") is not None else self.problem.minimised
        model = self._model("evaluate")
        return evaluate(model, self.params, self.state, data, **{**minimised, **options})

    def predict(self, x: PyTree, **options: Any) -> PyTree:
        """What the trained model puts out for other inputs: `jaxdeep.predict`, which knows the loss.

        `options` are those of `jaxdeep.predict`, such as ``output="class"``.
        """
        loss = self.problem.loss
        return predict(self._model("predict"), self.params, self.state, x, **{"loss": loss, **options})

    def _model(self, name: str) -> Network:
        if self.problem.model is None:
            raise ValueError(
                "this result does not know its model, as one that was pickled: use "
                f"jaxdeep.{name}(model, result.params, result.state, …)"
            )
        return self.problem.model
