"""What a comparison writes: `results.json`, `trials.csv`, and the winner's model."""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.directory import replaced
from jaxdeep.comparison.record import Record
from jaxdeep.search.tables.result import Result, scalars
from jaxdeep.search.tables.table import Table

FORMAT = 1
_TIMES = ("seconds", "target_seconds")  # of rows, which differ from run to run


def results_of(answer: Record) -> dict[str, Any]:
    """Everything as plain data that JSON holds; what depends on the clock is under "times"."""
    rows = answer.rows()
    timed = {row["candidate"]: {name: row.pop(name) for name in _TIMES if name in row} for row in rows}
    return {
        "format": FORMAT,
        "verdict": answer.verdict,
        "winners": list(answer.winners),
        "cautions": list(answer.cautions),
        "question": dict(answer.about),
        "candidates": rows,
        "values": {name: by_seed.tolist() for name, by_seed in answer.values.items()},
        "test": {
            name: {metric: values.tolist() for metric, values in by_metric.items()}
            for name, by_metric in answer.test.items()
        },
        "pairs": [pair._asdict() for pair in answer.pairs],
        "tuning": _runs(answer.tuning),
        "final": _runs(answer.final),
        "times": timed,
    }


def as_json(value: Any) -> str:
    """JSON of which every reader understands the numbers: NaN and infinities are null and texts."""
    return json.dumps(_plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def trials_csv(answer: Record) -> str:
    """A line for every run: stage, candidate, seed, hyperparameters, how it ended, metrics, seconds."""
    stages = {"tuning": answer.tuning, "final": answer.final}
    hyper = dict.fromkeys(
        name
        for table in stages.values()
        for point in table.points
        for name in point
        if name not in (COLUMN, "seed")
    )
    metrics = dict.fromkeys(
        name
        for table in stages.values()
        for result in table.results
        for name in scalars(result.history)
        if name not in hyper  # a run's learning rate by epoch
    )
    tested = dict.fromkeys(name for by_metric in answer.test.values() for name in by_metric)
    head = ["stage", COLUMN, "seed", *hyper, "ended", "epochs", *metrics]
    head += [*(f"test_{name}" for name in tested), "seconds"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for stage, table in stages.items():
        for point, result in zip(table.points, table.results):
            line = [stage, point[COLUMN], point["seed"], *(point.get(name, "") for name in hyper)]
            line += [result.ended, result.epochs, *(_cell(result.at_end(name)) for name in metrics)]
            by_metric = answer.test.get(point[COLUMN], {}) if stage == "final" else {}
            line += [
                _cell(by_metric[name][point["seed"]]) if name in by_metric else "" for name in tested
            ]
            writer.writerow([*line, f"{_seconds(result):.3f}"])
    return text.getvalue()


def write(answer: Record, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Write `results.json` and `trials.csv` into a folder, which is made if it is missing.

    Each file is replaced when the new one is complete.
    """
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    texts = {"results.json": as_json(results_of(answer)), "trials.csv": trials_csv(answer)}
    return [replaced(path / name, text) for name, text in texts.items()]


def _runs(table: Table) -> list[dict[str, Any]]:
    return [
        {
            **point,
            "ended": result.ended,
            "history": {name: result.history[name].tolist() for name in scalars(result.history)},
        }
        for point, result in zip(table.points, table.results)
    ]


def _seconds(result: Result) -> float:
    return sum(span.end - span.begin for span in result.spans)


def _cell(value: Any) -> Any:
    return "" if math.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else None if math.isnan(number) else str(number)
    return str(value)
