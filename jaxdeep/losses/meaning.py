"""What a loss takes the outputs for: logits, probabilities, or numbers of any meaning."""

import functools
from collections.abc import Callable
from typing import Any

import optax

from jaxdeep._compilation import inside
from jaxdeep.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from jaxdeep.losses.divergences import kl_divergence
from jaxdeep.losses.focal import sigmoid_focal, softmax_focal
from jaxdeep.losses.margins import categorical_hinge, hinge, multiclass_hinge

_OF_LOGITS = (  # losses of optax, which take nothing else
    optax.losses.softmax_cross_entropy,
    optax.losses.softmax_cross_entropy_with_integer_labels,
    optax.losses.safe_softmax_cross_entropy,
    optax.losses.poly_loss_cross_entropy,
    optax.losses.sigmoid_binary_cross_entropy,
    optax.losses.sigmoid_focal_loss,
)


_OF_EITHER = (softmax_cross_entropy, sigmoid_cross_entropy, softmax_focal, sigmoid_focal, kl_divergence)

# Losses of labels that are 0 and 1, one by one, and of classes that exclude each other.
OF_BITS = (sigmoid_cross_entropy, sigmoid_focal, hinge)
OF_SCORES = (hinge, categorical_hinge, multiclass_hinge, optax.losses.hinge_loss)  # any, but in [0, 1]
OF_CLASSES = (
    *(softmax_cross_entropy, softmax_focal, categorical_hinge, multiclass_hinge),
    optax.losses.softmax_cross_entropy_with_integer_labels,
)


def of_probabilities(loss: Callable[..., Any]) -> str:
    """How a loss of logits is written for probabilities."""
    one = inside(loss)
    if one not in _OF_LOGITS:
        return f"functools.partial({one.__name__}, from_logits=False)"
    ours = "sigmoid_cross_entropy" if "sigmoid" in one.__name__ else "softmax_cross_entropy"
    return f"functools.partial(jaxdeep.losses.{ours}, from_logits=False)"


def reads(loss: Callable[..., Any]) -> Any:
    """What a loss takes the outputs for: "logits", "probabilities", or None if it does not say.

    Of the loss of several outputs it is a dict of these by the outputs' names.

    >>> reads(softmax_cross_entropy), reads(functools.partial(sigmoid_cross_entropy, from_logits=False))
    ('logits', 'probabilities')
    """
    from_logits = said_by(loss)
    loss = inside(loss)
    if (several := getattr(loss, "of_outputs", None)) is not None:
        return {name: reads(one) for name, one in several.items()}
    if loss in _OF_LOGITS:
        return "logits"
    if loss not in _OF_EITHER:
        return None
    return "probabilities" if from_logits is False else "logits"


def said_by(function: Callable[..., Any]) -> bool | None:
    """What the partials around a function say of ``from_logits``, the outermost first; None if nothing.

    >>> said_by(functools.partial(sigmoid_cross_entropy, from_logits=False)), said_by(sigmoid_focal)
    (False, None)
    """
    while (deeper := inside(function, once=True)) is not function:
        keywords = function.keywords if isinstance(function, functools.partial) else {}
        if (said := keywords.get("from_logits")) is not None:
            return bool(said)
        function = deeper
    return None
