"""Networks by task on small tables: two recipes beside the defaults of scikit-learn and Keras.

    python -m benchmarks.tables [--tables iris diabetes] [--seeds 10] [--contenders strong boosting]

Tables of numbers that scikit-learn brings or generates, and one of numbers, categories and holes
("mixed"), which `jaxdeep.tables` encodes for the networks and the trees take as it is; what its columns
are is found on all rows, without the targets. Seed s draws the rows for training (60 %), validation
(20 %) and test (20 %), in equal shares of classes. The recipes and Keras' network choose their epoch by
the validation rows; the others, which do not, are trained on both. Inputs are scaled by what each is
trained on: robustly and with a smooth clip for "strong", by mean and standard deviation for the others,
not at all for the boosted trees; so are the targets of a regression for all networks. The score is the
accuracy, or R², on the test rows.

All seeds of a recipe are rows of one `jaxdeep.search.cross_validate`, which trains them side by side.
Results are written as they come; the same call goes on where it was stopped (``--fresh`` begins anew).
Intervals are those of Nadeau and Bengio for splits that share training rows, of the differences seed by
seed.
"""

import argparse
import functools
import json
import os
import pathlib
import time
import warnings
from importlib.metadata import version

import numpy as np

from benchmarks.throughput import versions

VALIDATION, TEST = 0.2, 0.2


# --- the tables -------------------------------------------------------------------------------------


def steps(rows=1200, seed=0):
    """Classes by the parity of two coarse grids, along the axes: a table for trees."""
    x = np.random.default_rng(seed).uniform(size=(rows, 6))
    return x, (np.floor(3 * x[:, 0]) + np.floor(2 * x[:, 1])).astype(int) % 2


def heavy(rows=1000, seed=0):
    """A smooth regression on inputs with extreme values, in units from 0.01 to 1000."""
    rng = np.random.default_rng(seed)
    z = rng.standard_t(2, size=(rows, 6))
    y = np.tanh(z[:, 0]) * z[:, 1].clip(-3, 3) + np.sin(z[:, 2]) + 0.3 * rng.normal(size=rows)
    return z * 10.0 ** np.arange(-2, 4), 500 + 40 * y


def mixed(rows=1500, seed=0):
    """Classes by two numbers with holes, a category of 30 levels and one of 4; a table as a dict."""
    rng = np.random.default_rng(seed)
    city, size = rng.integers(0, 30, rows), rng.integers(0, 4, rows)
    age, income = rng.normal(45, 12, rows), rng.lognormal(10, 1, rows)
    effect = rng.normal(size=30)
    logit = 1.5 * effect[city] + (age - 45) / 12 * np.where(size > 1, 1, -1) + np.log(income) - 10
    y = (rng.uniform(size=rows) < 1 / (1 + np.exp(-2 * logit))).astype(int)
    return {
        "age": np.where(rng.uniform(size=rows) < 0.1, np.nan, age),
        "income": income,
        "city": [f"city {i}" for i in city],
        "size": [None if hole else "SMLX"[i] for i, hole in zip(size, rng.uniform(size=rows) < 0.1)],
    }, y


def matrix(x):
    """A table as numbers: holes filled and marked, a column for each level; a matrix as it is."""
    if not isinstance(x, dict):
        return x
    import jax

    import jaxdeep as jd

    columns = jd.tables.fit(x)
    layer, inputs = columns.layer(scaling="standard", clip=False, one_hot=1000), columns.encode_inputs(x)
    return np.asarray(layer.apply(*layer.init(jax.random.key(0), inputs), inputs)[0])


def frame(x):
    """A table with its categories as such, which boosted trees take; a matrix as it is."""
    if not isinstance(x, dict):
        return x
    import pandas as pd

    made = pd.DataFrame(x)
    return made.astype({n: "category" for n in made if made[n].dtype.kind not in "fi"})


def take(x, rows):
    return x.iloc[rows] if hasattr(x, "iloc") else x[rows]


def tables():
    """``(task, make)`` by name; `make` gives x and y."""
    from sklearn import datasets

    def packaged(name):
        return lambda: getattr(datasets, f"load_{name}")(return_X_y=True)

    generated = functools.partial
    return {
        "iris": ("multiclass", packaged("iris")),
        "wine": ("multiclass", packaged("wine")),
        "breast_cancer": ("binary", packaged("breast_cancer")),
        "digits": ("multiclass", packaged("digits")),
        "diabetes": ("regression", packaged("diabetes")),
        "friedman1": (
            "regression",
            generated(datasets.make_friedman1, 1000, noise=1.0, random_state=0),
        ),
        "friedman3": (
            "regression",
            generated(datasets.make_friedman3, 1000, noise=0.1, random_state=0),
        ),
        "heavy": ("regression", heavy),
        "classification": (
            "binary",
            generated(
                datasets.make_classification,
                1200,
                n_features=20,
                n_informative=8,
                n_clusters_per_class=4,
                flip_y=0.05,
                random_state=0,
            ),
        ),
        "quantiles": (
            "multiclass",
            generated(
                datasets.make_gaussian_quantiles,
                n_samples=1200,
                n_features=6,
                n_classes=4,
                random_state=0,
            ),
        ),
        "steps": ("binary", steps),
        "mixed": ("binary", mixed),
    }


def splits(y, task, seeds):
    """For each seed the rows for training, validation and test."""
    from sklearn.model_selection import train_test_split

    found = []
    for seed in range(seeds):
        rows = np.arange(len(y))
        draw = functools.partial(train_test_split, random_state=seed)
        rest, test = draw(rows, test_size=TEST, stratify=None if task == "regression" else y)
        share = VALIDATION / (1 - TEST)
        train, validation = draw(
            rest, test_size=share, stratify=None if task == "regression" else y[rest]
        )
        found.append((train, validation, test))
    return found


def score(task, predicted, y):
    """The accuracy, or R²."""
    if task == "regression":
        return float(1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return float((predicted == y).mean())


# --- jaxdeep ----------------------------------------------------------------------------------------


def scaled(recipe):
    """``(train, x) -> x`` as the training rows say."""
    import jaxdeep as jd

    scaling = jd.preprocessing
    scaler = {
        "strong": scaling.robust_scaler(flat="range", clip=3.0),
        "textbook": scaling.standard_scaler(),
    }[recipe]
    return lambda train, x: scaler.transform(scaler.fit(train), x)


def ours(recipe, task, x, y, rows):
    """A score for each seed: all of them in one table."""
    import jax

    import jaxdeep as jd

    scale = scaled(recipe)
    is_regression = task == "regression"
    columns = jd.tables.fit(x) if isinstance(x, dict) else None
    if columns is None:
        x = np.asarray(x, np.float32)
    else:  # their layer scales
        x, scale = columns.encode_inputs(x), lambda train, x: x
    y = np.asarray(y, np.float32 if is_regression else np.int32)

    def prepare(train, validate):
        def prepared(part):
            targets = (part[1] - train[1].mean()) / train[1].std() if is_regression else part[1]
            return scale(train[0], part[0]), targets

        return prepared(train), prepared(validate)

    outputs = int(y.max()) + 1 if task == "multiclass" else None
    made = jd.nn.mlp(task, columns, recipe=recipe, outputs=outputs, rows=len(rows[0][0]))
    table = jd.search.cross_validate(
        lambda hp: made.arguments(),
        [{"recipe": recipe}],
        data=(x, y),
        folds=[(train, validation) for train, validation, _ in rows],
        prepare=prepare,
        progress=False,
    )

    @jax.jit
    def outputs_of(params, state, train, test):
        return made.model.apply(params, state, scale(train, test))[0]

    found = []
    for result, (train, _, test) in zip(table.results, rows):
        known, new = (jax.tree.map(lambda a, at=at: a[at], x) for at in (train, test))
        values = np.asarray(outputs_of(result.params, result.state, known, new))
        if (
            is_regression
        ):  # back to the unit, cut to what was trained on, as `targets=` does in the model
            values = values[:, 0] * y[train].std() + y[train].mean()
            found.append(score(task, np.clip(values, y[train].min(), y[train].max()), y[test]))
        else:
            classes = values.argmax(1) if task == "multiclass" else (values[:, 0] > 0).astype(int)
            found.append(score(task, classes, y[test]))
    return found


# --- the others -------------------------------------------------------------------------------------


def one_by_one(train_one, prepared=matrix):
    """A contender that trains a seed after another."""

    def contender(task, x, y, rows):
        x = prepared(x)
        return [train_one(task, x, y, split, seed) for seed, split in enumerate(rows)]

    return contender


def boosting(task, x, y, split, seed):
    from sklearn import ensemble

    kind = "Regressor" if task == "regression" else "Classifier"
    model = getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=seed)
    both, test = np.concatenate(split[:2]), split[2]
    return score(task, model.fit(take(x, both), y[both]).predict(take(x, test)), y[test])


def sklearn_mlp(task, x, y, split, seed):
    from sklearn import neural_network, pipeline, preprocessing
    from sklearn.compose import TransformedTargetRegressor

    both, test = np.concatenate(split[:2]), split[2]
    if task == "regression":
        model = TransformedTargetRegressor(
            neural_network.MLPRegressor(random_state=seed), transformer=preprocessing.StandardScaler()
        )
    else:
        model = neural_network.MLPClassifier(random_state=seed)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 iterations, its default, are not always enough
        return score(task, scaled.fit(x[both], y[both]).predict(x[test]), y[test])


def keras_mlp(task, x, y, split, seed):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    train, validation, test = split
    keras.utils.set_random_seed(seed)
    mean, std = x[train].mean(0), x[train].std(0)
    x = ((x - mean) / np.where(std > 0, std, 1)).astype(np.float32)
    is_regression = task == "regression"
    shift, unit = (y[train].mean(), y[train].std()) if is_regression else (0, 1)
    targets = (y - shift) / unit
    dense = keras.layers.Dense
    ends = {
        "regression": (dense(1), "mse"),
        "binary": (dense(1, "sigmoid"), "binary_crossentropy"),
        "multiclass": (dense(int(y.max()) + 1, "softmax"), "sparse_categorical_crossentropy"),
    }
    end, loss = ends[task]
    model = keras.Sequential([dense(100, "relu"), dense(100, "relu"), end])
    # as many steps in a call as there are, which changes no number
    model.compile("adam", loss, steps_per_execution=-(-len(train) // 32))
    model.fit(
        x[train],
        targets[train],
        validation_data=(x[validation], targets[validation]),
        epochs=100,
        verbose=0,
        callbacks=[keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)],
    )
    values = np.asarray(model.predict(x[test], verbose=0, batch_size=len(test)))
    if is_regression:
        return score(task, values[:, 0] * unit + shift, y[test])
    classes = values.argmax(1) if task == "multiclass" else (values[:, 0] > 0.5).astype(int)
    return score(task, classes, y[test])


CONTENDERS = {
    "strong": (functools.partial(ours, "strong"), 'jd.nn.mlp(recipe="strong")'),
    "textbook": (functools.partial(ours, "textbook"), 'jd.nn.mlp(recipe="textbook")'),
    "boosting": (one_by_one(boosting, frame), "HistGradientBoosting"),
    "sklearn": (one_by_one(sklearn_mlp), "scikit-learn's MLP"),
    "keras": (one_by_one(keras_mlp), "Keras, 2 × 100 ReLU, Adam, patience 10"),
}


# --- measuring and telling --------------------------------------------------------------------------


def measure(names, contenders, seeds, file):
    """Scores and seconds by table and contender, written to the file as they come."""
    known = json.loads(file.read_text()) if file.exists() else {"seeds": seeds, "found": {}}
    if known["seeds"] != seeds:
        raise SystemExit(f"{file} is of {known['seeds']} seeds: pass --fresh, or another --out")
    found = known["found"]
    for name in names:
        task, make = tables()[name]
        x, y = make()
        rows = splits(y, task, seeds)
        for contender in contenders:
            if contender in found.get(name, {}):
                continue
            began = time.perf_counter()
            scores = CONTENDERS[contender][0](task, x, y, rows)
            seconds = time.perf_counter() - began
            features = len(x) if isinstance(x, dict) else x.shape[1]
            about = {"task": task, "rows": len(y), "features": features}
            about |= {"n_train": len(rows[0][0]) + len(rows[0][1]), "n_test": len(rows[0][2])}
            found.setdefault(name, {"about": about})[contender] = {"scores": scores, "seconds": seconds}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({**versions(), "seeds": seeds, "found": found}, indent=1) + "\n")
            print(f"{name:16} {contender:10} {np.mean(scores):.4f}  {seconds:6.1f} s", flush=True)
    return found


def differences(found, contender, against="strong"):
    """By table: the mean difference to another contender and its corrected interval."""
    from jaxdeep.search import corrected_interval

    made = {}
    for name, own in found.items():
        if contender in own and against in own:
            apart = np.subtract(own[against]["scores"], own[contender]["scores"])
            sizes = own["about"]["n_train"], own["about"]["n_test"]
            bounds = corrected_interval(apart, *sizes) if len(apart) > 1 else (np.nan, np.nan)
            made[name] = (float(apart.mean()), *bounds)
    return made


def report(found, names, contenders):
    """Scores by table, and how "strong" compares."""
    lines = [
        "| table | task | rows × features | " + " | ".join(contenders) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(contenders),
    ]
    for name in names:
        about = found[name]["about"]
        means = [np.mean(found[name][c]["scores"]) if c in found[name] else np.nan for c in contenders]
        cells = [f"**{m:.4f}**" if m == np.nanmax(means) else f"{m:.4f}" for m in means]
        size = f"{about['rows']} × {about['features']}"
        lines.append(f"| {name} | {about['task']} | {size} | " + " | ".join(cells) + " |")
    seconds = [sum(found[n][c]["seconds"] for n in names if c in found[n]) for c in contenders]
    lines.append("| seconds, all | | | " + " | ".join(f"{s:.0f}" for s in seconds) + " |")
    others = [c for c in contenders if c != "strong"]
    if "strong" in contenders and others:
        lines += ["", "Strong less the others, seed by seed, with the corrected 95 % interval:", ""]
        by_contender = {c: differences(found, c) for c in others}
        lines += ["| table | " + " | ".join(others) + " |", "| --- |" + " ---: |" * len(others)]
        for name in names:
            cells = [_cell(*by_contender[c][name]) if name in by_contender[c] else "" for c in others]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        means = [np.mean([by_contender[c][n][0] for n in by_contender[c]]) for c in others]
        lines.append("| mean over tables | " + " | ".join(f"{m:+.4f}" for m in means) + " |")
    return "\n".join(lines)


def _cell(mean, low, high):
    text = f"{mean:+.4f} ({low:+.4f} … {high:+.4f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def main():
    known = [*tables()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--fresh", action="store_true", help="measure again what is in the file")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/tables"))
    args = parser.parse_args()
    file = args.out.with_suffix(".json")
    if args.fresh:
        file.unlink(missing_ok=True)
    found = measure(args.tables, args.contenders, args.seeds, file)
    titles = ", ".join(f"{c}: {CONTENDERS[c][1]}" for c in args.contenders)
    known_versions = versions() | {"scikit-learn": version("scikit-learn")}
    about = ", ".join(f"{name} {value}" for name, value in known_versions.items())
    command = f"python -m benchmarks.tables --seeds {args.seeds}"
    for flag, chosen, everything in (
        ("tables", args.tables, known),
        ("contenders", args.contenders, [*CONTENDERS]),
    ):
        command += "" if chosen == everything else f" --{flag} {' '.join(chosen)}"
    text = (
        f"# Tables\n\n`{command}`\n\n{about}\n\n"
        f"{report(found, args.tables, args.contenders)}\n\n"
        f"Means over {args.seeds} seeds of the accuracy or R² on test rows; {titles}.\n"
    )
    args.out.with_suffix(".md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
