"""Losses: one value per example or element; the objective takes the mean (and weights them).

Each is a function ``(outputs, y) -> values``; its options are keywords, fixed by `functools.partial`:
``functools.partial(huber, delta=2.0)``.
"""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._arrays import (
    HostOrDevice,
    as_array,
    check_holds,
    check_leaves,
    differences,
    floating,
    in_two,
    is_cut,
    leaves_of,
)
from jaxdeep._compilation import inside
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree

__all__ = [
    "huber",
    "log_cosh",
    "mae",
    "mse",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "weighted",
]


def __dir__() -> list[str]:
    return __all__


Loss = Callable[[PyTree, PyTree], Array]  # (outputs, y) -> values


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, label_smoothing: ArrayLike = 0.0, from_logits: bool = True
) -> Float[Array, "*batch"]:
    """Cross-entropy of softmax(logits) against labels: ``−Σ_c p_c log softmax(logits)_c``.

    Args:
      logits: ``(…, classes)``; probabilities with ``from_logits=False``.
      labels: classes as integers, of shape ``(…)`` or ``(…, 1)``, or probabilities (one-hot, smoothed)
        of shape ``(…, classes)``.
      label_smoothing: α in [0, 1]: p becomes ``(1 − α) p + α / classes``.
      from_logits: whether the model ends without a softmax. With False ``logits`` are the probabilities
        q behind it and the loss is ``−Σ_c p_c log (q_c / Σ q)``. A softmax loses what is below the
        smallest float, so logits are the better choice.

    Returns:
      One loss per example, of shape ``(…)``, in the dtype of the logits.

    Raises:
      ValueError: shapes that do not fit; a smoothing outside [0, 1]; as far as values are known (not
        traced), integer labels outside ``[0, classes)``, probabilities that are negative or do not sum
        to one.
      TypeError: labels of shape ``(…)`` that are not integers, complex numbers.

    Source: `optax.losses`, with the labels checked; smoothing of Szegedy et al. (arXiv:1512.00567);
    ``from_logits`` of Keras.

    >>> import jax.numpy as jnp
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(3).tolist()  # log 4
    [1.3860000371932983, 1.3860000371932983]
    >>> p = jnp.array([[0.25, 0.75]])
    >>> softmax_cross_entropy(p, jnp.array([0]), from_logits=False).round(3).tolist()
    [1.3860000371932983]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    x, y = _scores(logits, from_logits), as_array("labels", labels)
    if x.ndim < 1 or x.shape[-1] < 2:
        raise ValueError(
            f"logits need an axis of at least 2 classes, got shape {x.shape}; for one output there is "
            "sigmoid_cross_entropy"
        )
    if not from_logits:
        x = jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))
    if y.shape == x.shape:
        _checks.check_distributions("labels", y)
        # "safe": 0 for a class that cannot be, even with a logit of −∞
        loss = optax.losses.safe_softmax_cross_entropy(x, jnp.asarray(y, x.dtype))
    else:
        classes = _checks.classes_of(x, y)
        classes = jnp.where(classes < 0, x.shape[-1], classes)  # traced: NaN, not the last class
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(x, classes)
    if isinstance(label_smoothing, (int, float)) and label_smoothing == 0:
        return loss
    alpha = jnp.asarray(label_smoothing, x.dtype)
    uniform = -jnp.mean(jax.nn.log_softmax(x), axis=-1)
    return jnp.where(alpha == 0, loss, (1 - alpha) * loss + alpha * uniform)


def sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, label_smoothing: ArrayLike = 0.0, from_logits: bool = True
) -> Float[Array, "*shape"]:
    """Binary cross-entropy of σ(logits): ``−y log σ(x) − (1 − y) log(1 − σ(x))``, elementwise.

    A logit of ±∞ is a certain prediction: its loss is 0 if it is right and ∞ if it is wrong.

    Args:
      logits: of any shape; probabilities with ``from_logits=False``.
      labels: of the same shape, but for a last axis of 1: 0 and 1 (integers, booleans) or probabilities.
      label_smoothing: α in [0, 1]: y becomes ``(1 − α) y + α / 2``.
      from_logits: whether the model ends without a sigmoid. With False ``logits`` are the probabilities
        behind it, p, and the loss is ``−y log p − (1 − y) log(1 − p)``.

    Returns:
      One loss per element, in the dtype of the logits.

    Raises:
      ValueError: labels of another shape, a smoothing outside [0, 1]; as far as values are known (not
        traced), labels or probabilities outside [0, 1].
      TypeError: complex numbers.

    Source: `optax.losses.sigmoid_binary_cross_entropy`; Keras' `BinaryCrossentropy`.

    >>> sigmoid_cross_entropy(jnp.zeros(2), jnp.array([0, 1])).round(3).tolist()  # log 2
    [0.6930000185966492, 0.6930000185966492]
    >>> sigmoid_cross_entropy(jnp.array([jnp.inf, -jnp.inf]), jnp.array([1, 0])).tolist()
    [0.0, 0.0]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    x, labels = _pair("labels", _scores(logits, from_logits), labels)
    _checks.check_known("labels", labels, 0, 1)
    alpha = jnp.asarray(label_smoothing, x.dtype)
    y = (1 - alpha) * jnp.asarray(labels, x.dtype) + alpha / 2
    if from_logits:
        yes, no = jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)
    else:
        tiny = jnp.finfo(x.dtype).tiny
        small = jnp.minimum(x, 0.5)  # 1 − x would lose its digits
        yes = jnp.log(jnp.maximum(x, tiny))
        no = jnp.where(x < 0.5, jnp.log1p(-small), jnp.log(jnp.maximum(1 - x, tiny)))
    # what cannot be has no part, even if its logarithm is −∞
    return -y * jnp.where(y == 0, 0, yes) - (1 - y) * jnp.where(y == 1, 0, no)


def mse(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Squared error: ``(outputs − targets)²``, elementwise; its mean is the mean squared error.

    Args:
      outputs, targets: of the same shape, but for a last axis of 1: ``(n,)`` is taken for ``(n, 1)``.

    Returns:
      One loss per element, computed in at least float32, in the dtype of the outputs.

    The difference of two NumPy arrays is taken in float64 (exactly, of whole numbers), and NumPy targets
    of 64 bits beside an array of JAX keep the digits that float32 would lose (at 1.7e9 it has steps of
    128).

    Raises:
      ValueError: targets of another shape; nothing is broadcast. Known targets that JAX' default types
        or the dtype of the outputs cannot hold: whole numbers beyond 32 bits, others beyond float32.
        Differences of NumPy arrays that are beyond float32.

    Source: `optax.losses.squared_error`; no ½.

    >>> mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    return _elementwise(optax.losses.squared_error, outputs, targets)


def mae(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Absolute error: ``|outputs − targets|``, elementwise; its mean is the mean absolute error.

    Args:
      outputs, targets: as for `mse`.

    Raises:
      ValueError: targets of another shape, or that cannot be held.

    Source: `torch.nn.L1Loss` without its mean.

    >>> mae(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    return _elementwise(jnp.abs, outputs, targets)


def huber(outputs: ArrayLike, targets: ArrayLike, *, delta: ArrayLike = 1.0) -> Float[Array, "*shape"]:
    """``½ e²`` where ``|e| ≤ δ``, ``δ (|e| − ½ δ)`` beyond, with e the error; elementwise.

    Args:
      outputs, targets: as for `mse`.
      delta: δ > 0, where the parabola becomes a line.

    Raises:
      ValueError: targets of another shape, or that cannot be held; δ ≤ 0.

    Source: Huber (1964); `optax.losses.huber_loss`, Keras' `Huber`.

    >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """
    _checks.check_scalar("delta", delta, "(0, inf)")

    def equation(errors: jax.Array) -> jax.Array:
        return optax.losses.huber_loss(errors, delta=jnp.asarray(delta, errors.dtype))

    return _elementwise(equation, outputs, targets)


def log_cosh(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """``log cosh e`` with e the error, elementwise: ½ e² near 0, ``|e| − log 2`` far from it.

    Args:
      outputs, targets: as for `mse`.

    Raises:
      ValueError: targets of another shape, or that cannot be held.

    Correct to a few roundings at any size of the error, and its derivative is ``tanh e``.

    Source: Keras' `LogCosh`; `optax.losses.log_cosh`, which loses the digits of errors below 1.

    >>> log_cosh(jnp.array([0.0, 100.0]), jnp.zeros(2)).round().tolist()
    [0.0, 99.0]
    >>> f"{float(log_cosh(jnp.array(1e-3), jnp.array(0.0))):.3g}"  # e² / 2
    '5e-07'
    """
    return _elementwise(_log_cosh, outputs, targets)


@jax.custom_jvp
def _log_cosh(error: jax.Array) -> jax.Array:
    """``log cosh e``, which near 0 is of ``cosh e − 1 = (e^|e| − 1)² / 2 e^|e|``."""
    size = jnp.abs(error)
    near = size < 1
    grown = jnp.expm1(jnp.where(near, size, 0))
    far = optax.losses.log_cosh(jnp.where(near, 1, error))
    return jnp.where(near, jnp.log1p(grown * (grown / (2 * (1 + grown)))), far)


@_log_cosh.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (error,), (tangent,) = primals, tangents
    return _log_cosh(error), jnp.tanh(error) * tangent


def weighted(
    losses: Mapping[str, Loss] | Sequence[Loss],
    weights: Mapping[str, ArrayLike] | Sequence[ArrayLike] | None = None,
) -> Loss:
    """The loss of several outputs: ``Σ wᵢ lossᵢ(outputsᵢ, yᵢ)``, one value an example.

    A loss that gives a value for every element, such as `mse`, is averaged over all axes but the first.

    Args:
      losses: by name for dicts of outputs and targets, in order for tuples.
      weights: wᵢ likewise; 1 each by default. An output of weight 0 has no part, whatever its values.

    Returns:
      A loss ``(outputs, y) -> values`` of shape ``(batch,)``.

    Raises:
      TypeError: neither a dict nor a list, a loss that is not a function.
      ValueError: no loss, names or numbers that do not match, a negative weight; when called, outputs or
        targets without one of the names, or a loss of a scalar.

    Source: Keras' ``loss_weights``.

    >>> loss = weighted({"main": mse, "auxiliary": mae}, {"main": 0.9, "auxiliary": 0.1})
    >>> outputs = {"main": jnp.ones((2, 1)), "auxiliary": jnp.ones((2, 3))}
    >>> loss(outputs, jax.tree.map(jnp.zeros_like, outputs)).round(3).tolist()
    [1.0, 1.0]
    """
    for argument, several in (("losses", losses), ("weights", weights)):
        if not (several is None and argument == "weights") and not isinstance(
            several, (Mapping, list, tuple)
        ):
            raise TypeError(f"{argument} must be a dict by name or a list, got {several!r}")
    if not losses:
        raise ValueError("losses must have at least one loss")
    names = _names(losses)
    functions: dict[Any, Loss] = {name: losses[name] for name in names}
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"losses[{name!r}] must be a function of (outputs, y), got {function!r}")
    factors: Any = dict.fromkeys(names, 1.0) if weights is None else weights
    weighted_names = _names(factors)
    if sorted(map(str, weighted_names)) != sorted(map(str, names)):
        raise ValueError(f"weights must be one for each of {names}, got {weighted_names}")
    for name in names:
        _checks.check_scalar(f"weights[{name!r}]", factors[name], "[0, inf)")

    def loss(outputs: PyTree, y: PyTree) -> Float[Array, "batch"]:
        outputs, y = leaves_of("outputs", outputs), leaves_of("targets", y)
        for argument, tree in (("outputs", outputs), ("targets", y)):
            if not isinstance(tree, (Mapping, list, tuple)):
                raise TypeError(f"{argument} must be a dict by name or a list, got {tree!r}")
            check_leaves(argument, tree)

        def weighted_loss(name: Hashable) -> Float[Array, "batch"]:
            for argument, tree in (("outputs", outputs), ("targets", y)):
                if name not in _names(tree):
                    raise ValueError(
                        f"the {argument} lack {name!r}, for which there is a loss; got {_names(tree)}"
                    )
            function, factor, output, target = functions[name], factors[name], outputs[name], y[name]
            of_nothing = jnp.asarray(factor) == 0
            if _checks.known_value(factor) == 0:
                shape = jax.eval_shape(function, output, target)
                values = jnp.zeros(shape.shape, shape.dtype)
            else:
                # on the way in, as a derivative of NaN times 0 is NaN
                output = jax.tree.map(
                    lambda leaf: jnp.where(of_nothing, jnp.zeros_like(leaf), leaf), output
                )
                values = jnp.asarray(function(output, target))
            if values.ndim < 1:
                raise ValueError(f"losses[{name!r}] must give a value an example, got a scalar")
            of_examples = values.mean(axis=tuple(range(1, values.ndim)))
            return jnp.where(of_nothing, 0, factor * of_examples)

        each = [weighted_loss(name) for name in names]
        if len({values.shape for values in each}) > 1:
            rows = {name: len(values) for name, values in zip(names, each)}
            raise ValueError(f"the outputs must have the same number of examples, got {rows}")
        return functools.reduce(jnp.add, each)

    loss.of_outputs = functions  # type: ignore[attr-defined]
    return loss


_OF_LOGITS = (  # losses of optax, which take nothing else
    optax.losses.softmax_cross_entropy,
    optax.losses.softmax_cross_entropy_with_integer_labels,
    optax.losses.safe_softmax_cross_entropy,
    optax.losses.poly_loss_cross_entropy,
    optax.losses.sigmoid_binary_cross_entropy,
    optax.losses.sigmoid_focal_loss,
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
    if loss not in (softmax_cross_entropy, sigmoid_cross_entropy):
        return None
    return "probabilities" if from_logits is False else "logits"


def said_by(function: Callable[..., Any]) -> bool | None:
    """What the partials around a function say of ``from_logits``, the outermost first; None if nothing.

    >>> said_by(functools.partial(sigmoid_cross_entropy, from_logits=False)), said_by(mse)
    (False, None)
    """
    while (deeper := inside(function, once=True)) is not function:
        keywords = function.keywords if isinstance(function, functools.partial) else {}
        if (said := keywords.get("from_logits")) is not None:
            return bool(said)
        function = deeper
    return None


def _names(several: Any) -> list[Any]:
    """The keys of a dict, the places of a sequence."""
    return list(several) if isinstance(several, Mapping) else list(range(len(several)))


def _scores(outputs: ArrayLike, from_logits: bool) -> jax.Array:
    """Logits or probabilities, as the model gives them."""
    _checks.check_flag("from_logits", from_logits)
    if not from_logits:
        outputs = as_array("logits", outputs)
        _checks.check_known("logits (which are probabilities with from_logits=False)", outputs, 0, 1)
    return floating("logits", outputs)


def _elementwise(
    equation: Callable[[jax.Array], jax.Array], outputs: ArrayLike, targets: ArrayLike
) -> jax.Array:
    """Of errors in at least float32, which keeps the targets; in the dtype of the outputs."""
    given = as_array("outputs", outputs)
    outputs, targets = _pair("targets", given, targets)
    most = float(jnp.finfo(outputs.dtype).max)
    if isinstance(targets, np.ndarray) and outputs.dtype.itemsize < 4 and targets.size:
        beyond = targets[np.isfinite(targets) & (np.abs(targets.astype(np.float64)) > most)]
        if beyond.size:
            raise ValueError(
                f"targets holds {beyond[0]}, which {outputs.dtype} of the outputs cannot hold (at most "
                f"{most:.2g})"
            )
    return equation(_errors(given, outputs, targets)).astype(outputs.dtype)


def _errors(given: HostOrDevice, outputs: jax.Array, targets: HostOrDevice) -> jax.Array:
    """``outputs − targets`` in at least float32, of the outputs as they were given."""
    wide = jnp.promote_types(outputs.dtype, jnp.float32)
    given = given.reshape(outputs.shape)
    if isinstance(given, np.ndarray) and isinstance(targets, np.ndarray):
        cut = is_cut(given, wide) or is_cut(targets, wide)
        if cut:
            apart = differences(given, targets)
            check_holds("outputs - targets", apart)
            return jnp.asarray(apart.astype(wide))
    on_device = isinstance(given, jax.Array) and isinstance(targets, jax.Array)
    if on_device and jnp.issubdtype(given.dtype, jnp.floating):
        return outputs.astype(wide) - targets.astype(wide)
    (high, low), (of_target, low_of_target) = in_two(given, wide), in_two(targets, wide)
    errors = high - of_target
    if low is not None:
        errors = errors + low if low_of_target is None else errors + (low - low_of_target)
    elif low_of_target is not None:
        errors = errors - low_of_target
    return errors


def _pair(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[jax.Array, HostOrDevice]:
    """Outputs and what they are compared with, of one shape."""
    outputs, targets = floating("outputs", outputs), as_array(name, targets)
    check_holds(name, targets)
    if targets.shape != outputs.shape:
        if not _checks.same_but_for_one(targets.shape, outputs.shape):
            raise ValueError(
                f"{name} must have the shape of the outputs, {outputs.shape}, got {targets.shape}"
            )
        targets = targets.reshape(outputs.shape)
    return outputs, targets
