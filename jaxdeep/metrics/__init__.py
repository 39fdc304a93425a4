"""Metrics: functions of one value per example, and streaming metrics of sums.

`accuracy`, `binary_accuracy`, `subset_accuracy` and `top_k_accuracy` are functions ``(outputs, y) ->
values``, whose values are averaged over examples. Any loss can be used as such a metric, too: `mse`,
`mape` and `msle` of `jaxdeep.losses`, for example. A metric that is no average over examples, as a
precision is not the mean of the batches' precisions, is a `Metric`: four pure functions over a pytree of
sums, joined by its ``merge``. Both kinds go into ``supervised(…, metrics=…)``.
"""

from jaxdeep.metrics.agreement import cohen_kappa, matthews_corrcoef
from jaxdeep.metrics.counts import confusion_matrix
from jaxdeep.metrics.examples import accuracy, binary_accuracy, subset_accuracy, top_k_accuracy
from jaxdeep.metrics.probability import brier, log_loss
from jaxdeep.metrics.ranking import auc, average_precision, average_precision_score, roc_auc_score
from jaxdeep.metrics.rates import balanced_accuracy, f1, precision, recall
from jaxdeep.metrics.regression import r2, rmse
from jaxdeep.metrics.streaming import Metric, Tally, exact_sums, mean

__all__ = [
    "Metric",
    "Tally",
    "accuracy",
    "auc",
    "average_precision",
    "average_precision_score",
    "balanced_accuracy",
    "binary_accuracy",
    "brier",
    "cohen_kappa",
    "confusion_matrix",
    "exact_sums",
    "f1",
    "log_loss",
    "matthews_corrcoef",
    "mean",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc_score",
    "subset_accuracy",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__
