"""Options of a run: written once, shown everywhere, checked before anything is traced."""

import inspect
import typing

import jax
import pytest
from helpers.runs import KEY, X, Y

import jaxdeep as jd
from jaxdeep.search.options import HowOptions, SweepOptions
from jaxdeep.train import options
from jaxdeep.train.options import FitOptions, RunOptions, filled, options_of

FUNCTIONS = {
    jd.fit: FitOptions,
    jd.train.make_run: RunOptions,
    jd.sweep: SweepOptions,
    jd.search.learning_curve: SweepOptions,
    jd.search.cross_validate: HowOptions,
}


@pytest.mark.parametrize(("function", "kind"), FUNCTIONS.items(), ids=lambda f: f.__name__)
def test_signature_and_help_show_every_option_with_its_default(function, kind):
    parameters = inspect.signature(function).parameters
    for name, option in options_of(kind).items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is option.default
        assert f"\n  {name}: {option.text[:20]}" in function.__doc__
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert max(map(len, function.__doc__.splitlines())) <= 105


@pytest.mark.parametrize("kind", [FitOptions, RunOptions, SweepOptions])
def test_every_option_has_a_type_and_a_sentence(kind):
    hints = typing.get_type_hints(kind)
    for name, option in options_of(kind).items():
        assert name in hints
        assert option.text.endswith("."), name


def test_an_option_of_one_name_has_the_sentence_of_its_function():
    there, here = (options_of(kind)["checkpoint"].text for kind in (FitOptions, SweepOptions))
    assert there.startswith("a local directory; the whole run is saved")
    assert here.startswith("a local directory, from which the sweep goes on")
    assert options_of(HowOptions)["checkpoint"].text == here


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("validation_split", "validation=0.2"),
        ("sample_weight", r"\(x, y, weights\)"),
        ("verbose", "progress="),
        ("loss_weights", "losses.weighted"),
    ],
)
def test_a_name_of_another_library_is_answered_with_ours(name, here):
    with pytest.raises(TypeError, match=rf"'{name}'; here it is .*{here}"):
        jd.fit(jd.nn.dense(2), (X, Y), optimizer=jd.optimizers.sgd(0.1), key=KEY, **{name: 0.2})


def test_a_mistyped_name_is_told_from_the_one_that_was_meant():
    with pytest.raises(TypeError, match=r"fit\(\) got .* 'epoch'; did you mean 'epochs'\?"):
        jd.fit(jd.nn.dense(2), (X, Y), optimizer=jd.optimizers.sgd(0.1), key=KEY, epoch=3)
    with pytest.raises(TypeError, match=r"sweep\(\) got an unexpected keyword argument 'epoch'"):
        jd.sweep(jd.optimizers.sgd, {"rate": [0.1]}, data=(X, Y), epoch=3)
    with pytest.raises(TypeError, match=r"learning_curve\(\) got .*'seed'; did you mean 'seeds'"):
        jd.search.learning_curve(jd.optimizers.sgd, [], data=(X, Y), validation=(X, Y), seed=3)


EARLY, PLATEAU = jd.train.EarlyStopping(), jd.train.ReduceOnPlateau()
WRONG = {  # _replace does not check
    "epochs": [0, 1.5, True, None],
    "batch_size": [0, "32"],
    "shuffle": ["yes", None],
    "drop_remainder": [1],
    "accumulation_steps": [0, 2.0],
    "augment": [3],
    "ema": ["on"],
    "trainable": [3, {}],
    "early_stopping": [
        3,
        EARLY._replace(patience=-1),
        EARLY._replace(mode="up"),
        EARLY._replace(ties="any"),
    ],
    "plateau": [3, PLATEAU._replace(factor=1.0), PLATEAU._replace(patience=0)],
    "validate_every": [0],
    "on_nonfinite": ["explode", None],
    "freeze_batch_norm": [None],
    "diagnostics": [0, 1.5],
    "steps_per_epoch": [0],
    "batch": [3, lambda: None],
    "stream": ["no"],
    "block_bytes": [0],
    "epochs_per_call": [0],
    "keep_checkpoints": [0],
    "callbacks": [3, [3], "print"],
    "log": [3, "wandb", [3], lambda values: None],
    "progress": ["bar"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_what_an_option_cannot_be_is_refused_by_its_name(name, value):
    word = "where" if name == "trainable" else name
    with pytest.raises((TypeError, ValueError), match=word):
        filled("fit", FitOptions, {name: value})


def test_defaults_are_those_of_the_table():
    assert filled("fit", RunOptions, {}) == {
        name: option.default for name, option in options_of(RunOptions).items()
    }


def test_numbers_are_no_part_of_what_decides_a_program():
    from jaxdeep.train import monitors

    early = jd.train.EarlyStopping(patience=3, monitor="loss")
    assert monitors.kind_of(early) == monitors.kind_of(early._replace(patience=9, min_delta=0.1))
    assert monitors.kind_of(early) != monitors.kind_of(early._replace(monitor="val_loss"))
    limits = monitors.limits_of(5, early, None)
    numbers = {"patience": 3.0, "min_delta": 0.0, "start_from_epoch": 0.0}
    assert jax.tree.map(float, limits) == ((5.0, numbers, ()))
    with_baseline = early._replace(baseline=0.5)
    assert monitors.kind_of(early) != monitors.kind_of(with_baseline)
    assert monitors.kind_of(with_baseline) == monitors.kind_of(early._replace(baseline=0.1))


def test_a_phase_takes_what_it_can_be_told_from_the_options():
    assert set(options.Phase._fields) - {"learning_rate"} <= set(options_of(RunOptions))
