"""Valid calls of factories, guessed from their signatures: a new member is tested by existing.

A table of tests has entries for members of which the guess is wrong, or that deserve another call. All
others are called as `call` says: numbers of a kind and a range that most functions take, and for names
that mean the same everywhere what `NAMED` says.
"""

import collections.abc
import functools
import inspect
import types
import typing

import jax.numpy as jnp
import optax

from jaxdeep import metrics, nn, optimizers

# By name, whatever the annotation says.
NAMED = {
    "accumulator_dtype": "float32",
    "decay": 0.9,
    "features": 4,
    "filters": 4,
    "from_logits": False,
    "ignore_class": 7,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "momentum_decay": 0.004,
    "mu_dtype": "float32",
    "units": 4,
    "weight_decay": 0.1,
    "where": "*/kernel",
}


def block():
    """A layer with parameters and randomness, which keeps the shape of three features."""
    return nn.serial(dense=nn.dense(3, activation=jnp.tanh), drop=nn.dropout(0.5))


def value(parameter):
    """A valid value of one parameter.

    Raises:
      LookupError: its name and its annotation do not tell one.
    """
    if parameter.name in NAMED:
        return NAMED[parameter.name]
    if parameter.name.endswith("_init"):
        return nn.initializers.ones
    annotation = parameter.annotation
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if union else (annotation,)
    if nn.Model in kinds:
        return block()
    if optax.GradientTransformation in kinds:
        return optimizers.sgd(0.1)
    if any(typing.get_origin(kind) is collections.abc.Callable for kind in kinds):
        return jnp.tanh
    if bool in kinds and float not in kinds:
        return False
    if float not in kinds and int in kinds:
        return 3
    if float in kinds or typing.Any in kinds:  # a number, or a schedule of numbers
        return 0.5
    raise LookupError(f"no guess for {parameter.name}: {annotation}")


def arguments(function, *, optional=False):
    """Valid arguments of a function by name, those of ``*args`` as a tuple.

    Args:
      optional: also those that have defaults. What is None by default is guessed, or left out if it
        cannot be.
    """
    guessed = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            guessed[name] = (value(parameter),)
        elif parameter.default is parameter.empty:
            try:
                guessed[name] = value(parameter)
            except LookupError as error:
                raise LookupError(f"{function.__name__}: {error}; add a call to the table") from None
        elif optional and parameter.default is not None:
            guessed[name] = parameter.default
        elif optional:
            try:
                guessed[name] = value(parameter)
            except LookupError:
                continue
    return guessed


def call(function, **changes):
    """What a function makes of the arguments that it must have, and of `changes`."""
    bound = inspect.BoundArguments(inspect.signature(function), arguments(function) | changes)
    return function(*bound.args, **bound.kwargs)


def other(default):
    """A number near the default of an argument, and not it."""
    if not isinstance(default, (int, float)):
        raise LookupError(f"no guess for another value than {default!r}; add one to the table")
    return default + 1 if isinstance(default, int) else 0.9 * default + 1e-3


def is_of_examples(function):
    """Whether a loss or a metric is itself the function of outputs and targets, and no factory."""
    return next(iter(inspect.signature(function).parameters), None) in ("outputs", "logits") and (
        inspect.signature(function).return_annotation is not metrics.Metric
    )


def with_batch(function, batches):
    """``(measure, outputs, y)``: a loss or a metric, and the first batch of several that it takes.

    Args:
      function: a function of outputs and targets, or the factory of a `Metric`.
      batches: by "classes", a probability for each class and labels; by "bits", probabilities of one
        output and labels; by "values", numbers. What has a number of `classes` is tried on classes
        first, and what has an argument `targets` on values only.
    """
    parameters = inspect.signature(function).parameters
    if is_of_examples(function):
        asked = "from_logits" in parameters and not parameters["from_logits"].default
        made = functools.partial(function, from_logits=False) if asked else function
        tried = ("values",) if "targets" in parameters else ("classes", "bits", "values")
    else:
        made = call(function)
        tried = (
            ("classes", "bits", "values") if "classes" in parameters else ("bits", "classes", "values")
        )
    refusals = []
    for kind in tried:
        outputs, y = batches[kind]
        try:
            if isinstance(made, metrics.Metric):
                made.compute(made.update(made.init(), outputs, y))
            elif made(outputs, y).shape[:1] != (len(y),):
                raise ValueError("the result is not one value for each example")
        except (ValueError, TypeError) as error:
            refusals.append(f"{kind}: {error}")
        else:
            return made, outputs, y
    raise LookupError(f"{function.__name__} takes no batch of the tests: {'; '.join(refusals)}")
