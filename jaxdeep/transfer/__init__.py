"""Using what one network has learned in another: its layers, frozen, fine-tuned or with a new head.

Arrays do not change, so that a network and its clone may share them: ``clone = params`` is a clone by
value, and training the one leaves the other as it was. What is trained, in which order and at which
rate, `jaxdeep.fit` is told by ``trainable=`` and ``phases=``.
"""

from jaxdeep.transfer.pretraining import pretrain_layerwise, pretrain_on_task
from jaxdeep.transfer.reuse import (
    drop_layers,
    layerwise_decay,
    pretrained,
    replace_head,
    take_layers,
)

__all__ = [
    "drop_layers",
    "layerwise_decay",
    "pretrain_layerwise",
    "pretrain_on_task",
    "pretrained",
    "replace_head",
    "take_layers",
]


def __dir__() -> list[str]:
    return __all__
