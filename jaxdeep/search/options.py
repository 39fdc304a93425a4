"""What `jaxdeep.sweep` and the searches that are sweeps take alike, written once (`train.options`)."""

import contextlib
import os
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict, cast

import jax

from jaxdeep import _checks
from jaxdeep.fitting.logs import KnowsItsEnd, listed
from jaxdeep.search.runners import executors
from jaxdeep.search.runners.executors import Executor
from jaxdeep.train.options import Log, Option, RowOptions, check_logs, documented


def _logs(name: str, value: object) -> None:
    try:
        check_logs(name, value, "step", "row")
    except TypeError as error:
        with contextlib.suppress(TypeError):
            check_logs(name, value, "step")
            # in a file that has its steps in order, the rows would take the place of each other
            is_file = any(isinstance(log, KnowsItsEnd) for log in listed(cast(Any, value)))
            error = TypeError(f"{error}. {_FILES if is_file else f'{_FILES}, {_FUNCTION}'}")
        raise error from None


_FILES = (
    "A log of one run is made for each row, lambda values, step, row: "
    "jaxdeep.adapters.to_csv(f'{row.name}.csv')(values, step=step)"
)
_FUNCTION = (
    "or told the row among the values, lambda values, step, row: "
    "log({**values, 'row': row.name}, step=step)"
)


@documented
class HowOptions(TypedDict, total=False):
    """How often points are run, by whom, and what is kept.

    Attributes:
      seeds: number of runs of each point, whose seeds count from 0.
      key: instead of ``jax.random.key(seed)``, seed s runs with ``fold_in(key, s)``.
      strategy: "vmap" runs rows stacked and spread over all local devices. "threads" runs them one after
        another in a thread for each core of a CPU or for each accelerator. If it is None it is "threads"
        on a CPU, where stacking gains nothing, and "vmap" elsewhere.
      rows_at_once: at most this many rows in a stack on each device, or this many threads.
      memory: bytes on each device for the data and the rows that run at once. By default it is what is
        free, if the device says so (a CPU does not).
      executor: who runs the rows, in place of threads of this process: whatever has ``submit`` as the
        executors of `concurrent.futures` do, such as a `ProcessPoolExecutor` whose processes are
        spawned, or Dask's ``client.get_executor()``. It is not shut down. Workers are told of the
        builder, the arguments and the data once; what they are given then is the number of a row and
        the epoch to go to. Rows of a worker that is lost run again. The table is that of threads.
      checkpoint: a local directory, from which the sweep goes on when it is called again after it was
        killed, in whatever moment: to the same table, bit for bit. No row that had ended is trained
        again, and the others go on from the last epoch or rung that was saved. Points, seeds and epochs
        may be more than before (with a `sampler`, points alone); whatever else differs is refused. Where
        more points end fewer of them late, those that went further keep what they have. The
        directory holds a journal of JSON lines and the states of rows. A power cut may cost the last
        five seconds, whose rows are trained again. Values of points must have a name that lasts, so
        that functions must be those of a module. Data are known by a checksum; of arrays above 256 MB
        it is that of 4,096 rows, evenly spread, so that a change between these is not noticed. Another
        process is refused there meanwhile.
      keep_params: the number of rows that keep their parameters after their end, the best by the metric
        of `halving` or `early_stopping`, or else by the loss (of the validation data, if there are any);
        all by default. Where `epochs` grow, the others begin anew.
      retry_errors: run rows again that ended with an error in an earlier call.
      log: a function ``(values, step=…, row=…)``, or a list of them, that is told of every epoch of
        every row: a dict of floats by name, as in `jaxdeep.fit`, the number of the epoch, from 1 on, and
        a `jaxdeep.search.LoggedRow`, whose ``row.point`` are its hyperparameters and seed, and
        ``row.name`` these in words. It is called on the host, one call at a time, in the order of a
        row's epochs; rows take turns. With a `checkpoint` epochs are told once the state after them is
        on the disk, and none is told again when the sweep goes on; a log with a method
        ``last_step(row)`` is told of those that it lacks, such as the last before a kill. An error that
        it raises ends the sweep.
      progress: show a progress bar, or print lines without a terminal.
    """

    seeds: Annotated[int, Option(1, _checks.check_count)]
    key: Annotated[jax.Array | int | None, Option(None, lambda name, key: _checks.as_key(key))]
    strategy: Annotated[
        str | None,
        Option(None, lambda name, value: _checks.check_choice(name, value, ("vmap", "threads", None))),
    ]
    rows_at_once: Annotated[int | None, Option(None, _checks.check_count)]
    memory: Annotated[int | None, Option(None, _checks.check_count)]
    executor: Annotated[Executor | None, Option(None, lambda name, value: executors.check(value))]
    checkpoint: Annotated[str | os.PathLike[str] | None, Option(None, _checks.check_local_path)]
    keep_params: Annotated[int | None, Option(None, _checks.check_count)]
    retry_errors: Annotated[bool, Option(False, _checks.check_flag)]
    log: Annotated[Log | Sequence[Log] | None, Option(None, _logs)]
    progress: Annotated[bool, Option(True, _checks.check_flag)]


@documented
class SweepOptions(HowOptions, RowOptions, total=False):
    """How rows are run and kept, and the arguments that all of them have in common."""
