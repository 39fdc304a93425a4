"""The progress of a run: a bar in a terminal or notebook, a printed line an epoch elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from jaxdeep._shapes import ArrayLike

T = TypeVar("T")
Report = Callable[[int, Mapping[str, ArrayLike]], None]


def ordered(metrics: Mapping[str, T]) -> dict[str, T]:
    """The metrics in order: the loss, the others, then the validation metrics in the same order.

    >>> list(ordered({"accuracy": 0, "loss": 0, "val_accuracy": 0, "val_loss": 0}))
    ['loss', 'accuracy', 'val_loss', 'val_accuracy']
    """
    place = lambda name: (name.startswith("val_"), not name.endswith("loss"), name)  # noqa: E731
    return {name: metrics[name] for name in sorted(metrics, key=place)}


@contextlib.contextmanager
def compiling(*, show: bool) -> Iterator[None]:
    """Show "compiling …" in a terminal or notebook while the context is open."""
    if show and is_live():
        import rich.console

        with rich.console.Console().status("compiling …"):
            yield
    else:
        yield


@contextlib.contextmanager
def reporting(
    epochs: int, steps_per_epoch: int | None, *, show: bool, title: str = "", begun: int = 0
) -> Iterator[Report]:
    """A function ``report(epochs done, metrics of the last epoch)``, to be called after each segment.

    Without `steps_per_epoch` the speed is not shown. `begun` is the number of epochs that were done
    before, of which the speed knows nothing.
    """
    title = f"{title}: " if title else ""
    if not show:
        yield lambda done, metrics: None
    elif is_live():
        with _bar(epochs, steps_per_epoch, title, begun) as report:
            yield report
    else:
        yield _lines(epochs, steps_per_epoch, title, begun)


def is_live() -> bool:
    """Whether a bar can be drawn: in a terminal or a notebook."""
    import rich.console

    console = rich.console.Console()
    return console.is_terminal or console.is_jupyter


def _lines(epochs: int, steps_per_epoch: int | None, title: str, begun: int) -> Report:
    tick = _pace(epochs, steps_per_epoch, begun)

    def report(done: int, metrics: Mapping[str, ArrayLike]) -> None:
        pace = tick(done)
        parts = [f"{title}epoch {done:>{len(str(epochs))}}/{epochs}", _text(metrics), pace]
        print(*filter(None, parts), sep="  ", flush=True)

    return report


@contextlib.contextmanager
def _bar(epochs: int, steps_per_epoch: int | None, title: str, begun: int) -> Iterator[Report]:
    from rich import console, live, progress, text

    columns = (
        progress.TextColumn(title + "epoch {task.completed}/{task.total}"),
        progress.BarColumn(bar_width=24),
        progress.TextColumn("{task.fields[speed]}"),
    )
    bar, metrics_line = progress.Progress(*columns), text.Text()
    task = bar.add_task("", total=epochs, completed=begun, speed="")
    tick = _pace(epochs, steps_per_epoch, begun)

    def report(done: int, metrics: Mapping[str, ArrayLike]) -> None:
        bar.update(task, completed=done, speed=tick(done))
        metrics_line.plain = f"  {_text(metrics)}"

    with live.Live(console.Group(bar, metrics_line)):
        yield report


def _pace(epochs: int, steps_per_epoch: int | None, begun: int) -> Callable[[int], str]:
    """A function from epochs done to a text of speed and time left, counted from `begun` epochs."""
    began = time.perf_counter()

    def tick(done: int) -> str:
        passed, share = time.perf_counter() - began, max(done - begun, 1)
        left = f"{clock(passed / share * (epochs - done))} left"
        return f"{share * steps_per_epoch / passed:,.0f} steps/s  {left}" if steps_per_epoch else left

    return tick


def _text(metrics: Mapping[str, ArrayLike]) -> str:
    return "  ".join(
        f"{name} {value:.4g}"
        for name, value in ordered(metrics).items()
        if not getattr(value, "shape", ())
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(75.2), clock(3_661)
    ('1:15', '1:01:01')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
