"""``python -m jaxdeep uncertainty``: what a network knows it does not know."""

import argparse
import csv
import sys
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep.cli import arguments
from jaxdeep.cli.networks import classes_of, network

if TYPE_CHECKING:
    from jaxdeep.datasets.dataset import Pair
    from jaxdeep.fitting.result import FitResult
    from jaxdeep.nn import Model
    from jaxdeep.uncertainty import Prediction, Rejection

Row = dict[str, int | float]  # of the table and the files: what is said of a test row, by name

_FILES = ("reliability.png", "reliability_calibrated.png", "rows.csv", "results.json")
_CALIBRATED = ", calibrated"
_MEASURES = {
    "accuracy": "accuracy",
    "calibration_error": "calibration\nerror",
    "negative_log_likelihood": "negative log-\nlikelihood",
    "brier_score": "Brier\nscore",
}


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands,
        "uncertainty",
        _uncertainty,
        "train with dropout and show what Monte Carlo dropout says of the test rows",
    )
    arguments.add_data(parser)
    arguments.add_optimizer(parser)
    arguments.add_learning_rate(parser, "learning rate")
    parser.option("--dropout", 0.2, _share, "P", "share of the units that is dropped")
    parser.option("--samples", 100, arguments.count, "S", "passes of Monte Carlo dropout")
    shown = "how many of the most uncertain rows are printed"
    parser.option("--show", 10, arguments.count, "N", shown)
    arguments.add_epochs(parser, 20)
    arguments.add_batch_size(parser)
    arguments.add_seed(parser, "what the random numbers are drawn from")
    arguments.add_out(parser, "uncertainty")


def _share(text: str) -> float:
    value = arguments.positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1, got {text!r}")
    return value


def _uncertainty(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Train three hidden layers of 100 ReLU units (He initialisation) with dropout before each
    layer, and predict the test rows in one pass and as the mean of many passes with dropout
    on (Monte Carlo dropout), both also at the temperature that calibrates the validation
    rows. Data without test rows are tested on half of their validation rows, calibrated on
    the rest. Prints accuracy, calibration error (15 bins), negative log-likelihood and Brier
    score, and the rows with the highest entropy. Ctrl-C ends training, and what was trained
    until then is measured; results.json says so by "stopped" and "epochs_done". Writes
    reliability.png and reliability_calibrated.png, rows.csv (every test row, the most
    uncertain first) and results.json.

    Examples:
      python -m jaxdeep uncertainty
      python -m jaxdeep uncertainty --dropout 0.5 --samples 500 --epochs 40
      JAXDEEP_DATA=~/data python -m jaxdeep uncertainty --data fashion-mnist --epochs 10
      python -m jaxdeep uncertainty --data mine.npz --show 20 --out runs/unsure
    """
    from jaxdeep import fit, losses, metrics

    data = arguments.load_data(args, parser)
    validation, test = data.validation, data.test
    if test is None:
        x, labels = validation
        if len(labels) < 2:
            parser.error("argument --data: has no test rows, and too few validation rows to split")
        validation, test = (x[::2], labels[::2]), (x[1::2], labels[1::2])
    arguments.make_out(args, parser, _FILES)
    model = network(max(classes_of(data), 1 + int(np.max(test[1]))), dropout=args.dropout)
    training_key, *keys = jax.random.split(jax.random.key(args.seed), 3)
    try:
        result = fit(
            model,
            data.train,
            validation=validation,
            loss=losses.softmax_cross_entropy,
            metrics={"accuracy": metrics.accuracy},
            optimizer=arguments.optimizers()[args.optimizer](args.learning_rate),
            epochs=args.epochs,
            batch_size=args.batch_size,
            key=training_key,
        )
    except BaseException as error:
        arguments.unmake(args.out)
        if not isinstance(error, FloatingPointError):
            raise
        print(f"{arguments.PROG} uncertainty: {arguments.one_line(error)}", file=sys.stderr)
        return 1
    done = len(result.history["loss"])
    if not done:  # interrupted before an epoch was done
        arguments.unmake(args.out)
        raise KeyboardInterrupt
    if result.stopped:
        print(f"{result.stopped} after {done} of {arguments.several(args.epochs, 'epoch')}")
    predicted, temperatures, sampled = _predictions(
        model, result, validation, test[0], args.samples, keys
    )
    about: dict[str, object] = {"stopped": result.stopped, "epochs_done": done}
    _report(predicted, temperatures, sampled, test[1], about, args)
    return 0


def _predictions(
    model: "Model",
    result: "FitResult",
    validation: "Pair",
    x_test: np.ndarray,
    samples: int,
    keys: list[jax.Array],
) -> tuple[dict[str, np.ndarray], dict[str, float], "Prediction"]:
    """Probabilities of the test rows by method, temperatures, and what the samples say of them."""
    from jaxdeep import uncertainty

    params, state, (x, labels) = result.params, result.state, validation
    held_out, sampled = (
        uncertainty.mc_dropout(model, params, state, rows, key, samples=samples, outputs="logits")
        for rows, key in zip((x, x_test), keys)
    )

    def logs(probabilities: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny))

    probabilities, temperatures = {}, {}
    for name, known, logits in (
        ("one pass", result.predict(x), result.predict(x_test)),
        (f"mean of {samples}", logs(held_out.mean), logs(sampled.mean)),
    ):
        temperature = uncertainty.fit_temperature(known, labels)
        scaled = uncertainty.temperature_scale(logits, temperature)
        temperatures[name] = float(temperature)
        probabilities[name] = np.asarray(jax.nn.softmax(logits))
        probabilities[name + _CALIBRATED] = np.asarray(jax.nn.softmax(scaled))
    return probabilities, temperatures, jax.device_get(sampled)


def _report(
    predicted: dict[str, np.ndarray],
    temperatures: dict[str, float],
    sampled: "Prediction",
    labels: np.ndarray,
    about: dict[str, object],
    args: argparse.Namespace,
) -> None:
    """Measure, write and print."""
    from jaxdeep import uncertainty

    measured = {
        name: {
            "accuracy": float(np.mean(np.argmax(p, -1) == labels)),
            "calibration_error": float(uncertainty.expected_calibration_error(p, labels)),
            "negative_log_likelihood": float(uncertainty.negative_log_likelihood(p, labels)),
            "brier_score": float(uncertainty.brier_score(p, labels)),
        }
        for name, p in predicted.items()
    }
    curve = uncertainty.rejection_curve(sampled.mean, labels, sampled.entropy)
    rows = _rows(sampled, labels)
    names = ("data", "optimizer", "learning_rate", "dropout", "samples", "epochs", "batch_size", "seed")
    *pictures, table, everything = (args.out / name for name in _FILES)
    arguments.write_json(
        everything,
        {
            **arguments.about(args, *names),
            **about,
            "rows": len(labels),
            "methods": measured,
            "temperatures": temperatures,
            "rejection": {name: np.asarray(values).tolist() for name, values in curve._asdict().items()},
            "most_uncertain": rows[: args.show],
        },
    )
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    drawn = []
    for picture, is_calibrated in zip(pictures, (False, True)):
        diagrams = {
            name: uncertainty.reliability(p, labels)
            for name, p in predicted.items()
            if name.endswith(_CALIBRATED) == is_calibrated
        }
        drawn += arguments.write_picture(picture, "reliability", diagrams, title=args.data)
    _print(measured, temperatures, rows, curve, args)
    print(f"\nwrote {', '.join(str(path) for path in [*drawn, table, everything])}")


def _rows(sampled: "Prediction", labels: np.ndarray) -> list[Row]:
    """Every row, the most uncertain first."""
    best = np.argmax(sampled.mean, -1)
    return [
        {
            "row": int(i),
            "label": int(labels[i]),
            "predicted": int(best[i]),
            "probability": _short(sampled.mean[i, best[i]]),
            "std": _short(sampled.std[i, best[i]]),
            "entropy": _short(sampled.entropy[i]),
            "mutual_information": _short(sampled.mutual_information[i]),
        }
        for i in np.argsort(-sampled.entropy, kind="stable")
    ]


def _short(value: np.floating) -> float:
    return float(f"{value:.6g}")


def _print(
    measured: dict[str, dict[str, float]],
    temperatures: dict[str, float],
    rows: list[Row],
    curve: "Rejection",
    args: argparse.Namespace,
) -> None:
    import rich.table

    tempered = ", ".join(f"{name}: {value:.2f}" for name, value in temperatures.items())
    table = rich.table.Table(
        title=f"{args.data}: {len(rows):,} test rows, dropout {args.dropout:g}",
        caption=f"calibrated at the temperatures {tempered}",
    )
    table.add_column("prediction")
    for column in _MEASURES.values():
        table.add_column(column, justify="right")
    for name, row in measured.items():
        table.add_row(name, *(f"{row[measure]:.4f}" for measure in _MEASURES))
    shown = rows[: args.show]
    below = rich.table.Table(title=f"the most uncertain of {len(rows):,}")
    for column in shown[0]:
        below.add_column(column.replace("_", "\n"), justify="right")
    for row in shown:
        below.add_row(
            *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()),
            style=None if row["label"] == row["predicted"] else "bold",
        )
    console = arguments.console()
    console.print(table)
    console.print(below)
    accuracy = np.asarray(curve.accuracy)
    tenth = len(rows) // 10
    print(
        f"accuracy of all rows {accuracy[0]:.4f}, without the most uncertain tenth {accuracy[tenth]:.4f}"
    )
