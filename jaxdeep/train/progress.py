"""What a run shows while it goes: a bar in a terminal or notebook, a line an epoch elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

Report = Callable[[Mapping[str, float]], None]


@contextlib.contextmanager
def reporting(epochs: int, steps_per_epoch: int, *, show: bool, title: str = "") -> Iterator[Report]:
    """A function to call with the metrics at the end of each epoch."""
    title = f"{title}: " if title else ""
    if not show:
        yield lambda metrics: None
        return
    import rich.console

    console = rich.console.Console()
    if console.is_terminal or console.is_jupyter:
        with _bar(console, epochs, steps_per_epoch, title) as report:
            yield report
    else:
        yield _lines(epochs, steps_per_epoch, title)


def _lines(epochs: int, steps_per_epoch: int, title: str) -> Report:
    done, began = 0, time.perf_counter()

    def report(metrics: Mapping[str, float]) -> None:
        nonlocal done
        done += 1
        passed = time.perf_counter() - began
        left = passed / done * (epochs - done)
        print(
            f"{title}epoch {done:>{len(str(epochs))}}/{epochs}  {_text(metrics)}  "
            f"{done * steps_per_epoch / passed:,.0f} steps/s  {_clock(left)} left",
            flush=True,
        )

    return report


@contextlib.contextmanager
def _bar(console, epochs: int, steps_per_epoch: int, title: str) -> Iterator[Report]:  # type: ignore[no-untyped-def]
    from rich import progress

    columns = (
        progress.TextColumn(title + "epoch {task.completed}/{task.total}"),
        progress.BarColumn(bar_width=24),
        progress.TextColumn("{task.fields[metrics]}"),
        progress.TextColumn("{task.fields[speed]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=epochs, metrics="compiling …", speed="")
        began = time.perf_counter()
        done = 0

        def report(metrics: Mapping[str, float]) -> None:
            nonlocal done
            done += 1
            speed = done * steps_per_epoch / (time.perf_counter() - began)
            bar.update(task, advance=1, metrics=_text(metrics), speed=f"{speed:,.0f} steps/s")

        yield report


def _text(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
