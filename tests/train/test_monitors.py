"""Which way a metric is better, read from its name."""

import pytest

import jaxdeep as jd
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


@pytest.mark.parametrize("kind", [jd.train.EarlyStopping, jd.train.ReduceOnPlateau])
def test_an_ambiguous_name_is_refused_and_asks_for_the_mode(kind):
    with pytest.raises(ValueError, match=r"mode must be 'min' or 'max' for 'neg_mse': .* pass mode="):
        resolve(kind(monitor="neg_mse"), {"neg_mse": 0.0})
    assert resolve(kind(monitor="neg_mse", mode="max"), {"neg_mse": 0.0}) == ("neg_mse", -1.0)


def test_early_stopping_asks_which_way_a_negated_loss_is_better():
    for name in ("neg_log_loss", "-loss"):
        with pytest.raises(ValueError, match="mode must be 'min' or 'max'"):
            resolve(jd.train.EarlyStopping(monitor=name), {name: 0.0})
