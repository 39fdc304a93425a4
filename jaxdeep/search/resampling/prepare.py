"""`prepare=`: what is fitted to the training rows of a part of the data, as a function of that part."""

from collections.abc import Callable
from typing import Any

import jax

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.preprocessing import PowerTransform, Scaler, TargetEncoder
from jaxdeep.search.resampling.subset import Prepare

_PURE = "prepare must be a pure function of jax.numpy (train, validate) -> (train, validate)"


def prepare_of(prepare: Any) -> Prepare | None:
    """The argument `prepare` as a function of training and validation data, checked.

    A scaler is fitted to the inputs of the training data and transforms those of both. Weights of the
    training rows count in its statistics, so that rows of weight 0 do not.

    Raises:
      TypeError: neither a function of two arguments, nor a scaler or power transform.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> scaled = prepare_of(jd.preprocessing.min_max_scaler())
    >>> train, validate = scaled((jnp.array([[0.0], [2.0]]), None), (jnp.array([[4.0]]), None))
    >>> train[0].tolist(), validate[0].tolist()
    ([[0.0], [1.0]], [[2.0]])
    """
    if prepare is None:
        return None
    if isinstance(prepare, (Scaler, PowerTransform)):
        return _scaling(prepare)
    if isinstance(prepare, TargetEncoder):
        raise TypeError(
            "prepare must be a scaler or a function, got a target encoder, which transforms training "
            "data in a way of their own: write a function (train, validate) -> (train, validate)"
        )
    if not callable(prepare):
        raise TypeError(
            "prepare must be a function (train, validate) -> (train, validate) or a scaler of "
            f"jaxdeep.preprocessing, got {prepare!r}"
        )
    _checks.check_takes("prepare", prepare, "train", "validate")
    return _checked(prepare)


def _scaling(scaler: Scaler | PowerTransform) -> Prepare:
    def scale(train: PyTree, validate: PyTree) -> tuple[PyTree, PyTree]:
        for data in (train, validate):
            if not isinstance(data, (tuple, list)) or not isinstance(data[0], jax.Array):
                raise TypeError(
                    "prepare is a scaler, which needs data (x, y) whose x is one array, got "
                    f"{jax.tree.structure(data)}; write a function (train, validate) -> (train, "
                    "validate) instead"
                )
        weights = train[2:3] if isinstance(scaler, Scaler) else ()
        state = scaler.fit(train[0], *weights)
        return tuple((scaler.transform(state, x), *rest) for x, *rest in (train, validate))  # type: ignore[return-value]

    return scale


def _checked(prepare: Callable[[PyTree, PyTree], Any]) -> Prepare:
    def checked(train: PyTree, validate: PyTree) -> tuple[PyTree, PyTree]:
        try:
            made = prepare(train, validate)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            raise TypeError(f"{_PURE}, since it is compiled: {error}") from error
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(f"{_PURE}, but it returned {jax.tree.structure(made)}")
        return made[0], made[1]

    return checked
