"""Runs for TensorBoard."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.event_files import Scalars, append, histogram, new_file, on_file, protocol, scalars
from jaxdeep.train.records import scalars_of
from jaxdeep.train.state import TrainState
from jaxdeep.tree import Where, check_where, leaf_paths, mask

if TYPE_CHECKING:
    from jaxdeep.fitting.fit import Epochs

Gradients = Callable[[TrainState], PyTree]
Distribution = tuple[str, np.ndarray]  # (path, values)
_RUNS = ("train", "validation")


def to_tensorboard(
    logdir: str | os.PathLike[str],
    *,
    histograms: bool | Where = False,
    gradients: Gradients | None = None,
) -> Callable[["Epochs"], None]:
    """A callback for `jaxdeep.fit` that writes what ``tensorboard --logdir runs`` shows.

    As with Keras there are two runs, ``logdir/train`` and ``logdir/validation``, so that TensorBoard
    draws a metric and its ``val_`` counterpart in one chart: the chart "loss" has `loss` of the one run
    and `val_loss` of the other. The step is the number of the epoch, from 1 on. TensorBoard groups names
    by what is in front of a ``/``. An entry of the history with several values has a chart for each,
    ``name/0``, ``name/1`` and so on. NaN, which stands between two evaluations, is left out.

    A run that is resumed from a checkpoint continues in the folder: epochs whose values are there
    already, bit for bit, are not written again. What another run has left there is void, and hidden by
    TensorBoard, from the first epoch on that differs; give every run a folder of its own to see both.

    Args:
      logdir: the run's folder, made if missing.
      histograms: whether the distributions of parameters, and of the model's state (the statistics of
        batch norms), are written too, by path, after each call of the compiled program: True for all of
        them, or a selector for some (`jaxdeep.tree.mask`), of which a pytree of booleans is of the
        parameters.
      gradients: a function of the train state (`jaxdeep.train.TrainState`) that returns gradients like
        the parameters, of a batch that you choose; their distributions are written beside, as
        ``gradients/hidden/kernel``. It is called after each call of the compiled program.

    Raises:
      ImportError: tensorboardX is not installed (``pip install 'jaxdeep[tensorboard]'``).
      TypeError: a `logdir` that is not a path, `gradients` that are no function, or return something
        else when they are called. OSError: the folder cannot be made.

    Source: Keras' `TensorBoard` callback; TensorFlow's event files, written by tensorboardX.

    >>> import jaxdeep as jd, tempfile
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = jd.fit(jd.nn.dense(1), (x, 3 * x), loss=jd.losses.mse, validation=(x, 3 * x),
    ...                     optimizer=jd.optimizers.sgd(0.1), epochs=3, key=jax.random.key(0),
    ...                     callbacks=[to_tensorboard(folder)], progress=False)
    ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
    ['train', 'validation']
    """
    protocol()
    if not isinstance(logdir, (str, os.PathLike)):
        raise TypeError(f"logdir must be a path, got {logdir!r}")
    _checks.check_local_path("logdir", logdir)
    folder = pathlib.Path(logdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(histograms, bool):
        check_where(histograms)
    _checks.check_functions(gradients=gradients)
    files: dict[str, pathlib.Path | None] = {}  # None is one that is made with its first event
    written = 0

    def begin(now: "Epochs") -> int:
        """Begin new files, and return how many epochs the old ones hold; more is void."""
        files.clear()
        known = {run: on_file(folder / run) for run in _RUNS}
        same = 0
        while same < now.epoch and _values(now.history, same) == _held(known, same):
            same += 1
        for run in _RUNS:
            if run == "train" or known[run] or any(name.startswith("val_") for name in now.history):
                purged = same + 1 if max(known[run], default=0) > same else None
                (folder / run).mkdir(exist_ok=True)
                files[run] = None if purged is None else new_file(folder / run, purged)
        return same

    def write(now: "Epochs") -> None:
        nonlocal written
        if now.metrics:  # within an epoch
            return
        chosen = _chosen(now.train_state, histograms)
        if gradients is not None:
            of_batch = gradients(now.train_state)
            _check_gradients(of_batch, now.train_state.params)
            chosen += _distributions(of_batch, "gradients/")
        if jax.process_index():
            return
        if not files or now.epoch <= written:  # the callback has been given to another run
            written = begin(now)
        unwritten = [(epoch + 1, _values(now.history, epoch)) for epoch in range(written, now.epoch)]
        for run, known in [*files.items()]:
            events = [scalars(step, values[run]) for step, values in unwritten if values[run]]
            events += [histogram(now.epoch, *named) for named in chosen if run == "train"]
            if events:
                files[run] = file = known or new_file(folder / run, None)
                append(file, events)
        written = now.epoch

    return write


def _values(history: Mapping[str, np.ndarray], epoch: int) -> dict[str, Scalars]:
    """What is written of an epoch, counted from 0, by run."""
    by_run: dict[str, Scalars] = {run: {} for run in _RUNS}
    for name, value in scalars_of(history, epoch).items():
        run = "validation" if name.startswith("val_") else "train"
        by_run[run][name.removeprefix("val_")] = np.float32(value)
    return by_run


def _held(known: Mapping[str, Mapping[int, Scalars]], epoch: int) -> dict[str, Scalars]:
    """What the files hold of an epoch, in the same form."""
    return {run: steps.get(epoch + 1, {}) for run, steps in known.items()}


def _chosen(ts: TrainState, histograms: bool | Where) -> list[Distribution]:
    """The parameters, and the leaves of the model's state, whose distributions are wanted."""
    if histograms is False:
        return []
    both = [*_distributions(ts.params), *_distributions(ts.state)]
    if histograms is True:
        return both
    if callable(histograms) or isinstance(histograms, str) or _are_globs(histograms):
        leaves = dict(zip(leaf_paths(ts.params), jax.tree.leaves(ts.params)))
        leaves |= dict(zip(leaf_paths(ts.state), jax.tree.leaves(ts.state)))
        wanted: dict[str, bool] = mask(leaves, histograms)
    else:
        wanted = dict(zip(leaf_paths(ts.params), jax.tree.leaves(mask(ts.params, histograms))))
    return [(path, values) for path, values in both if wanted.get(path, False)]


def _check_gradients(found: PyTree, params: PyTree) -> None:
    """Refuse what is not like the parameters, of which some may be left out."""
    known = dict(zip(leaf_paths(params), map(jnp.shape, jax.tree.leaves(params))))
    leaves = dict(zip(leaf_paths(found), jax.tree.leaves(found)))
    wrong = [repr(found)] if known and not leaves else []
    for path, leaf in leaves.items():
        shape = getattr(leaf, "shape", None)
        if shape is None or known.get(path) != shape:
            shown = repr(leaf) if shape is None else f"an array of shape {shape}"
            wrong.append(f"{shown} at {path!r}" if path else shown)
    if wrong:
        raise TypeError(
            "gradients must return an array like each parameter, in the structure of "
            f"train_state.params, got {wrong[0]}"
        )


def _are_globs(where: object) -> bool:
    return isinstance(where, (list, tuple)) and all(isinstance(one, str) for one in where)


def _distributions(tree: PyTree, prefix: str = "") -> list[Distribution]:
    """The finite values of the leaves of floats, by path."""
    from jaxdeep.fitting.placement import fetched

    distributions = []
    for path, leaf in zip(leaf_paths(tree), jax.tree.leaves(tree)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            values = fetched(leaf).astype(np.float32).ravel()
            values = values[np.isfinite(values)]
            if values.size:
                distributions.append((prefix + path, values))
    return distributions
