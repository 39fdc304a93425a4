"""Target encoding: categories as what the target is on average where they occur."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data, whole
from jaxdeep._precision import check_above_zero, check_told_apart, extremes
from jaxdeep._shapes import Array, ArrayLike, Float, Integer
from jaxdeep._sums import sums_at
from jaxdeep._warning import warn
from jaxdeep.preprocessing.features import Halves, as_known, in_halves, two_sum
from jaxdeep.preprocessing.folds import folds, given_parts
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.statistics import moments
from jaxdeep.preprocessing.transform import described, fits
from jaxdeep.preprocessing.vocabulary import (
    Categories,
    Features,
    Vocabulary,
    features_of,
    names_of,
    places_in,
    unique,
    vocabulary_of,
)

Codes = Integer[Array, "n *features"]  # the number of a category, −1 for none
Encodings = Float[Array, "..."]  # (categories,) or (features, categories), and a last axis of classes
Mean = Float[Array, "*classes"]
Encoded = Float[Array, "..."]  # (n,) or (n, features), and features · classes if there are classes


class TargetState(NamedTuple):
    """What `target_encoder` learns, in at least float32.

    Attributes:
      encodings: ``(categories,)`` for `x` of one axis, ``(features, categories)`` for two; and a last
        axis of classes if there are any.
      mean: of the target, ``()`` or ``(classes,)``: what an unseen category becomes.
      vocabulary: the categories, None if they are integers known beforehand.
      rest: what rounding took off the encodings of targets that differ by less than the default float
        can tell, so that they are ``encodings + rest``; else None. What is encoded is of that float, so
        that `transform` refuses such a state.
    """

    encodings: Encodings
    mean: Mean
    vocabulary: Vocabulary | None
    rest: Any = None


@described
class TargetEncoder(NamedTuple):
    """A target encoder: three pure functions.

    Attributes:
      fit: ``(x, y) -> state``.
      transform: ``(state, x) -> encoded``, for data other than that of `fit`.
      fit_transform: ``(key, x, y, *, cv=5, stratify=False) -> (encoded, state)``, for the training
        data: each of `cv` random parts is encoded from the other parts, so that no example sees its own
        target. `cv` may be an array instead, the number of the part of each example. ``stratify=True``
        makes parts alike in their targets, for few examples; then a target has a say in which examples
        its own is encoded from.
      names: ``(state, names=None) -> texts``, of the columns of what is encoded: ``x0``, and with
        classes ``x0_0``, ``x0_1``; `names` are those of the features.
    """

    fit: Callable[[Categories, ArrayLike], TargetState]
    transform: Callable[[TargetState, Categories], Encoded]
    fit_transform: Callable[..., tuple[Encoded, TargetState]]
    names: Callable[..., tuple[str, ...]]


@fits(TargetState)
def target_encoder(
    smooth: float | Float[Array, ""] | Literal["auto"] = "auto",
    *,
    classes: int | None = None,
    categories: int | None = None,
    min_count: int = 1,
) -> TargetEncoder:
    """Each category becomes its mean target, shrunk to the mean of all: ``S = λ mean_i + (1 − λ) mean``.

    ``λ = n_i / (m + n_i)``, with n_i the number of examples of the category. ``smooth="auto"`` is
    ``m = σ_i² / σ_y²`` (biased variances): empirical Bayes. A category that was never seen becomes the
    mean, and so does every category if all targets are equal. With ``"auto"`` a category that was seen
    once keeps its own target, unless `min_count` is 2. What is missing (None, NaN, NaT, pandas' NA) is
    one category, in whatever container; `jaxdeep.preprocessing.keys` says which values are the same.

    The training data is encoded by ``encoded, state = encoder.fit_transform(key, x, y)``, which is not
    ``transform(fit(x, y), x)``: the latter lets examples see their own targets. The parts are random and
    of equal size. Many parts are nearly as bad as none: above 10 there is a warning.

    Args:
      smooth: ``"auto"``, or m ≥ 0, a number or a scalar array.
      classes: the number of classes, if targets are classes in ``[0, classes)``; each feature then
        becomes one column for every class. None if targets are numbers, or 0 and 1.
      categories: the number of categories, if they are integers in ``[0, categories)``; everything then
        runs inside `jax.jit` and `jax.vmap`, and other integers count as never seen. By default
        categories of any kind (strings, numbers, None) are collected from the data, outside of
        `jax.jit`.
      min_count: a category with fewer examples becomes the mean, as if it had not been seen.

    The functions take `x` ``(n,)`` or ``(n, features)`` and `y` ``(n,)``; encoded are ``(n,)`` or
    ``(n, features)``; with classes ``(n, classes)`` or ``(n, features · classes)``, feature by feature.

    Raises:
      ValueError: arguments out of range; when fitting, shapes that do not fit, targets that are not
        finite or not classes, categories beyond those declared, a `cv` below 2 or above n, two values
        of one key, as 1 and "1"; when transforming, other features than the state's, and targets that
        differ by so little that the default float cannot tell: seconds since 1970 of a few minutes.
      TypeError: arguments of another kind, masked values, also in a list; traced data without
        `categories`.

    Source: Micci-Barreca (2001); scikit-learn's `TargetEncoder`.

    >>> x = np.array(["a", "a", "b", "b"])
    >>> y = np.array([1.0, 3.0, 6.0, 6.0])
    >>> encoder = target_encoder(smooth=2.0)
    >>> state = encoder.fit(x, y)
    >>> encoder.transform(state, np.array(["a", "b", "?"])).tolist()
    [3.0, 5.0, 4.0]
    >>> encoded, state = encoder.fit_transform(jax.random.key(0), x, y, cv=2)
    >>> encoded.shape
    (4,)
    """
    if classes is not None:
        classes = _checks.check_count("classes", classes, low=2)
    if categories is not None:
        categories = _checks.check_count("categories", categories)
    shrink = _shrink(smooth, min_count)

    def prepared(x: Categories, y: ArrayLike) -> tuple[Codes, Halves, int, Vocabulary | None]:
        vocabulary = None
        if categories is None:
            features = features_of(x)
            vocabulary, places = vocabulary_of(features)
            codes, size = _codes(places, features), max(map(len, vocabulary.categories), default=1)
        else:
            codes, size = _integers(x, categories, strict=True), categories
        if codes.ndim not in (1, 2):
            raise ValueError(f"x must be of shape (n,) or (n, features), got {codes.shape}")
        return codes, _targets(y, codes.shape[0], classes), size, vocabulary

    @of_data
    def fit(x: Categories, y: ArrayLike) -> TargetState:
        codes, targets, size, vocabulary = prepared(x, y)
        weights = jnp.ones(codes.shape[:1], targets.high.dtype)
        encodings, mean, rest = _fit(codes, targets, weights, shrink, size)
        return TargetState(encodings, mean, vocabulary, None if _is_told(y) else rest)

    @of_data
    def transform(state: TargetState, x: Categories) -> Encoded:
        _check_told(state)
        words = state.vocabulary
        size = state.encodings.shape[-1 - state.mean.ndim]
        if words is None:
            codes = _integers(x, size)
        else:
            columns = features_of(x)
            codes = _codes(places_in(words, columns), columns)
        single = state.encodings.ndim == 1 + state.mean.ndim
        features = 1 if single else state.encodings.shape[0]
        width = math.prod(codes.shape[1:]) if single else codes.shape[-1] if codes.ndim else None
        if width != features:
            raise ValueError(
                f"the state is of {'one feature' if single else f'{features} features'}, got x of shape "
                f"{codes.shape}"
            )
        return _encode(state.encodings, state.mean, codes)

    @of_data
    def fit_transform(
        key: Array, x: Categories, y: ArrayLike, *, cv: int | ArrayLike = 5, stratify: bool = False
    ) -> tuple[Encoded, TargetState]:
        _checks.check_key(key)
        _checks.check_flag("stratify", stratify)
        codes, targets, size, vocabulary = prepared(x, y)
        check_told_apart("y", as_known("y", y))
        n = codes.shape[0]
        if _checks.is_whole(cv) or np.ndim(cv) != 1:
            count = _checks.check_count("cv", cv, low=2)
            if count > n:
                raise ValueError(f"cv must be at most the number of examples, {n}; got {count}")
            part = folds(key, jnp.asarray(as_array("y", y)) if stratify else n, count)
        else:
            part, count = given_parts(cv, n)
        if count > 10:
            warn(f"cv={count}: of many parts the targets can be read back; 5 to 10 hide them better")
        encoded, encodings, mean = _cross_fit(part, codes, targets, shrink, size, count)
        return encoded, TargetState(encodings, mean, vocabulary)

    return TargetEncoder(fit, transform, fit_transform, _names)


def _shrink(smooth: ArrayLike | str, min_count: int) -> "_Shrink":
    if not isinstance(smooth, str):
        _checks.check_scalar("smooth", smooth, "[0, inf)")
    elif smooth != "auto":
        raise ValueError(f"smooth must be 'auto' or a number ≥ 0, got {smooth!r}")
    least = _checks.check_count("min_count", min_count)
    return _Shrink(None if isinstance(smooth, str) else smooth, least)


def _names(state: TargetState, names: Sequence[str] | None = None) -> tuple[str, ...]:
    check_state(state, TargetState)
    if names is None and state.vocabulary is not None:
        names = state.vocabulary.names
    single = state.encodings.ndim == 1 + state.mean.ndim
    features = names_of(names, 1 if single else state.encodings.shape[0])
    if not state.mean.ndim:
        return unique(features)
    return unique(f"{name}_{c}" for name in features for c in range(state.mean.shape[0]))


class _Shrink(NamedTuple):
    """How encodings are shrunk: m, or None for empirical Bayes, and by how many examples from."""

    smooth: ArrayLike | None
    least: int


@partial(jax.jit, static_argnums=4)
def _fit(
    codes: Codes, y: Halves, weights: Float[Array, "n"], shrink: _Shrink, size: int
) -> tuple[Encodings, Mean, Encodings]:
    """Encodings, mean, and what rounding took off the encodings, of the examples with weight 1."""
    shape, y = y.high.shape, jax.tree.map(lambda half: half.reshape(len(half), -1), y)
    weights = weights[:, None]
    seen = moments(y, weights, (0,), False)
    mean, variance, unit = seen.mean, seen.spread, seen.unit
    # about the mean, and in units: small differences of large targets are kept, and their squares
    off = (y.high - mean) + ((0 if y.low is None else y.low) - seen.rest)
    off = weights * (off / unit)

    def feature(codes: Integer[Array, "n"]) -> tuple[Array, Array]:  # (categories, columns) each
        codes = jnp.where(codes < 0, size, codes)  # no category: dropped
        add = partial(sums_at, places=codes, size=size)
        count = add(weights)
        effect = add(off) / jnp.maximum(count, 1)
        if shrink.smooth is None:
            apart = weights * (off - effect[jnp.clip(codes, 0, size - 1)])
            spread = add(apart * apart) / jnp.maximum(count, 1)
            below = variance * count + spread
            share = variance * count / jnp.where(below > 0, below, 1)
        else:
            share = count / (shrink.smooth + jnp.where(count > 0, count, 1))
        share = jnp.where(count < shrink.least, 0, share)
        return two_sum(mean, unit * (share * effect) + seen.rest)

    both = feature(codes) if codes.ndim == 1 else jax.vmap(feature, in_axes=1)(codes)
    encodings, rest = (part.reshape(part.shape[:-1] + shape[1:]) for part in both)
    return encodings, mean.reshape(shape[1:]), rest


@jax.jit
def _encode(encodings: Encodings, mean: Mean, codes: Array) -> Encoded:
    size = encodings.shape[-1 - mean.ndim]
    inside = jnp.clip(codes, 0, size - 1)
    single = encodings.ndim == 1 + mean.ndim
    encoded = encodings[inside] if single else encodings[jnp.arange(codes.shape[-1]), inside]
    unseen = ((codes < 0) | (codes >= size)).reshape(codes.shape + (1,) * mean.ndim)
    encoded = jnp.where(unseen, mean, encoded)
    if single or not mean.ndim:
        return encoded
    return encoded.reshape(*codes.shape[:-1], codes.shape[-1] * mean.shape[0])


@partial(jax.jit, static_argnums=(4, 5))
def _cross_fit(
    part: Integer[Array, "n"], codes: Codes, y: Halves, shrink: _Shrink, size: int, cv: int
) -> tuple[Encoded, Encodings, Mean]:
    def one(fold: Array) -> Encoded:
        weights = (part != fold).astype(y.high.dtype)
        return _encode(*_fit(codes, y, weights, shrink, size)[:2], codes)

    # fold by fold, which needs no room for all of them
    def add(encoded: Encoded, fold: Array) -> tuple[Encoded, None]:
        mine = (part == fold).reshape((-1,) + (1,) * (encoded.ndim - 1))
        return jnp.where(mine, one(fold), encoded), None

    state = _fit(codes, y, jnp.ones(len(y.high), y.high.dtype), shrink, size)[:2]
    encoded, _ = jax.lax.scan(add, _encode(*state, codes), jnp.arange(cv))
    return encoded, *state


def _codes(places: list[np.ndarray], features: Features) -> Codes:
    """Integers for categories, −1 for those unseen."""
    codes = [np.where(column < 0, -1, column).astype(np.int32) for column in places]
    if features.single:
        return jnp.asarray(codes[0])
    return jnp.asarray(np.stack(codes, axis=1) if codes else np.zeros((0, 0), np.int32))


def _integers(x: Categories, size: int, *, strict: bool = False) -> Codes:
    """Numbers of categories in at least 32 bits, −1 for those beyond `size`, which `strict` refuses."""
    array = as_array("x", x)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"with categories=…, x must hold integers, got {array.dtype}")
    if strict and not isinstance(array, jax.core.Tracer) and array.size:
        low, high = extremes(array)
        if low < 0 or high >= size:
            raise ValueError(f"x must hold integers in [0, {size}), got some from {low} to {high}")
    if isinstance(array, np.ndarray):  # before JAX cuts 64 bits to 32
        beyond = (array < 0) | (array >= np.uint64(size))
        array = np.where(beyond, -1, array.astype(np.int64))
    return whole("x", array)


def _targets(y: ArrayLike, n: int, classes: int | None) -> Halves:
    """Targets in at least float32; for classes one-hot."""
    array = as_array("y", y)
    if tuple(array.shape) != (n,):
        raise ValueError(
            f"y must have one target for each of {n} examples of x, got shape {tuple(array.shape)}"
        )
    if not n:
        raise ValueError("there are no examples to learn encodings from")
    if classes is not None:
        _checks.check_classes(jax.ShapeDtypeStruct((n, classes), jnp.float32), array)
        hot = jax.nn.one_hot(jnp.asarray(array), classes, dtype=jnp.result_type(float))
        return Halves(hot, None)
    halves, _ = in_halves(array, "y")
    if halves.last is not None:  # of which two parts are used
        check_told_apart("y", as_known("y", array))
    check_above_zero("y", array, axis=(0,))
    if not isinstance(array, jax.core.Tracer) and not all(map(math.isfinite, extremes(array))):
        raise ValueError("y must be finite")
    return halves


def _check_told(state: TargetState) -> None:
    """Refuse the state of targets whose differences are lost in what is encoded."""
    check_state(state, TargetState)
    if state.rest is not None:
        raise ValueError(
            f"the state is of targets whose differences {state.encodings.dtype} cannot tell: fit to "
            "targets less what they have in common, or turn on jax_enable_x64"
        )


def _is_told(y: ArrayLike) -> bool:
    """Whether the default float tells the differences of targets, as far as they are known."""
    try:
        check_told_apart("y", as_known("y", y))
    except ValueError:
        return False
    return True
