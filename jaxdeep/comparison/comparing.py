"""`compare`: which candidate is best on these data, and how sure that is."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._shapes import PyTree
from jaxdeep.comparison.answer import Comparison, answered
from jaxdeep.comparison.directory import check_asked
from jaxdeep.comparison.plan import planned
from jaxdeep.comparison.protocol import carried_out
from jaxdeep.search.builder import PURE
from jaxdeep.search.options import HowOptions
from jaxdeep.search.runners.executors import Executor
from jaxdeep.train.options import RowOptions, filled, takes


@takes(RowOptions, but=("optimizer", "plateau", "early_stopping"))
@meant_transfers()
def compare(
    candidates: Mapping[str, Any] | Sequence[str],
    *,
    data: PyTree,
    test: PyTree | float | None = None,
    metric: str | None = None,
    mode: str | None = None,
    budget: int = 16,
    seeds: int = 10,
    schedule: Any = "constant",
    worth: float = 0.0,
    target: float | None = None,
    level: float = 0.95,
    seed: int = 0,
    strategy: str | None = None,
    rows_at_once: int | None = None,
    memory: int | None = None,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **arguments: Unpack[RowOptions],
) -> Comparison:
    """Which optimizer, or which candidate of any kind, is best here, and how sure that is.

    Every candidate is tuned with the same budget, `budget` trials of all epochs, in a space of its own:
    the first trial is what the field uses untuned, the others are a scrambled Sobol' sequence. The best
    trial on the validation rows is chosen, trained anew with `seeds` fresh seeds, and judged once on the
    test rows, which nothing before has seen. All candidates have the same initial networks and the same
    order of data for each seed, so that differences are of pairs, and vary less than the values.

    A candidate wins if it is better than each other one: the p-value of the differences, of the exact
    sign-flip test (or of Student's, where the seeds are too few for the number of pairs), is below
    ``1 − level`` after Holm's adjustment for all pairs, and their mean is above `worth`. Otherwise the
    verdict names those that cannot be told apart, and about how many more seeds would. In simulations
    one that leads all others by two standard deviations of the differences is named with 10 seeds always
    among two, in 97 % among four and in 76 % among eight; with 15 seeds in 99 % among eight.

    The answer holds for this network, these data, this budget, these epochs and this schedule. It says
    nothing of others.

    Args:
      candidates: names of optimizers (`jaxdeep.comparison.names`), or a dict by name of such names, of
        functions of a learning rate such as `jaxdeep.optimizers.adam`, of pairs ``(build, space)``, of
        optimizers or dicts of arguments of `jaxdeep.fit` (which are not tuned), or of
        `jaxdeep.comparison.Candidate`.
      data: ``(x, y)`` or ``(x, y, weights)``, or a `jaxdeep.datasets.Dataset`, which has parts.
      test: data like these, or a share of their rows, which judge the chosen points. By default it is
        0.2, as is `validation`, where the data set has no such part. Parts that are drawn have the
        classes in equal shares.
      metric: what decides, the name of a metric or "loss"; by default the first metric. The test loss is
        without penalties. Candidates with a loss or a penalty of their own need another metric than it.
      mode: "min" or "max", which of its values are better; by default as the name says.
      budget: trials of each candidate.
      seeds: final runs of each candidate, ≥ 2. Below 6 nothing is sure; 10 is what others use.
      schedule: of the learning rate, for all that have one: "constant", "cosine", "one-cycle",
        "exponential", "performance" (a plateau of the validation metric), or a function ``(peak, steps)
        -> schedule``. The tuned rate is its peak.
      worth: the smallest difference that matters, in units of the metric, ≥ 0.
      target: a value of the metric, to which epochs and seconds are counted on the validation rows; by
        default the median of the first candidate's final runs.
      level: of confidence.
      seed: of the parts, the trials, and the keys of tuning and final runs.
      strategy, rows_at_once, memory, executor: as for `jaxdeep.sweep`.
      checkpoint: a directory from which the comparison goes on when it is called again. The budget and
        the seeds may have grown, the budget as far as no more hyperparameters are tuned (they are from
        10, 25 and 64 trials on); so may the epochs, if the schedule is constant; and candidates may have
        been added. What values are judged by (`metric`, `mode`, `worth`, `level`, `target`) may differ,
        since it changes no run. Whatever else differs is refused.
      progress: show progress bars.
      {options}

    Returns:
      A `jaxdeep.comparison.Comparison`: print it, or see ``verdict``, ``table()``, ``rows()``.

    Raises:
      ValueError, TypeError: before anything is compiled: an unknown optimizer (the nearest name is
        given), a metric that does not exist, an argument that is out of range, and what `jaxdeep.sweep`
        refuses.
      KeyboardInterrupt: Ctrl-C. What has ended is in `checkpoint`.

    Source: Choi et al. (arXiv:1910.05446) on tuning; Schmidt et al. (arXiv:2007.01547); Bouthillier et
    al. (arXiv:2103.03098) on variance; Holm (1979).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(0), (120, 3)); y = x @ jnp.array([1.0, -1.0, 0.5])
    >>> answer = compare(["sgd", "adam"], model=jd.nn.dense(1), data=(x, y), loss=jd.losses.mse,
    ...                  budget=2, seeds=2, epochs=2, progress=False)
    >>> answer.metric, answer.mode, [len(values) for values in answer.values.values()]
    ('loss', 'min', [2, 2])
    """
    check_untraced("compare", [data, test, arguments.get("validation")], instead=PURE)
    shared: dict[str, Any] = dict(arguments)
    validation = shared.pop("validation", None)
    for name in ("optimizer", "plateau"):
        if name in shared:
            raise TypeError(f"{name} is what candidates and schedule= decide; compare takes none")
    if shared.get("model") is None and not isinstance(candidates, Mapping):
        raise ValueError("compare needs a model=")
    plan = planned(
        candidates,
        data=data,
        validation=validation,
        test=test,
        metric=metric,
        mode=mode,
        budget=budget,
        seeds=seeds,
        schedule=schedule,
        worth=worth,
        level=level,
        target=target,
        seed=seed,
        shared=shared,
    )
    how: dict[str, Any] = {
        "strategy": strategy,
        "rows_at_once": rows_at_once,
        "memory": memory,
        "executor": executor,
        "progress": progress,
    }
    filled("compare", HowOptions, {**how, "checkpoint": checkpoint})
    path = None if checkpoint is None else pathlib.Path(checkpoint).expanduser().resolve()
    if path is not None:
        check_asked(plan, path)
    return answered(plan, carried_out(plan, how, path))
