"""Every tool on every kind of model: a network of jaxdeep's, and that of Linen, NNX, Equinox and Keras.

Each tool is tried on a dense layer, batch norm, an activation, dropout and a dense layer. A tool works
if what it makes does what it promises, not if it raises nothing.
"""

import os
import re
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import jaxdeep as jd
from jaxdeep.adapters import from_equinox, from_keras_model, from_linen, from_nnx

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (16, 5))
Y = jnp.arange(16) % 3


class Linen(linen.Module):
    """The network in Linen."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Dense(8, name="hidden")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = linen.Dropout(0.5, deterministic=not train)(linen.relu(x))
        return linen.Dense(3, name="out")(x)


class Nnx(nnx.Module):
    """The network in NNX."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.norm(self.hidden(x)))))


class Equinox(eqx.Module):
    """The network in Equinox."""

    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key):
        self.hidden = eqx.nn.Linear(5, 8, key=key)
        self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch", momentum=0.9)
        self.drop = eqx.nn.Dropout(0.5)
        self.out = eqx.nn.Linear(8, 3, key=key)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.hidden(x), state)
        return self.out(self.drop(jax.nn.relu(x), key=key)), state


def keras_network():
    """The network in Keras, which is imported where it is asked for."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    layers = [
        keras.Input((5,)),
        keras.layers.Dense(8, name="hidden"),
        keras.layers.BatchNormalization(momentum=0.9, name="norm"),
        keras.layers.ReLU(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(3, name="out"),
    ]
    return keras.Sequential(layers, name="net")


OWN = jd.nn.serial(
    hidden=jd.nn.dense(8),
    norm=jd.nn.batch_norm(momentum=0.9),
    act=jd.nn.activation(jax.nn.relu),
    drop=jd.nn.dropout(0.5),
    out=jd.nn.dense(3),
)
MODELS = {
    "jaxdeep": lambda: OWN,
    "Linen": lambda: from_linen(Linen()),
    "NNX": lambda: from_nnx(Nnx),
    "Equinox": lambda: from_equinox(Equinox),
    "Keras": lambda: from_keras_model(keras_network()),
}
KINDS = [*MODELS, *(f"{name}, lifted" for name in ("Linen", "NNX", "Equinox"))]


class Case(NamedTuple):
    """A model with parameters and state after an epoch, so that no statistic is where it began."""

    model: jd.nn.Model
    params: dict
    state: dict

    def __call__(self, x=X):
        return self.model.apply(self.params, self.state, x)[0]

    @property
    def root(self) -> str:
        """What the paths of all parameters begin with: Keras puts the name of the network there."""
        return "" if "hidden" in self.params else f"{next(iter(self.params))}/"


def case(kind: str) -> Case:
    """The network of a kind; "Linen, lifted" is that of "Linen" after `jaxdeep.adapters.lift`."""
    name, _, lifted = kind.partition(", ")
    model = MODELS[name]()
    params, state = model.init(KEY, X)
    for _ in range(3):
        _, state = model.apply(params, state, 1 + 2 * X, train=True, key=KEY)
    if lifted:
        model, params, state = jd.adapters.lift(model, params, state, X, inference=name == "Equinox")
    return Case(model, params, state)


def check(holds: object, fault: str) -> None:
    """What a tool must have done."""
    if not bool(holds):
        raise AssertionError(fault)


def near(a, b, tolerance=1e-4) -> bool:
    return bool(np.allclose(np.asarray(a, float), np.asarray(b, float), atol=tolerance))


def fit(case: Case, **options):
    return jd.fit(
        case.model, (X, Y), loss=jd.losses.softmax_cross_entropy, params=case.params, state=case.state,
        optimizer=jd.optimizers.sgd(0.1), epochs=1, batch_size=8, key=KEY, progress=False, **options,
    )  # fmt: skip


def summary(case: Case) -> None:
    shown = jd.nn.summary(case.model, X)
    check(all(name in shown for name in ("hidden", "norm", "out")), "the layers are not listed")
    check("(16, 8)" in shown, "shapes inside are not shown")


def freezing(case: Case) -> None:
    result = fit(case, trainable=f"{case.root}out/*")
    before, after = (
        dict(zip(jd.tree.leaf_paths(p), jax.tree.leaves(p))) for p in (case.params, result.params)
    )
    trained = {
        path.removeprefix(case.root).split("/")[0]
        for path in before
        if not np.array_equal(before[path], after[path])
    }
    check(trained == {"out"}, f"{sorted(trained)} moved")
    check(near(jax.tree.leaves(result.state)[0], jax.tree.leaves(case.state)[0], 0), "statistics moved")


def folding(case: Case) -> None:
    model, params, state = jd.compress.fold_batch_norm(*case)
    check(not jax.tree.leaves(state), "statistics are left")
    check(near(model.apply(params, state, X)[0], case()), "outputs differ")


def quantising(case: Case) -> None:
    model, params, state = jd.compress.quantize(*case)
    check(any(leaf.dtype == jnp.int8 for leaf in jax.tree.leaves(params)), "nothing is int8")
    check(near(model.apply(params, state, X)[0], case(), 0.1), "outputs differ")


def pruning(case: Case) -> None:
    params = jd.compress.prune(case.params, 0.5, where=f"{case.root}hidden/*")
    leaves = zip(jd.tree.leaf_paths(params), jax.tree.leaves(params))
    zeros = sum(int((leaf == 0).sum()) for path, leaf in leaves if "hidden/" in path)
    check(zeros >= 0.4 * 40, "too few zeros")
    check(case._replace(params=params)().shape == (16, 3), "it does not run")


def casting(case: Case) -> None:
    half = Case(*jd.compress.cast(*case, jnp.bfloat16))
    check(
        {a.dtype for a in jax.tree.leaves(half.params)} == {jnp.dtype(jnp.bfloat16)}, "not all is cast"
    )
    check(near(half(), case(), 0.1), "outputs differ")


def heads(case: Case) -> None:
    new = Case(*jd.transfer.replace_head(*case, jd.nn.dense(7), X, key=KEY))
    check(new().shape == (16, 7), "the head is another")


def taking(case: Case) -> None:
    check(Case(*jd.transfer.take_layers(*case, "hidden"))().shape == (16, 8), "other layers were taken")


def pretraining(case: Case) -> None:
    fresh, _ = jd.transfer.pretrained(*case).init(jax.random.key(9), X)
    check(near(jax.tree.leaves(fresh)[-1], jax.tree.leaves(case.params)[-1], 0), "it begins elsewhere")


def rates(case: Case) -> None:
    tx = jd.transfer.layerwise_decay(case.model, case.params, 0.5)
    updates, _ = tx.update(case.params, tx.init(case.params), case.params)
    check(
        near(jax.tree.leaves(updates["out"])[-1], jax.tree.leaves(case.params["out"])[-1]), "of the head"
    )
    check(
        not near(jax.tree.leaves(updates["hidden"])[-1], jax.tree.leaves(case.params["hidden"])[-1]),
        "the rate does not fall",
    )


def saving(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        jd.save(f"{folder}/m", *case)
        check(near(Case(*jd.load(f"{folder}/m"))(), case(), 0), "another model came back")


def loading(case: Case) -> None:
    tree = {"params": case.params, "state": case.state}
    flat = dict(zip(jd.tree.leaf_paths(tree), map(np.asarray, jax.tree.leaves(tree))))
    params, state = jd.load_into(case.model, *case.model.init(jax.random.key(9), X), flat)
    check(near(case._replace(params=params, state=state)(), case(), 0), "outputs differ")


def exporting(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        jd.compress.export(f"{folder}/m.jax", *case, X)
        check(near(jd.compress.load_exported(f"{folder}/m.jax")(X), case()), "outputs differ")


def diagnosing(case: Case) -> None:
    flow = jd.diagnostics.gradient_flow(
        case.model, case.params, case.state, (X, Y), loss=jd.losses.softmax_cross_entropy, key=KEY
    )
    seen = [name for name, own in flow.items() if _is_number(own.activation_std)]
    check(len(seen) >= 3, f"outputs are measured of {len(seen)} layer" + "s" * (len(seen) != 1))


def _is_number(value) -> bool:
    return value is not None and bool(np.isfinite(value))


def sampling(case: Case) -> None:
    found = jd.uncertainty.mc_dropout(*case, X, key=KEY, samples=5)
    check(float(jnp.max(found.std)) > 0, "samples do not differ")


TOOLS: dict[str, Callable[[Case], None]] = {
    "`nn.summary` with the layers inside": summary,
    "`fit(trainable=…)`": freezing,
    "`transfer.pretrained`": pretraining,
    "`uncertainty.mc_dropout`": sampling,
    "`compress.prune(where=…)`": pruning,
    "`compress.cast`": casting,
    "`compress.export`": exporting,
    "`load_into`": loading,
    "`save`, `load`": saving,
    "`compress.fold_batch_norm`": folding,
    "`compress.quantize`": quantising,
    "`transfer.replace_head`": heads,
    "`transfer.take_layers`": taking,
    "`transfer.layerwise_decay`": rates,
    "`diagnostics.gradient_flow` of outputs": diagnosing,
}


def tried(tool: str, own: Case) -> str:
    """A check mark, or why the tool does not work."""
    try:
        TOOLS[tool](own)
    except (ValueError, TypeError, AssertionError, AttributeError, KeyError) as error:
        text = str(error).strip().splitlines()[0]
        return re.sub(r"'?\b(Linen|nnx|equinox|Sequential)\b'?", "…", text)
    return "✓"


def table() -> str:
    """The table of docs/models.md, and the texts of errors by their number in it."""
    cases = {kind: case(kind) for kind in KINDS}
    texts: list[str] = []
    rows = []
    for tool in TOOLS:
        cells = []
        for own in cases.values():
            found = tried(tool, own)
            if found != "✓":
                if found not in texts:
                    texts.append(found)
                found = f"({texts.index(found) + 1})"
            cells.append(found)
        rows.append(f"| {tool} | {' | '.join(cells)} |")
    head = f"| tool | {' | '.join(KINDS)} |\n| --- |{' --- |' * len(KINDS)}"
    notes = [f"{i}. {text}" for i, text in enumerate(texts, 1)]
    return "\n".join([head, *rows, "", *notes]) + "\n"
