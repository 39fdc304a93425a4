# %% [markdown]
# # 15 · A real table
#
# A table as people keep them: numbers, names with typing errors, dates, cells without a value. Afterwards you can make a
# network of it that takes *raw* rows, tomorrow's too, with cities, makes and holes that were not there when it was trained,
# and you know what goes wrong silently when the steps before the network are written by hand.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/15_a_real_table.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot,checkpoint,tables] @ git+https://github.com/jaxdeep/jaxdeep"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", source, "vega-datasets", "polars"], check=True
    )

# What is compiled is kept for the next start on this machine; JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
folder = os.path.expanduser(f"~/.cache/jaxdeep/compiled/notebooks-{platform.node()}")
kept = {
    "JAX_COMPILATION_CACHE_DIR": folder,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in kept.items():
    os.environ.setdefault(name, value)

# %%
import json
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.preprocessing import OrdinalEncoder
from vega_datasets import local_data

import jaxdeep as jd

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})
cars = pd.DataFrame(json.loads(local_data.cars.raw()))
cars

# %% [markdown]
# 406 cars, from 1970 to 1982. How many miles does one go with a gallon? Eight rows do not say, and a network cannot learn from
# them. They are refused, with the first of them, and not filled with a mean that nobody measured.

# %%
try:
    jd.tables.fit(cars, target="Miles_per_Gallon")
except ValueError as error:
    print(error)
cars = cars[cars["Miles_per_Gallon"].notna()].reset_index(drop=True)

# %% [markdown]
# ## What are the columns?
#
# First, rows for training, validation and a test; then the columns, whose levels, medians and ranges are those of the training
# rows alone. `Name` is nearly an id: a category in which each cell has a level of its own says nothing about other cars. Its first
# word is the make, which does; so that becomes a column, and the name is dropped.

# %%
cars["Make"] = cars["Name"].str.split().str[0]
rows = jd.datasets.split(np.arange(len(cars)), (None, 0.2, 0.2), seed=1)
train, validation, test = (cars.iloc[part] for part in rows)

columns = jd.tables.fit(
    cars, target="Miles_per_Gallon", kinds={"Name": "drop"}, min_frequency=3, rows=rows[0]
)
print(columns.summary())

# %% [markdown]
# Nothing was declared but the name. A date became days and cycles; horsepower has holes, so there is an indicator beside it;
# makes with fewer than three cars, *vokswagen* and *toyouta* among them, are not levels: they are **unknown**, and the network
# learns from them what to expect of a make that it does not know. That is another thing than a cell in which nothing is.

# %%
makes = {"Make": ["ford", "tesla", None]}
row = {name: [train[name].iloc[0]] * 3 for name in columns.names if name != "Make"}
inputs = columns.encode_inputs(row | makes)
place = [column.name for column in columns.features if column.coded].index("Make")
for make, code in zip(makes["Make"], inputs["codes"][:, place]):
    print(f"{make!s:6} has the code {code}")
print()
print(columns.report(row | makes))

# %% [markdown]
# ## What the network sees
#
# On the host, a row becomes float32 numbers and int32 codes. All else is the network's first layer, on the device: it fills holes,
# scales, and encodes. Robust scaling with a smooth clip, which the strong recipe takes, puts the middle half of a column on one
# unit of length, and squeezes what is far out, here no further than ±3, instead of letting it squeeze all others.

# %%
inputs, targets = columns.encode(train)
numbers = ["Horsepower", "Weight_in_lbs", "Displacement", "Acceleration"]
names = columns.output_names()
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6))
axes[0].boxplot(
    [train[name].dropna() for name in numbers], orientation="horizontal", tick_labels=numbers
)
axes[0].set(xscale="log", xlabel="as it is in the table")
for ax, options, title in zip(
    axes[1:],
    ({"scaling": "standard", "clip": False}, {"scaling": "robust", "clip": True}),
    ("mean and standard deviation", "robust, with a smooth clip"),
):
    layer = columns.layer(**options)
    matrix = np.asarray(layer.apply(*layer.init(jax.random.key(0), inputs), inputs)[0])
    shown = [matrix[:, names.index(name)] for name in numbers]
    ax.boxplot(shown, orientation="horizontal", tick_labels=[""] * len(numbers))
    ax.set(xlabel=title, xlim=(-3.5, 3.5))
    ax.axvline(0, color="0.7", zorder=0)
plt.show()

# %% [markdown]
# ## Three models
#
# `jd.nn.mlp` makes the network of the columns. *Textbook* is two layers of 100 and Adam; *strong* is the simplified RealMLP, whose
# defaults were tuned once on many tables. Beside them stand gradient-boosted trees, scikit-learn's, whose categories take a
# pipeline of their own. The trees are trained on the validation rows, too, of which they choose nothing.

# %%
encoded = {
    name: columns.encode(part)
    for name, part in (("train", train), ("validation", validation), ("test", test))
}
results = {}
for name in ("textbook", "strong"):
    recipe = jd.nn.mlp("regression", columns, recipe=name, targets=encoded["train"][1])
    results[name] = [
        jd.fit(
            data=encoded["train"],
            validation=encoded["validation"],
            key=jax.random.key(seed),
            progress=False,
            **recipe.arguments(),
        )
        for seed in range(5)
    ]
scores = {
    name: [float(result.evaluate(encoded["test"])["rmse"]) for result in runs]
    for name, runs in results.items()
}

features = list(columns.names)
text = ["Origin", "Make", "Year"]
encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, min_frequency=3)
prepare = make_column_transformer((encoder, text), remainder="passthrough").set_output(
    transform="pandas"
)
both = pd.concat([train, validation])
trees = HistGradientBoostingRegressor(
    categorical_features=[f"ordinalencoder__{name}" for name in text[:2]]
)
trees.fit(prepare.fit_transform(both[features]), both["Miles_per_Gallon"])
by_trees = trees.predict(prepare.transform(test[features]))
truth = test["Miles_per_Gallon"].to_numpy()
scores["boosted trees"] = [float(np.sqrt(np.mean((by_trees - truth) ** 2)))]
for name, found in scores.items():
    spread = f" ± {np.std(found, ddof=1):.2f} over {len(found)} seeds" if len(found) > 1 else ""
    print(f"{name:14} misses the test rows by {np.mean(found):.2f} miles a gallon{spread}")
print(f"always the mean: {np.sqrt(np.mean((truth - train['Miles_per_Gallon'].mean()) ** 2)):.2f}")

# %%
strong = results["strong"][0]
by_strong = strong.predict(encoded["test"][0])[:, 0]
fig, axes = plt.subplots(1, 3, figsize=(13, 3.8))
for name, style in (("textbook", "--"), ("strong", "-")):
    history = results[name][0].history
    axes[0].plot(history["val_rmse"], style, label=name)
axes[0].set(xlabel="epoch", ylabel="error of the validation rows (RMSE)", ylim=(0, 12))
axes[0].legend()
for ax, found, name in zip(axes[1:], (by_strong, by_trees), ("strong", "boosted trees")):
    ax.plot([8, 48], [8, 48], color="0.7")
    ax.scatter(truth, found, s=14)
    ax.set(
        xlabel="miles a gallon, as measured", ylabel=f"as predicted: {name}", xlim=(8, 48), ylim=(8, 48)
    )
plt.show()

# %% [markdown]
# Eighty rows of a test decide between models that are half a mile apart by chance; on many tables, ten splits each, the
# benchmark [tables](https://github.com/jaxdeep/jaxdeep/blob/main/benchmarks/tables.py) compares them. What is certain here: a
# network without any tuning is as good a model of a small table as the trees, and no line was written to prepare its inputs.
#
# ## Tomorrow's rows
#
# A saved model knows its columns. It takes a frame of pandas or polars, a dict, a file; columns in any order, others besides;
# cells that are missing where none was, and makes that nobody had heard of. A row gets the same bits, whatever it comes in and
# whichever rows come with it.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
jd.save(folder / "cars", strong.problem.model, strong.params, strong.state)
model, params, state = jd.load(folder / "cars")

new = {
    "Make": ["tesla", "toyota", None],
    "Origin": ["USA", "Japan", "Atlantis"],
    "Year": ["1983-01-01", "1979-01-01", None],
    "Weight_in_lbs": [2500, 2100, 3300],
    "Horsepower": [None, 70, 110],
    "Acceleration": [14.0, None, 15.5],
    "Displacement": [120, 98, 230],
    "Cylinders": [4, 4, 6],
    "Owner": ["Ada", "Max", "Eve"],
}
predicted = jd.predict(model, params, state, new)[:, 0]
print("miles a gallon", predicted.round(1))
pd.DataFrame(new).to_csv(folder / "new.csv", index=False)
for other in (pd.DataFrame(new), pl.DataFrame(new, strict=False), folder / "new.csv"):
    assert (jd.predict(model, params, state, other)[:, 0] == predicted).all()
one = {name: cells[1] for name, cells in new.items()}
assert jd.predict(model, params, state, one)[0, 0] == predicted[1]

# %% [markdown]
# Another process needs neither pandas nor this notebook: what is known of the columns is readable JSON within the model.

# %%
code = f"""
import sys
for name in ("pandas", "polars", "narwhals", "sklearn"):
    sys.modules[name] = None  # as if they were not installed
import jaxdeep as jd
print(jd.predict(*jd.load({str(folder / "cars")!r}), {str(folder / "new.csv")!r})[:, 0].tolist())
"""
plain = {name: value for name, value in os.environ.items() if "COLOR" not in name}


def run(*command):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=folder, env=plain
    ).stdout


elsewhere = run("-c", code)
print(elsewhere)
assert json.loads(elsewhere) == predicted.tolist()

# %% [markdown]
# ## What goes wrong otherwise
#
# Four lines of pandas prepare a table, too: `get_dummies`, `fillna`, subtract, divide. The model that is trained on them is fine.
# It is tomorrow that is not: nothing of these lines is kept, and each of them looks at the rows at hand.


# %%
def by_hand(frame):
    frame = frame[features].assign(Year=pd.to_datetime(frame["Year"]).astype("int64"))
    frame = pd.get_dummies(frame, columns=["Origin", "Make"], dtype=float)
    frame = frame.fillna(frame.mean())
    return ((frame - frame.mean()) / frame.std()).fillna(0)


print("columns of the training rows:", by_hand(train).shape[1])
print("columns of the test rows:    ", by_hand(test).shape[1])

aligned = by_hand(test).reindex(columns=by_hand(train).columns, fill_value=0)  # what one does then
small = by_hand(test[test["Origin"] == "USA"]).reindex(columns=by_hand(train).columns, fill_value=0)
same = test.index[test["Origin"] == "USA"]
moved = (small.loc[same, "Weight_in_lbs"] - aligned.loc[same, "Weight_in_lbs"]).abs().mean()
print(f"the same cars, sent alone, weigh {moved:.2f} standard deviations more or less")

# %% [markdown]
# With other rows there are other columns; and once these are put in order by force, the same car has another weight, because it
# was compared with the rows that were sent along. No error is raised, and the network answers. So it does where a matrix
# without names comes with two of its columns exchanged.

# %%
swapped = test.rename(columns={"Weight_in_lbs": "Acceleration", "Acceleration": "Weight_in_lbs"})
by_place = strong.predict(swapped)[:, 0]
by_name = strong.predict(test[sorted(test.columns)])[:, 0]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for ax, found, title in zip(axes, (by_place, by_name), ("two columns exchanged, by place", "by name")):
    error = np.sqrt(np.mean((found - truth) ** 2))
    ax.plot([8, 48], [8, 48], color="0.7")
    ax.scatter(truth, found, s=14)
    ax.set(
        xlabel="miles a gallon, as measured",
        ylabel="as predicted",
        title=f"{title}: misses by {error:.1f}",
    )
plt.show()

# %% [markdown]
# And numbers that float32 cannot hold: seconds since 1970 are about 1.7 · 10⁹, where it has steps of 128. Columns are centred
# in float64 before they become float32.

# %%
seconds = 1.7e9 + np.arange(100)
print("different numbers in float32:", len(np.unique(seconds.astype(np.float32))), "of 100")
clock = jd.tables.fit({"seconds": seconds})
print(
    "as inputs of a network:      ", len(np.unique(clock.encode_inputs({"seconds": seconds})["numbers"]))
)

# %% [markdown]
# ## The same from the command line
#
# `train` does all of this with a file, and `predict` goes through a file of any length in constant memory.

# %%
cars.drop(columns="Name").to_csv(folder / "cars.csv", index=False)
train_it = ["train", "--data", "cars.csv", "--target", "Miles_per_Gallon", "--out", "runs/cars"]
predict_it = ["predict", "runs/cars", "new.csv", "--out", "predictions.csv"]
for command in (train_it, predict_it):
    lines = run("-m", "jaxdeep", *command).splitlines()
    print("$ python -m jaxdeep", *command)
    print("\n".join(line for line in lines if not line.startswith("epoch")), "\n")
print((folder / "predictions.csv").read_text())

# %% [markdown]
# ## In short
#
# | what a table has | by hand | `jd.tables.fit` and a model that knows its columns |
# | --- | --- | --- |
# | another order, other columns | goes to the wrong weights | by name |
# | a level that was not there | another width, or zeros | a code of its own, learned from rare levels |
# | a hole where none was | NaN, and NaN is what comes out | the median; counted by `columns.report` |
# | large numbers, dates, ids | lose digits | centred in float64; ids are texts |
# | rows of tomorrow | scaled by themselves | scaled by the training rows |
# | a target with holes | filled, or NaN losses | refused, with the row |
