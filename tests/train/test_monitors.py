"""Which way a metric is better, read from its name."""

import copy
import os
import pickle

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over

import jaxdeep as jd
from jaxdeep.train import EarlyStopping, ReduceOnPlateau, monitors
from jaxdeep.train.monitors import mode_of, resolve

NAMES = {
    "max": "accuracy val_accuracy top_1_accuracy top-1-accuracy f1 val_auc macro/f1 "
    "true_negative_precision",
    "min": "val_f1_loss f1_loss accuracy_loss top5_error rmse val-mae negative_log_likelihood_loss "
    "false_negative_error nll_loss cross-entropy-loss",
    None: "neg_mse val_neg_mean_squared_error 1-accuracy -auc val_-auc inverse_accuracy loss_auc "
    "error_precision inaccuracy f1score score val_ neg_log_loss -loss −loss neg_loss "
    "minus_log_loss not_loss test_neg_mean_squared_error my_neg_mse one_minus_accuracy no_accuracy "
    "val_neg_loss mean(-loss) test_1-accuracy 1/loss one_over_loss reciprocal_loss negative_loss "
    "negative_false_negative_error neg_negative_log_likelihood_loss",
}


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for mode, names in NAMES.items() for name in names.split()]
)
def test_a_name_says_which_way_is_better_or_nothing(name, mode):
    assert mode_of(name) == mode


LESS = ["loss", "error", "mse", "rmse", "mae", "msle", "huber"]
MORE = ["accuracy", "precision", "recall", "f1", "auc"]
# as the docstring of EarlyStopping says
TURNING = ["neg", "no", "not", "minus", "inverse"]
PLAIN = ["val", "test", "macro", "top5", "my", "cross", "entropy", "head2", "log", "mean", "a", "of"]


def spelled(words, separators, letters):
    """The words as a name."""
    joined = words[0]
    for separator, word in zip(separators, words[1:]):
        joined += separator + word
    return getattr(joined, letters)()


SPELLING = {
    "separators": st.lists(st.sampled_from("_/. :"), min_size=7, max_size=7),
    "letters": st.sampled_from(["lower", "upper", "title"]),
    "before": st.lists(st.sampled_from(PLAIN), max_size=4),
}


@over(40, 2000, last=st.sampled_from(LESS + MORE), **SPELLING)
def test_the_last_word_of_a_name_decides(last, before, separators, letters):
    mode = "min" if last in LESS else "max"
    assert mode_of(spelled([*before, last], separators, letters)) == mode
    assert mode_of(spelled([*before, "val", last], ["-"] * 7, letters)) == mode


@over(40, 2000, less=st.sampled_from(LESS), more=st.sampled_from(MORE), **SPELLING)
def test_a_loss_of_what_should_be_large_is_a_loss_and_the_reverse_is_neither(
    less, more, before, separators, letters
):
    assert mode_of(spelled([more, *before, less], separators, letters)) == "min"
    assert mode_of(spelled([less, *before, more], separators, letters)) is None


@over(
    40,
    2000,
    last=st.sampled_from(LESS + MORE),
    turning=st.sampled_from(TURNING),
    place=st.integers(0, 9),
    **SPELLING,
)
def test_a_word_that_may_turn_a_name_round_leaves_it_undecided(
    last, turning, place, before, separators, letters
):
    place %= len(before) + 1
    words = [*before[:place], turning, *before[place:], last]
    if words[place + 1 : place + 2] != ["log"]:  # of a negative log likelihood
        assert mode_of(spelled(words, separators, letters)) is None


@over(
    40,
    2000,
    last=st.sampled_from(LESS + MORE),
    more=st.text("xyzq", min_size=1, max_size=3),
    end=st.booleans(),
    **SPELLING,
)
def test_a_word_within_a_word_says_nothing(last, more, end, before, separators, letters):
    word = last + more if end else more + last
    assert mode_of(spelled([*before, word], separators, letters)) is None


@pytest.mark.parametrize("kind", [jd.train.EarlyStopping, jd.train.ReduceOnPlateau])
def test_an_ambiguous_name_is_refused_and_asks_for_the_mode(kind):
    with pytest.raises(ValueError, match=r"mode must be 'min' or 'max' for 'neg_mse': .* pass mode="):
        resolve(kind(monitor="neg_mse"), {"neg_mse": 0.0})
    assert resolve(kind(monitor="neg_mse", mode="max"), {"neg_mse": 0.0}) == ("neg_mse", -1.0)


def test_early_stopping_asks_which_way_a_negated_loss_is_better():
    for name in ("neg_log_loss", "-loss"):
        with pytest.raises(ValueError, match="mode must be 'min' or 'max'"):
            resolve(jd.train.EarlyStopping(monitor=name), {name: 0.0})


@pytest.mark.heavy
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_a_run_that_monitors_holds_no_infinity(monitor):
    """So that ``jax_debug_infs`` has nothing to find."""
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    data = x, (x[:, 0] > 0).astype(np.int32)
    how = {"loss": jd.losses.softmax_cross_entropy, "metrics": {"accuracy": jd.metrics.accuracy}}
    early = jd.train.EarlyStopping(patience=1, monitor=monitor)
    how |= {"early_stopping": early, "plateau": jd.train.ReduceOnPlateau(monitor=monitor)}
    how |= {"optimizer": jd.optimizers.sgd(0.1), "key": jax.random.key(0), "progress": False}
    with jax.debug_infs(True):
        result = jd.fit(jd.nn.dense(2), data, validation=data, epochs=3, **how)
    best = np.argmin if monitor == "val_loss" else np.argmax
    assert result.best_epoch == best(result.history[monitor])


SCORE = jax.ShapeDtypeStruct((), np.float32)


def decided(early, values):
    """The decisions after the epochs that had these scores, and whether each of them said to stop."""
    limits = monitors.limits_of(len(values), early, None)
    decisions = monitors.first_decisions(early, None, limits, jnp.int32(-1), {"score": SCORE})
    stops = []
    for epoch, value in enumerate(values):
        decisions, stop = monitors.decide(
            early, limits, decisions, jnp.int32(epoch), {"score": jnp.float32(value)}, epoch, True
        )
        stops.append(bool(stop))
    return decisions, stops


@over(
    30,
    500,
    values=st.lists(st.sampled_from([0.25, 0.5, 0.75, float("nan")]), min_size=1, max_size=9),
    ties=st.sampled_from(["first", "last"]),
    mode=st.sampled_from(["min", "max"]),
)
def test_of_epochs_that_tie_the_first_or_the_last_is_kept_and_the_patience_is_the_same(
    values, ties, mode
):
    early = jd.train.EarlyStopping(patience=3, monitor="score", mode=mode, ties=ties)
    decisions, stops = decided(early, values)
    known = [v for v in values if not np.isnan(v)]
    best = (min if mode == "min" else max)(known) if known else None
    places = [i for i, v in enumerate(values) if v == best] or [-1]
    expected = places[0] if ties == "first" else places[-1]
    assert int(decisions.best_epoch) == int(decisions.kept) == expected
    waits = [
        epoch - max([i for i in range(epoch + 1) if _improves(values, i, mode)], default=-1)
        for epoch in range(len(values))
    ]
    assert stops == [wait >= 3 for wait in waits]


def _improves(values, at, mode):
    before = [v for v in values[:at] if not np.isnan(v)]
    sign = 1 if mode == "min" else -1
    return all(sign * values[at] < sign * v for v in before) and not np.isnan(values[at])


WATCHED = {
    "values": st.lists(st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12),
    "mode": st.sampled_from(["min", "max"]),
    "patience": st.integers(0, 3),
    "min_delta": st.sampled_from([0.0, 0.25]),
    "baseline": st.sampled_from([None, 0.5, 0.875, -1.0]),
    "start_from_epoch": st.integers(0, 4),
}


@over(40, 500, **WATCHED)
def test_a_baseline_holds_the_patience_and_the_first_epochs_are_not_looked_at(
    values, mode, patience, min_delta, baseline, start_from_epoch
):
    fields = {"mode": mode, "patience": patience, "min_delta": min_delta}
    fields |= {"baseline": baseline, "start_from_epoch": start_from_epoch}
    decisions, stops = decided(EarlyStopping(monitor="score", **fields), values)
    sign = 1 if mode == "min" else -1
    best, best_epoch, reset, expected = np.inf, -1, start_from_epoch - 1, []
    goal = np.inf if baseline is None else sign * baseline
    for epoch, value in enumerate(values):
        improves = epoch >= start_from_epoch and sign * value < best - min_delta
        if improves:
            best, best_epoch = sign * value, epoch
            reset = epoch if best < goal - min_delta else reset
        expected.append(not improves and epoch - reset >= max(patience, 1))
    assert int(decisions.best_epoch) == int(decisions.kept) == best_epoch
    assert stops == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@over(100, 500, **WATCHED)
def test_keras_stops_at_the_same_epoch_and_keeps_the_same(
    values, mode, patience, min_delta, baseline, start_from_epoch
):
    fields = {"mode": mode, "patience": patience, "min_delta": min_delta}
    fields |= {"baseline": baseline, "start_from_epoch": start_from_epoch}
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")

    class Network:
        stop_training, epoch = False, -1

        def get_weights(self):
            return self.epoch

        def set_weights(self, epoch):
            self.epoch = epoch

    network = Network()
    given = fields | {"monitor": "score", "restore_best_weights": True}
    callback = keras.callbacks.EarlyStopping(**given)
    callback.set_model(network)
    callback.on_train_begin()
    for network.epoch, value in enumerate(values):
        callback.on_epoch_end(network.epoch, {"score": value})
        if network.stop_training:
            break
    done = network.epoch + 1
    decisions, stops = decided(EarlyStopping(monitor="score", **fields), values[:done])
    assert stops == [False] * (done - 1) + [network.stop_training]
    if callback.best is not None:
        assert int(decisions.best_epoch) == callback.best_epoch


def test_a_baseline_and_a_first_epoch_in_a_run():
    """Numbers, so that another one compiles nothing; in `fit` and in `make_run`."""
    from helpers.compilations import nothing_compiled

    x = jnp.linspace(-1, 1, 32)[:, None]
    how = {"loss": jd.losses.mse, "optimizer": jd.optimizers.sgd(0.01), "key": 0, "progress": False}

    def ends(**fields):
        early = EarlyStopping(patience=2, monitor="loss", **fields)
        return len(jd.fit(jd.nn.dense(1), (x, x), epochs=8, early_stopping=early, **how).history["loss"])

    assert ends() == ends(baseline=1e6) == 8  # it improves in every epoch, and beats that
    with nothing_compiled():
        assert ends(baseline=0.0) == 8  # never beaten, but an epoch that improves does not end a run
        assert ends(start_from_epoch=3, baseline=-1.0) == 8
        assert ends(min_delta=1e6, baseline=-1.0, start_from_epoch=3) == 5  # 3 and 4 wait


def test_fields_that_came_later_are_shown_where_they_say_something():
    """Checkpoints and journals know a run by its text."""
    assert repr(EarlyStopping(2)) == (
        "EarlyStopping(patience=2, monitor=None, mode=None, min_delta=0.0, restore_best=True, "
        "ties='first')"
    )
    early = EarlyStopping(baseline=0.5, start_from_epoch=3)
    assert eval(repr(early)) == early


@pytest.mark.heavy
@pytest.mark.parametrize(("ties", "end"), [("first", 0), ("last", 3)])
def test_a_run_and_a_row_of_a_sweep_keep_the_same_of_epochs_that_tie(ties, end):
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    data = x, (x[:, 0] > 0).astype(np.int32)
    how = {
        "loss": jd.losses.softmax_cross_entropy,
        "metrics": {"accuracy": jd.metrics.accuracy},
        "validation": data,
        "early_stopping": jd.train.EarlyStopping(patience=9, monitor="val_accuracy", ties=ties),
        "epochs": 4,
        "progress": False,
    }
    still = jd.optimizers.sgd(0.0)
    result = jd.fit(jd.nn.dense(2), data, optimizer=still, key=jax.random.key(0), **how)
    assert result.best_epoch == end
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
        {"learning_rate": [0.0]},
        model=jd.nn.dense(2),
        data=data,
        **how,
    )
    assert table.results[0].end == end


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: EarlyStopping(patience=True),
            "EarlyStopping.patience must be a whole number, got True",
        ),
        (lambda: EarlyStopping(2.5), "EarlyStopping.patience must be a whole number, got 2.5"),
        (lambda: EarlyStopping(-1), "EarlyStopping.patience must be at least 0, got -1"),
        (
            lambda: EarlyStopping(min_delta=np.nan),
            r"EarlyStopping.min_delta must be in \[0, inf\), got nan",
        ),
        (lambda: EarlyStopping(min_delta=-1e-3), r"EarlyStopping.min_delta must be in \[0, inf\)"),
        (lambda: EarlyStopping(mode="up"), "EarlyStopping.mode must be 'min', 'max' or None, got 'up'"),
        (lambda: EarlyStopping(monitor=3), "EarlyStopping.monitor must be the name of a metric, got 3"),
        (
            lambda: EarlyStopping(restore_best=1),
            "EarlyStopping.restore_best must be True or False, got 1",
        ),
        (lambda: EarlyStopping(ties="any"), "EarlyStopping.ties must be 'first' or 'last', got 'any'"),
        (lambda: EarlyStopping(baseline="0.5"), "EarlyStopping.baseline must be a number"),
        (lambda: EarlyStopping(baseline=np.nan), r"EarlyStopping.baseline must be in \(-inf, inf\)"),
        (lambda: EarlyStopping(start_from_epoch=-1), "start_from_epoch must be at least 0, got -1"),
        (lambda: EarlyStopping(start_from_epoch=1.0), "start_from_epoch must be a whole number"),
        (lambda: ReduceOnPlateau(patience=True), "ReduceOnPlateau.patience must be a whole number"),
        (lambda: ReduceOnPlateau(patience=0), "ReduceOnPlateau.patience must be at least 1"),
        (lambda: ReduceOnPlateau(np.nan), r"ReduceOnPlateau.factor must be in \(0, 1\), got nan"),
        (lambda: ReduceOnPlateau(1.0), r"ReduceOnPlateau.factor must be in \(0, 1\), got 1.0"),
        (lambda: ReduceOnPlateau(cooldown=True), "ReduceOnPlateau.cooldown must be a whole number"),
        (lambda: ReduceOnPlateau(cooldown=-1), "ReduceOnPlateau.cooldown must be at least 0"),
        (lambda: ReduceOnPlateau(min_learning_rate=np.nan), "ReduceOnPlateau.min_learning_rate must be"),
        (lambda: ReduceOnPlateau(min_delta="no"), "ReduceOnPlateau.min_delta must be a number"),
        (lambda: jd.search.SuccessiveHalving(first=True), "first must be a whole number, got True"),
        (lambda: jd.search.SuccessiveHalving(factor=1), "factor must be at least 2, got 1"),
        (lambda: jd.search.Hyperband(first=0), "first must be at least 1, got 0"),
        (lambda: jd.search.AsynchronousHalving(factor=2.5), "factor must be a whole number, got 2.5"),
        (lambda: jd.search.AsynchronousHalving(mode="up"), "mode must be 'min', 'max' or None"),
    ],
)
def test_wrong_monitors_are_refused_when_they_are_made(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_monitors_are_plain_tuples_that_may_hold_what_is_traced():
    early = EarlyStopping(3, min_delta=jnp.float32(0.1), monitor="loss")
    assert early._replace(patience=4) == (4, "loss", None, jnp.float32(0.1), True, "first", None, 0)
    assert pickle.loads(pickle.dumps(EarlyStopping(2))) == EarlyStopping(2)
    assert copy.deepcopy(ReduceOnPlateau(0.5)) == ReduceOnPlateau(0.5)
    assert jax.tree.map(lambda leaf: leaf, ReduceOnPlateau(0.5)) == ReduceOnPlateau(0.5)
    delta = jax.jit(lambda delta: EarlyStopping(min_delta=delta).min_delta * 2)(0.25)
    assert delta == 0.5
