"""Which way a metric is better, read from its name."""

import pytest

import jaxdeep as jd
from jaxdeep.train.monitors import mode_of, resolve

NAMES = {
    "max": "accuracy val_accuracy top_1_accuracy f1 val_auc macro/f1",
    "min": "val_f1_loss f1_loss accuracy_loss top5_error rmse val-mae negative_log_likelihood_loss "
    "false_negative_error",
    None: "neg_mse val_neg_mean_squared_error 1-accuracy -auc val_-auc inverse_accuracy loss_auc "
    "error_precision inaccuracy f1score score val_",
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
