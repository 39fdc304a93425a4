"""`ExecutorRunner`, which gives the rows of a sweep out to the workers of an executor."""

from concurrent import futures
from typing import Any

from jaxdeep.fitting.interruption import Interruption
from jaxdeep.search.records import row_file
from jaxdeep.search.runners.executors import Outside
from jaxdeep.search.runners.worker import Answer, Task
from jaxdeep.search.trial import Group, OnEpochs, Trial

_ATTEMPTS = 4  # a row whose worker has died so many times fails, as it may be what kills them
_MOST_WAITING = 256  # tasks that are out at the same time, if the number of workers is unknown


class ExecutorRunner:
    """Gives the rows of a group out to workers, as many at a time as there may be.

    Args:
      group: the rows.
      outside: the executor.
      at_once: tasks that are given out at a time.
    """

    def __init__(self, group: Group, outside: Outside, *, at_once: int | None) -> None:
        self.group, self.outside = group, outside
        workers = outside.workers
        self.at_once = at_once or (_MOST_WAITING if workers is None else 2 * workers)

    def prepare(self) -> None:
        """Do nothing: each worker compiles its own program."""

    def advance(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, or until an interruption."""
        waiting: list[tuple[Trial, int, bool]] = [(row, 1, False) for row in reversed(rows)]
        open_: dict[Any, tuple[Trial, int, bool]] = {}
        while waiting or open_:
            if interruption.noted:
                waiting.clear()
                for future in [future for future in open_ if future.cancel()]:
                    del open_[future]
            while waiting and len(open_) < self.at_once:
                row, attempt, unknown = waiting.pop()
                open_[self.outside.submit(self._task(row, until, attempt, unknown))] = (
                    row,
                    attempt,
                    unknown,
                )
            if not open_:
                return
            done, _ = futures.wait(open_, timeout=1.0, return_when=futures.FIRST_COMPLETED)
            for future in done:
                row, attempt, _ = open_.pop(future)
                again = self._taken(row, until, attempt, future, on_epochs)
                if again is not None:
                    waiting.append((row, *again))

    def _task(self, row: Trial, until: int, attempt: int, unknown: bool) -> Task:
        run, outside = row.begun(), self.outside
        state = None
        if run is not None:
            state = row_file.contents(row_file.arrays_of(run, None), int(run.epoch))
        recipe = outside.data if unknown else None
        return Task(
            outside.sweep, row.place, until, state, str(outside.at), recipe, outside.cores, attempt
        )

    def _taken(
        self, row: Trial, until: int, attempt: int, future: Any, on_epochs: OnEpochs
    ) -> tuple[int, bool] | None:
        """Take a worker's answer: None if the row has reached `until`, else how to give it out again."""
        try:
            answer = future.result()
        except Exception as error:
            if _is_lost(error) and attempt < _ATTEMPTS:
                return attempt + 1, False
            on_epochs(row.setup.epochs - row.epoch)
            row.fail(error)
            return None
        if not isinstance(answer, Answer):
            raise TypeError(
                "executor must be one of concurrent.futures, or like one: its futures must give "
                f"what the function that was submitted returned, an Answer, got {answer!r}"
            )
        if answer.state is None:
            return attempt, True
        arrays, epoch = row_file.parsed(answer.state)
        row.run = row_file.restored(arrays, epoch, row.shapes, row.setup.room)
        row.worked(answer.worker, answer.began, answer.epochs)
        on_epochs(answer.epochs)
        if bool(row.run.stopped) or epoch == row.setup.epochs:
            row.end()
            on_epochs(row.setup.epochs - epoch)
            return None
        row.pause()
        return None if epoch == until else (1, False)


def _is_lost(error: Exception) -> bool:
    """Whether a worker was lost, as opposed to an error of the row."""
    names = {kind.__name__ for kind in type(error).__mro__}
    lost = {"KilledWorker", "WorkerCrashedError", "CancelledError", "CommClosedError", "NodeFailure"}
    return isinstance(error, futures.BrokenExecutor) or bool(names & lost)
