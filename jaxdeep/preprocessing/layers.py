"""A fitted preprocessor as a layer of a network, which is saved and exported with it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._identity import is_same
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.traits import Traits, same_axes
from jaxdeep.preprocessing.bins import BinState
from jaxdeep.preprocessing.dates import DateColumns, Dates, DateState
from jaxdeep.preprocessing.imputation import ImputerState, Indicated
from jaxdeep.preprocessing.levels import Levels
from jaxdeep.preprocessing.logarithm import LogState
from jaxdeep.preprocessing.one_hot import HotColumns, OneHotState
from jaxdeep.preprocessing.order import Base
from jaxdeep.preprocessing.ordinal import OrdinalState
from jaxdeep.preprocessing.power_transform import PowerState
from jaxdeep.preprocessing.quantile import QuantileState
from jaxdeep.preprocessing.robust import RobustState
from jaxdeep.preprocessing.statistics import Moments, Range
from jaxdeep.preprocessing.target import TargetState
from jaxdeep.preprocessing.transform import made_of
from jaxdeep.preprocessing.vocabulary import Vocabulary, unique

PARTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Base, BinState, DateColumns, DateState, HotColumns, ImputerState, Indicated, Levels, LogState,
        Moments, OneHotState, OrdinalState, PowerState, QuantileState, Range, RobustState, TargetState,
        Vocabulary,
    )
}  # fmt: skip
"""What states consist of besides arrays, by the names that saved models have for it."""


class Fitted:
    """A state as a model describes it: known by its values, and shown by its kind.

    Attributes:
      state: what `fit` returned.
    """

    def __init__(self, state: PyTree) -> None:
        self.state = state

    def __repr__(self) -> str:
        shapes = dict.fromkeys(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(self.state))
        return f"{type(self.state).__name__} of {', '.join(shapes) or 'nothing'}"

    def _identity_(self) -> tuple[object, ...]:
        """What models that hold it are compared by."""
        skeleton = jax.tree.map(lambda leaf: str(jnp.result_type(leaf)), self.state)
        return ("fitted", repr(skeleton), tuple(map(np.asarray, jax.tree.leaves(self.state))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fitted) and is_same(self, other)

    def __hash__(self) -> int:
        return hash(type(self.state))


@layer
def fitted(transform: Any, state: Any) -> Layer:
    """A fitted preprocessor as a layer: ``y = transform.transform(state, x)``, on the device.

    It stands anywhere in a network, mostly first, and several one after another do one step each. The
    arrays of the fitted state are the state of the layer, by their paths (``"mean"``, ``"base.high"``),
    and keep their dtypes: nothing of them is trained, decayed or averaged, and they are saved and
    exported with the model. ``x`` and ``y`` have the shapes and dtypes that `transform` has.

    Encoders of categories and dates take what they read on the host: ``encoder.codes(state, x)`` or
    ``encoder.read(state, x)`` (or a plain tuple of its two arrays, with which a model can be exported),
    of which the layer computes ``encoder.encode``.

    Numbers come to a compiled function in JAX' default float, and inside `jaxdeep.nn.mixed_precision` in
    its dtype. What float32 does not hold, such as seconds since 1970, is scaled on the host, by
    `transform`; the layer stands in front of a model in mixed precision, not inside it.

    Args:
      transform: what a factory of `jaxdeep.preprocessing` made; a `target_encoder` with `categories`, or
        any tuple of functions with a function ``transform(state, x)``. To be saved, a factory of one's
        own is registered (`jaxdeep.saving.register`).
      state: what its `fit` returned.

    Raises:
      TypeError: no preprocessor, the state of another one, traced values.
      ValueError: a state that has seen no data; inputs of other features than the state's, when the
        model is initialised and when it is applied; a state of other arrays than the layer's.

    Source: Keras' `Normalization`.

    >>> import jaxdeep as jd
    >>> x = jnp.array([[1.0, 5.0], [3.0, 9.0]])
    >>> scaler = jd.preprocessing.standard_scaler()
    >>> model = jd.nn.serial(fitted(scaler, scaler.fit(x)), jd.nn.dense(1))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> list(params), state["fitted0"]["mean"].tolist()
    (['dense0'], [2.0, 7.0])
    >>> y = model.layers["fitted0"].apply({}, state["fitted0"], x)[0]
    >>> bool((y == scaler.transform(scaler.fit(x), x)).all())
    True
    """
    held = state if isinstance(state, Fitted) else Fitted(state)
    run = _function(transform, held.state)
    named, structure = jax.tree_util.tree_flatten_with_path(held.state)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named]
    kept = dict(zip(unique(path.replace("/", "_") or "value" for path in paths), (a for _, a in named)))

    def check(x: PyTree) -> None:
        jax.eval_shape(run, held.state, x)

    def init(x: PyTree) -> tuple[Arrays, Arrays]:
        return {}, {name: jnp.asarray(leaf) for name, leaf in kept.items()}

    def apply(state: Arrays, x: PyTree) -> tuple[Array, Arrays]:
        for name in {**kept, **state}:
            if name not in kept:
                raise ValueError(f"state: {name} is not part of {transform!r}, which has {[*kept]}")
            if jnp.shape(state[name]) != jnp.shape(kept[name]):
                raise ValueError(
                    f"state: {name} has shape {jnp.shape(state[name])}, and the fitted {transform!r} "
                    f"needs {jnp.shape(kept[name])}"
                )
        return run(jax.tree.unflatten(structure, [state[name] for name in kept]), x), state

    is_date = isinstance(held.state, DateState)
    traits = Traits() if is_date else Traits(axes=same_axes)
    return Layer(apply, init, check, traits, arguments={"state": held}, trees=is_date)


def _function(transform: Any, state: PyTree) -> Callable[..., Array]:
    """What the layer computes of a state and an input, both checked as far as they are known."""
    run: Any = getattr(transform, "encode", None) or getattr(transform, "transform", None)
    if not callable(run) or not isinstance(transform, tuple):
        raise TypeError(
            "transform must be a preprocessor, such as jaxdeep.preprocessing.standard_scaler() makes, "
            f"got {transform!r}"
        )
    made = made_of(transform)
    if made is not None and not isinstance(state, made.state):
        raise TypeError(
            f"state must be what fit of {transform!r} returned, a {made.state.__name__}, got {state!r}"
        )
    check_leaves("state", state)
    if not all(map(_checks.is_known, jax.tree.leaves(state))):
        raise TypeError("state is traced: fit outside of jax.jit, so that its values are known")
    if isinstance(state, DateState):
        return lambda state, x: run(state, Dates(*x) if isinstance(x, tuple) else x)
    if isinstance(state, TargetState) and state.vocabulary is not None:
        raise ValueError(
            "state is of categories that are found on the host: give target_encoder(categories=…) and "
            "whole numbers"
        )
    seen = {Moments: lambda s: s.n > 0, Range: lambda s: s.low <= s.high}.get(type(state))
    if seen is not None and not np.asarray(seen(state)).any():
        raise ValueError(f"state has seen no data: fit {transform!r} first")
    return run
