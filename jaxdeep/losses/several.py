"""The loss of a model with several outputs."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree

Loss = Callable[[PyTree, PyTree], Array]  # (outputs, y) -> values


@remembered
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
        targets without one of the names, more of them than a list of losses, or a loss of a scalar.

    Source: Keras' ``loss_weights``.

    >>> from jaxdeep.losses import mae, mse
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
    if set(weighted_names) != set(names):
        raise ValueError(f"weights must be one for each of {names}, got {weighted_names}")
    for name in names:
        _checks.check_hyperparameter(f"weights[{name!r}]", factors[name], "[0, inf)")

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
                if not isinstance(losses, Mapping) and len(tree) != len(names):
                    raise ValueError(
                        f"the {argument} are {len(tree)}, and a list has losses of {len(names)}; "
                        "give a loss for each, or names"
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
            return jnp.where(of_nothing, 0, jnp.asarray(factor, of_examples.dtype) * of_examples)

        terms = [weighted_loss(name) for name in names]
        if len({values.shape for values in terms}) > 1:
            rows = {name: len(values) for name, values in zip(names, terms)}
            raise ValueError(f"the outputs must have the same number of examples, got {rows}")
        return functools.reduce(jnp.add, terms)

    loss.of_outputs = functions  # type: ignore[attr-defined]
    return loss


def _names(several: Any) -> list[Any]:
    """The keys of a dict, the places of a sequence."""
    return list(several) if isinstance(several, Mapping) else list(range(len(several)))
