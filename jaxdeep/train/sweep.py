"""Many runs as one program: hyperparameters and seeds side by side, and the table of what came out."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep.train import stopping
from jaxdeep.train.compiled import compiled
from jaxdeep.train.data import count_examples
from jaxdeep.train.epoch import check_batch_size
from jaxdeep.train.objective import check_pair, rehearse, supervised
from jaxdeep.train.run import make_program
from jaxdeep.train.space import Point, groups, points_of
from jaxdeep.train.state import TrainState, init
from jaxdeep.train.step import check_optimizer

PyTree = Any


def sweep(
    builder: Callable[[dict[str, Any]], Any],
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    seeds: int = 1,
    key: Any = None,
    strategy: str | None = None,
    rows_at_once: int | None = None,
    **arguments: Any,
) -> "Table":
    """Train with every point of `space` and every seed, and tabulate what came out.

    Values that are floats are arguments of one compiled program, whatever their number; all others
    (whole numbers, names, functions) are fixed in it, so that it is compiled once for each of their
    combinations. A row is the run ``jd.fit(…, key=jax.random.key(seed))`` of its point, to rounding.
    Rows that stop early or diverge leave the others alone.

    Args:
      builder: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit` (``optimizer``,
        ``model``, ``loss``, ``batch_size`` …), where `hp` is a point: a dict by name.
      space: a grid, as a dict of lists or arrays by name, or a list of points (`random_points`).
      data: as for `jaxdeep.fit`.
      seeds: runs of each point, with the keys of seeds 0, 1, …
      key: instead of ``jax.random.key(seed)``, seed s runs with ``fold_in(key, s)``.
      strategy: "vmap" runs rows stacked, "threads" one after another in a thread for each core; by
        default "threads" on a CPU, where stacking gains nothing, and "vmap" elsewhere.
      rows_at_once: rows of a stack, to bound its memory; all by default.
      arguments: further arguments of `jaxdeep.fit`: model, loss, metrics, penalty, activity, objective,
        epochs, batch_size, validation, early_stopping, plateau, accumulate, validate_every, shuffle,
        drop_remainder.

    Returns:
      A `Table`.

    Raises:
      ValueError, TypeError: before anything is compiled: an empty space, points of different names, an
        unknown argument, and what `jaxdeep.fit` refuses.

    Source: grid and random search, Bergstra & Bengio (2012).

    >>> import jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = sweep(lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
    ...               {"learning_rate": jnp.array([1e-3, 1e-1])}, seeds=2, model=jd.nn.dense(1),
    ...               data=(x, 3 * x), loss=jd.losses.mse, epochs=3, batch_size=16)
    >>> len(table.rows()), round(table.best("loss")["learning_rate"], 3)
    (4, 0.1)
    """
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    _checks.check_count("seeds", seeds)
    if rows_at_once is not None:
        _checks.check_count("rows_at_once", rows_at_once)
    if strategy not in (None, "vmap", "threads"):
        raise ValueError(f"strategy must be 'vmap', 'threads' or None, got {strategy!r}")
    if key is not None:
        _checks.check_key(key)
    points = points_of(space)
    count_examples(data)
    validation = arguments.pop("validation", None)
    _check_names(arguments)
    if validation is not None:
        count_examples(validation, "validation")
    data, validation = jax.tree.map(jnp.asarray, (data, validation))
    if strategy is None:
        strategy = "threads" if jax.default_backend() == "cpu" else "vmap"

    seed_keys = [jax.random.key(s) if key is None else jax.random.fold_in(key, s) for s in range(seeds)]
    rows = [(point, s) for point in points for s in range(seeds)]
    found: list[Any] = [None] * len(rows)
    for fixed, members in groups(rows):
        _rehearsed(_assembled(builder, rows[members[0]][0], arguments), data, validation)
        one = _one_row(builder, fixed, arguments)
        inputs = [
            ({n: np.float64(v) for n, v in rows[i][0].items() if n not in fixed}, seed_keys[rows[i][1]])
            for i in members
        ]
        if strategy == "threads":
            results = _threads(one, inputs, data, validation)
        else:
            results = _stacked(one, inputs, data, validation, rows_at_once)
        for i, result in zip(members, results):
            found[i] = result
    return Table(tuple({**point, "seed": s} for point, s in rows), tuple(found))


@dataclasses.dataclass(frozen=True)
class Table:
    """What a `sweep` found: a row for each run.

    Attributes:
      points: hyperparameters and seed of each row.
      results: for each row, parameters, state, history, epochs done, whether it diverged.

    >>> len(Table((), ()).rows())
    0
    """

    points: tuple[dict[str, Any], ...]
    results: tuple[dict[str, Any], ...] = dataclasses.field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """Each run as a flat dict: its point, "epochs", "diverged", and its metrics at the end.

        The end is the last epoch, or the best one where early stopping restored it.
        """
        return [_row(point, result) for point, result in zip(self.points, self.results)]

    def best(self, metric: str, mode: str | None = None) -> dict[str, Any]:
        """The row with the best `metric`; `mode` is "min" or "max", known for usual names.

        Raises:
          ValueError: an unknown metric, a name that does not say which is better, no row that is finite.
        """
        rows = self.rows()
        config = stopping.EarlyStopping(monitor=metric, mode=mode)
        if not self.results:
            raise ValueError("the table has no rows")
        first = {name: values[0] for name, values in self.results[0]["history"].items()}
        _, sign = stopping.resolve(config, first)
        finite = [row for row in rows if not row["diverged"] and np.isfinite(row[metric])]
        if not finite:
            raise ValueError(f"no row has a finite {metric}")
        return min(finite, key=lambda row: sign * row[metric])

    def over_seeds(self) -> list[dict[str, Any]]:
        """For each point: "runs", and mean and standard deviation of every metric, over its seeds."""
        grouped: dict[Any, list[dict[str, Any]]] = {}
        for point, row in zip(self.points, self.rows()):
            place = tuple((n, repr(v)) for n, v in point.items() if n != "seed")
            grouped.setdefault(place, []).append(row)
        found = []
        for rows in grouped.values():
            own = {n: v for n, v in rows[0].items() if n in self.points[0] and n != "seed"}
            for name in self._metrics():
                values = [row[name] for row in rows]
                own[f"{name}_mean"] = float(np.mean(values))
                own[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
            found.append({**own, "runs": len(rows)})
        return found

    def history(self, row: int) -> dict[str, np.ndarray]:
        """One value an epoch of every metric of a row."""
        result = self.results[row]
        return {name: values[: result["epochs"]] for name, values in result["history"].items()}

    def params(self, row: int) -> tuple[PyTree, PyTree]:
        """Parameters and state of a row."""
        return self.results[row]["params"], self.results[row]["state"]

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`.

        Raises:
          ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(self.rows())

    def _metrics(self) -> list[str]:
        return [n for n, v in self.results[0]["history"].items() if v.ndim == 1]


_SUPERVISED = ("loss", "metrics", "penalty", "activity")
_DEFAULTS: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 32,
    "shuffle": True,
    "drop_remainder": False,
    "accumulate": 1,
    "early_stopping": None,
    "plateau": None,
    "validate_every": 1,
}
_FIT = ("model", "optimizer", "objective", *_SUPERVISED, *_DEFAULTS)


def _check_names(arguments: Point) -> None:
    unknown = set(arguments) - set(_FIT)
    if unknown:
        raise TypeError(f"unknown arguments {sorted(unknown)}; there are {', '.join(_FIT)}")


class _Run(NamedTuple):
    """What a point is trained with."""

    model: Any
    optimizer: Any
    objective: Any
    pairs: bool
    options: dict[str, Any]

    def start(self, data: PyTree, key: Any) -> TrainState:
        """A fresh train state, for data of these shapes."""
        inputs = data[0] if self.pairs else jax.tree.leaves(data)[0]
        return init(self.model, self.optimizer, jax.tree.map(lambda a: a[:1], inputs), key=key)


def _assembled(builder: Callable[[dict[str, Any]], Any], point: Point, arguments: Point) -> _Run:
    built = builder(dict(point))
    given = dict(arguments) | (dict(built) if isinstance(built, Mapping) else {"optimizer": built})
    _check_names(given)
    model, optimizer, objective = (given.get(n) for n in ("model", "optimizer", "objective"))
    if model is None or optimizer is None:
        raise ValueError("sweep needs a model= and an optimizer from the builder")
    check_optimizer(optimizer)
    if (objective is None) == (given.get("loss") is None):
        raise ValueError("sweep needs a loss=, or an objective= for anything not supervised, not both")
    options = _DEFAULTS | {n: given[n] for n in _DEFAULTS if n in given}
    if objective is not None:
        return _Run(model, optimizer, objective, False, options)
    supervised_by = {n: given[n] for n in _SUPERVISED if n in given}
    return _Run(model, optimizer, supervised(model, **supervised_by), True, options)


def _rehearsed(run: _Run, data: PyTree, validation: PyTree) -> None:
    """Refuse what `jaxdeep.fit` refuses of data, whose values are known here and not in a trace."""
    check_batch_size(run.options["batch_size"], count_examples(data))
    if not run.pairs:
        return
    ts = None
    for name, given in (("data", data), ("validation", validation)):
        if given is not None:
            check_pair(given, name)
            ts = ts or jax.eval_shape(lambda key: run.start(data, key), jax.random.key(0))
            rehearse(run.objective, ts, given, name)


def _one_row(
    builder: Callable[[dict[str, Any]], Any], fixed: Point, arguments: Point
) -> Callable[..., dict[str, Any]]:
    """The whole run of a row as a pure function ``(floats, key, data, validation) -> result``."""

    def one(floats: dict[str, Any], key: Any, data: PyTree, validation: PyTree) -> dict[str, Any]:
        row = _assembled(builder, {**fixed, **floats}, arguments)
        program = make_program(row.objective, row.optimizer, on_nonfinite="stop", **row.options)
        run = program.start(row.start(data, key), data, validation)
        run = program.segment(run, data, validation, row.options["epochs"])
        ts, history = program.finish(run)
        early = row.options["early_stopping"]
        end = run.decisions.best_epoch if early and early.restore_best else run.epoch - 1
        return {
            "params": ts.params,
            "state": ts.state,
            "history": history,
            "epochs": run.epoch,
            "end": jnp.maximum(end, 0),
            "diverged": run.bad_step >= 0,
        }

    return one


def _threads(
    one: Callable[..., dict[str, Any]],
    inputs: list[tuple[dict[str, Any], Any]],
    data: PyTree,
    validation: PyTree,
) -> list[dict[str, Any]]:
    """Rows in threads, each on a core of its own."""
    inputs = [(_arrays(floats), key) for floats, key in inputs]
    program = compiled(one, *inputs[0], data, validation)

    def run(each: tuple[dict[str, Any], Any]) -> dict[str, Any]:
        return _on_host(jax.device_get(program(*each, data, validation)))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(run, inputs))


def _stacked(
    one: Callable[..., dict[str, Any]],
    inputs: list[tuple[dict[str, Any], Any]],
    data: PyTree,
    validation: PyTree,
    rows_at_once: int | None,
) -> list[dict[str, Any]]:
    """Rows stacked by `jax.vmap`; stacks have one size, the last is filled up."""
    size = min(rows_at_once or len(inputs), len(inputs))
    stacked = jax.vmap(one, in_axes=(0, 0, None, None))
    program, found = None, []
    for first in range(0, len(inputs), size):
        part = inputs[first : first + size]
        full = part + part[:1] * (size - len(part))
        floats = _arrays({n: np.stack([f[n] for f, _ in full]) for n in full[0][0]})
        keys = jnp.stack([key for _, key in full])
        program = program or compiled(stacked, floats, keys, data, validation)
        results = jax.device_get(program(floats, keys, data, validation))
        found += [_on_host(jax.tree.map(lambda a, i=i: a[i], results)) for i in range(len(part))]
    return found


def _arrays(floats: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in floats.items()}


def _on_host(result: dict[str, Any]) -> dict[str, Any]:
    numbers = {"epochs": int(result["epochs"]), "end": int(result["end"])}
    return {**result, **numbers, "diverged": bool(result["diverged"])}


def _row(point: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        name: float(history[result["end"]])
        for name, history in result["history"].items()
        if history.ndim == 1 and name not in point
    }
    return {**point, "epochs": result["epochs"], "diverged": result["diverged"], **values}
