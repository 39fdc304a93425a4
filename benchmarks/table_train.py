"""The commands train and predict on a table of 30 mixed columns, beside pandas and scikit-learn.

    python -m benchmarks.table_train --rounds 3 --out benchmarks/results/table_train
    python -m benchmarks.table_train --rows 2000 --long 5000 20000 --rounds 1  # a try

A generated table (fixed seed): 12 columns of numbers, 10 of categories with 2 to 200 levels, 4 of
booleans and 4 of dates, all with holes; two classes. A round trains each contender on 50,000 rows in a
CSV file, saves it, and lets it predict 10,000 others from a file to a file, each in a process of its
own, whose time and peak memory are measured from outside. The score is the accuracy of those
predictions. ``scikit-learn`` reads with pandas, imputes, scales and encodes in a `ColumnTransformer`
(numbers of the dates are made by hand) and fits an `MLPClassifier` of the same two layers of 100, with
early stopping by the same share of the rows and the same patience, in its own batches of 200.
Memory is the peak of the process, that of one which only imports what is used, and the difference in
sizes of the table in pandas, which are given for strings of Python and, about a third of it, for those
of pyarrow. What compiling takes, or loading what was compiled, shows in the peaks of train on 560 rows,
without and with the programs in the cache. Last, train reads 500,000 rows for two epochs, and predict
files of 100,000 and of a million rows.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.throughput import versions

COLUMNS = {"number": 12, "category": 10, "boolean": 4, "date": 4}
LEVELS = (2, 3, 4, 5, 6, 8, 12, 30, 80, 200)
BLOCK = 50_000
TRAIN = ("-m", "jaxdeep", "train", "--target", "y", "--drop", "id", "--test", "0")
FEW = 560  # rows, which take no memory, for programs of full batches but for the last of validation


# --- the table ------------------------------------------------------------------------------------


def block(rows, first, seed=0):
    """Rows of the table from number `first` on as texts of a CSV file, by name."""
    effects = np.random.default_rng(seed)
    weights = effects.normal(size=12)
    of_level = [effects.normal(size=levels) for levels in LEVELS]
    rng = np.random.default_rng((seed, first))
    numbers = rng.normal(size=(rows, 12))
    codes = [rng.integers(0, levels, rows) for levels in LEVELS]
    truths = rng.random((rows, 4)) < 0.4
    days = rng.integers(0, 1500, (rows, 4))
    score = numbers @ weights + sum(own[code] for own, code in zip(of_level, codes))
    score += 2 * numbers[:, 0] * numbers[:, 1] + 1.5 * np.where(truths[:, 0], numbers[:, 2], 0)
    score += np.sin(2 * np.pi * days[:, 0] / 365.25) * 2 + 1.5 * rng.normal(size=rows)

    def holed(texts):
        return np.where(rng.random(rows) < 0.05, "", texts).tolist()

    columns = {"id": [f"r{number:08}" for number in range(first, first + rows)]}
    for i in range(12):
        values = 10.0 ** (i % 4) * (np.exp(numbers[:, i]) if i % 3 == 2 else numbers[:, i] + i)
        columns[f"number_{i}"] = holed(np.char.mod("%.5g", values))
    for i, code in enumerate(codes):
        columns[f"category_{i}"] = holed(np.char.add(f"level {i}-", code.astype(str)))
    for i in range(4):
        columns[f"boolean_{i}"] = holed(np.where(truths[:, i], "true", "false"))
        columns[f"date_{i}"] = holed((np.datetime64("2020-01-01") + days[:, i]).astype(str))
    columns["y"] = np.where(score > 0, "yes", "no").tolist()
    return columns


def write(path, rows, first=0):
    """A CSV file of so many rows, in blocks."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for start in range(first, first + rows, BLOCK):
            columns = block(min(BLOCK, first + rows - start), start)
            if start == first:
                writer.writerow(columns)
            writer.writerows(zip(*columns.values()))


# --- the contender, in processes of its own -------------------------------------------------------


def frame_of(path):
    """The table as pandas reads it, with numbers in place of dates."""
    import pandas as pd

    frame = pd.read_csv(path, parse_dates=[f"date_{i}" for i in range(4)])
    for i in range(4):
        days = frame.pop(f"date_{i}")
        frame[f"date_{i}"] = (days - pd.Timestamp("2020-01-01")).dt.days
        angle = 2 * np.pi * days.dt.day_of_year / 365.25
        frame[f"date_{i}_sin"], frame[f"date_{i}_cos"] = np.sin(angle), np.cos(angle)
    for i in range(4):
        frame[f"boolean_{i}"] = frame[f"boolean_{i}"].map({True: "true", False: "false"})
    return frame


def train_by_sklearn(data, out):
    import joblib
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = frame_of(data)
    y = frame.pop("y")
    frame = frame.drop(columns="id")
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    network = MLPClassifier(
        (100, 100),
        max_iter=100,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=10,
        random_state=0,
    )
    model = make_pipeline(columns, network).fit(frame, y)
    joblib.dump(model, out)


def predict_by_sklearn(model, data, out):
    import joblib
    import pandas as pd

    model, frame = joblib.load(model), frame_of(data)
    probabilities = model.predict_proba(frame)
    found = {"id": frame["id"], "prediction": model.classes_[probabilities.argmax(axis=1)]}
    pd.DataFrame(found | dict(zip(model.classes_, probabilities.T))).to_csv(out, index=False)


def size_in_pandas(data):
    import pandas as pd

    for storage in ("python", "pyarrow"):
        with pd.option_context("mode.string_storage", storage):
            print(int(pd.read_csv(data).memory_usage(deep=True).sum()))


# --- measuring --------------------------------------------------------------------------------------


# A small process between, since the peak of a process begins with that of the one that starts it.
_BETWEEN = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]])
_, status, usage = os.wait4(process.pid, 0)
found = {"seconds": time.perf_counter() - began, "peak": usage.ru_maxrss, "status": status}
print(json.dumps(found), file=sys.stderr)
"""


def run(*command, out=subprocess.DEVNULL):
    """Seconds and the peak of memory in MiB of a command, seen from outside."""
    arguments = [sys.executable, "-c", _BETWEEN, *map(str, command)]
    ended = subprocess.run(arguments, stdout=out, stderr=subprocess.PIPE, text=True, check=True)
    found = json.loads(ended.stderr.splitlines()[-1])
    if found.pop("status"):
        sys.exit(f"{' '.join(map(str, command))} has failed: {ended.stderr}")
    found["peak"] /= 2**20 if sys.platform == "darwin" else 2**10
    return found


def contenders(recipes):
    """Commands that train and predict, by name; FILE and MODEL are filled in."""
    predict = ("-m", "jaxdeep", "predict", "--id", "id", "--probabilities")
    own = {
        f"train {' '.join(more)}".strip(): (
            lambda data, model, more=more: run(*TRAIN, *more, "--data", data, "--out", model),
            lambda model, data, out: run(*predict, model, data, "--out", out),
        )
        for more in recipes
    }
    return own | {
        "scikit-learn": (
            lambda data, model: run("-m", "benchmarks.table_train", "--as", "train", data, model),
            lambda model, data, out: run(
                "-m", "benchmarks.table_train", "--as", "predict", model, data, out
            ),
        )
    }


def score_of(predictions, truth):
    with predictions.open(newline="") as found, truth.open(newline="") as true:
        pairs = zip(csv.DictReader(found), csv.DictReader(true))
        return statistics.fmean(a["prediction"] == b["y"] for a, b in pairs)


def measured(folder, rows, rounds, recipes):
    """What each contender needs, and its score, in the median over rounds."""
    data, new = folder / "train.csv", folder / "new.csv"
    write(data, rows)
    write(new, rows // 5, first=10**7)
    found = {name: [] for name in contenders(recipes)}
    for number in range(rounds):
        for place, (name, (train, predict)) in enumerate(contenders(recipes).items()):
            model, out = folder / f"model{place}-{number}", folder / f"out{place}-{number}.csv"
            trained, predicted = train(data, model), predict(model, new, out)
            found[name].append(
                {
                    "train seconds": trained["seconds"],
                    "train peak": trained["peak"],
                    "predict seconds": predicted["seconds"],
                    "predict peak": predicted["peak"],
                    "accuracy": score_of(out, new),
                }
            )
            print(name, found[name][-1], flush=True)
    return {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }


def bases(folder):
    """Peaks of processes that only import and start what the others use, and the size of the table."""
    code = (
        "import jax, jaxdeep.fitting, jaxdeep.tables, jaxdeep.nn; jax.numpy.ones(3).block_until_ready()"
    )
    theirs = "import pandas, sklearn.compose, sklearn.neural_network, sklearn.pipeline"
    return {
        "jaxdeep": run("-c", code)["peak"],
        "scikit-learn": run("-c", theirs)["peak"],
        **sizes(folder / "train.csv"),
    }


def sizes(path):
    """Sizes of a table in pandas in MiB, with strings of Python and of pyarrow."""
    told = path.with_suffix(".size")
    with told.open("w") as file:
        run("-m", "benchmarks.table_train", "--as", "size", path, out=file)
    plain, compact = (int(line) / 2**20 for line in told.read_text().split())
    return {"table": plain, "compact": compact}


def floors(folder):
    """Peaks on a few rows: of train, compiling and with programs in the cache, and of scikit-learn."""
    path = folder / "few.csv"
    write(path, FEW, first=3 * 10**7)
    epochs = ("--epochs", "2", "--data", path)
    return {
        "compiling": run(*TRAIN, *epochs, "--no-cache", "--out", folder / "few0")["peak"],
        "cached": [run(*TRAIN, *epochs, "--out", folder / f"few{i}")["peak"] for i in (1, 2)][1],
        "scikit-learn": run("-m", "benchmarks.table_train", "--as", "train", path, folder / "few")[
            "peak"
        ],
    }


def long_train(folder, rows):
    """Two epochs on so many rows, with the programs in the cache."""
    path = folder / "long.csv"
    write(path, rows, first=4 * 10**7)
    command = (*TRAIN, "--epochs", "2", "--data", path)
    found = [run(*command, "--out", folder / f"long-model{i}") for i in (1, 2)][1]
    found |= {"rows": rows, **sizes(path)}
    path.unlink()
    return found


def long_files(folder, lengths):
    """Time and peak of predict on files of so many rows."""
    import polars

    found = {}
    for rows in lengths:
        path = folder / f"long{rows}.csv"
        write(path, rows, first=2 * 10**7)
        polars.scan_csv(path).sink_parquet(path.with_suffix(".parquet"))
        for kind in ("csv", "parquet"):
            out, source = folder / f"long-out-{rows}.{kind}", path.with_suffix(f".{kind}")
            command = ("-m", "jaxdeep", "predict", folder / "model0-0", source, "--out", out)
            found[f"{rows:,} rows, {kind}"] = run(*command)
            print(rows, kind, found[f"{rows:,} rows, {kind}"], flush=True)
            out.unlink()
            source.unlink()
    return found


def report(found):
    """The tables of the results."""
    base, few, lines = found["bases"], found["floors"], []
    lines += [
        f"| | train, s | peak, MiB | above {FEW} rows, in tables | above imports, in tables "
        "| predict, s | peak, MiB | above imports, in tables | accuracy |",
        "| --- " * 9 + "|",
    ]
    for name, row in found["contenders"].items():
        theirs = name == "scikit-learn"
        own, least = base[name if theirs else "jaxdeep"], few[name if theirs else "cached"]
        cells = [name]
        for what in ("train", "predict"):
            peak = row[f"{what} peak"]
            cells += [f"{row[f'{what} seconds']:.1f}", f"{peak:.0f}"]
            lows = (least, own) if what == "train" else (own,)
            cells += [f"{(peak - low) / base['table']:.1f}" for low in lows]
        lines.append(f"| {' | '.join(cells)} | {row['accuracy']:.4f} |")
    many = found["long train"]
    lines += [
        "",
        f"Train on {FEW} rows has a peak of {few['compiling']:.0f} MiB if it compiles and of "
        f"{few['cached']:.0f} MiB with its programs in the cache, scikit-learn's of "
        f"{few['scikit-learn']:.0f} MiB: what is above that is the table's.",
        "",
        "| train, two epochs | s | peak, MiB | above imports, in tables "
        f"| above {FEW} rows, in tables | table, MiB |",
        "| --- " * 6 + "|",
    ]
    above = [(many["peak"] - low) / many["table"] for low in (base["jaxdeep"], few["cached"])]
    lines.append(
        f"| {many['rows']:,} rows | {many['seconds']:.0f} | {many['peak']:.0f} | {above[0]:.2f} "
        f"| {above[1]:.2f} | {many['table']:.0f} ({many['compact']:.0f} with pyarrow) |"
    )
    lines += ["", "| predict | s | rows/s | peak, MiB |", "| --- " * 4 + "|"]
    for name, row in found["long"].items():
        rows = int(name.split()[0].replace(",", ""))
        lines.append(
            f"| {name} | {row['seconds']:.1f} | {rows / row['seconds']:,.0f} | {row['peak']:.0f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--long", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--long-train", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="write .json and .md there")
    parser.add_argument("--as", dest="role", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        role, *rest = args.role
        roles = {"train": train_by_sklearn, "predict": predict_by_sklearn, "size": size_in_pandas}
        roles[role](*rest)
        return
    recipes = ((), ("--batch-size", "200"))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found = {
            "contenders": measured(folder, args.rows, args.rounds, recipes),
            "bases": bases(folder),
            "floors": floors(folder),
            "long train": long_train(folder, args.long_train),
            "long": long_files(folder, args.long),
        }
    print(report(found))
    if args.out:
        about = {"rows": args.rows, "rounds": args.rounds, "versions": versions()}
        about |= {"load": os.getloadavg()[2], **found}
        args.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
        base = found["bases"]
        text = (
            f"{args.rows:,} rows of 30 columns, {base['table']:.0f} MiB in pandas "
            f"({base['compact']:.0f} with strings of pyarrow), medians of {args.rounds} rounds: "
            "`python -m benchmarks.table_train`. Processes that only import have peaks of "
            f"{base['jaxdeep']:.0f} MiB (jaxdeep) and {base['scikit-learn']:.0f} MiB (pandas, "
            "scikit-learn). The first round compiles; later ones find the programs in the user's cache, "
            f"as the median does. The machine's load was {about['load']:.1f}.\n\n"
        )
        args.out.with_suffix(".md").write_text(text + report(found) + "\n")


if __name__ == "__main__":
    main()
