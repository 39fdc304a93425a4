"""Metrics: functions of one value per example, and streaming metrics of sums.

`accuracy`, `binary_accuracy` and `top_k_accuracy` are functions ``(outputs, y) -> values``, whose values
are averaged over examples. Any loss can be used as such a metric, too. A metric that is no average over
examples, as a precision is not the mean of the batches' precisions, is a `Metric`: four pure functions
over a pytree of sums, joined by its ``merge``. Both kinds go into ``supervised(…, metrics=…)``.
"""

from jaxdeep.metrics.counts import confusion_matrix, f1, precision, recall
from jaxdeep.metrics.examples import accuracy, binary_accuracy, top_k_accuracy
from jaxdeep.metrics.ranking import auc, roc_auc_score
from jaxdeep.metrics.streaming import Metric, Tally, mean

__all__ = [
    "Metric",
    "Tally",
    "accuracy",
    "auc",
    "binary_accuracy",
    "confusion_matrix",
    "f1",
    "mean",
    "precision",
    "recall",
    "roc_auc_score",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__
