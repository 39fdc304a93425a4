"""The optimizers that a comparison knows by name, with the spaces they are tuned in.

Spaces are for small and middling networks at batches of about 32 rows, on logarithmic scales, after
DeepOBS (Schneider et al., 2019), Schmidt et al. (arXiv:2007.01547), AlgoPerf (arXiv:2306.07179) and the
methods' own advice. A space is part of a method: the most important hyperparameter stands first, and a
budget of few trials tunes no more than that (`jaxdeep.comparison.candidate.width`).
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from jaxdeep import optimizers, tree
from jaxdeep._shapes import PyTree
from jaxdeep.comparison.candidate import Built, Candidate, nearest
from jaxdeep.search.spaces.distributions import choice, log_uniform, one_minus

Factory = Callable[..., optax.GradientTransformation]

DEFAULT = ("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamax", "nadam")

_RATE = "learning_rate"
_ADAM_SPACE = {
    _RATE: log_uniform(1e-5, 1e-1),
    "b1": one_minus(1e-2, 0.5),
    "eps": log_uniform(1e-10, 1.0),
    "b2": one_minus(1e-4, 1e-1),
}
_ADAM = {_RATE: 1e-3, "b1": 0.9, "eps": 1e-8, "b2": 0.999}
_MOMENTUM_SPACE = {_RATE: log_uniform(1e-4, 1.0), "momentum": one_minus(5e-3, 0.5)}
_MOMENTUM = {_RATE: 1e-2, "momentum": 0.9}


class Made:
    """``factory(learning_rate, **others)`` of a point."""

    def __init__(self, factory: Factory, **always: Any) -> None:
        self.factory, self.always = factory, always

    def __call__(self, hp: Mapping[str, Any]) -> Built:
        """The optimizer of a point."""
        hp = dict(hp)
        first = [hp.pop(_RATE)] if _RATE in hp else []
        return self.factory(*first, **self.always, **hp)


def _tuned(
    factory: Factory, space: Mapping[str, Any], default: Mapping[str, Any], *includes: str, **always: Any
) -> Candidate:
    return Candidate(Made(factory, **always), space, default, includes=includes)


def _with_decay(low: float, high: float, default: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Adam's space with a decoupled decay as the second name."""
    rate, *others = _ADAM_SPACE.items()
    space = dict([rate, ("weight_decay", log_uniform(low, high)), *others])
    return space, {name: {**_ADAM, "weight_decay": default}[name] for name in space}


_OWN = {
    "sgd": _tuned(optimizers.sgd, {_RATE: log_uniform(1e-3, 10.0)}, {_RATE: 1e-2}),
    "momentum": _tuned(optimizers.sgd, _MOMENTUM_SPACE, _MOMENTUM, "sgd"),
    "nag": _tuned(optimizers.nag, _MOMENTUM_SPACE, _MOMENTUM, "sgd"),
    "adagrad": _tuned(optimizers.adagrad, {_RATE: log_uniform(1e-4, 1.0)}, {_RATE: 1e-2}),
    "rmsprop": _tuned(
        optimizers.rmsprop,
        {
            _RATE: log_uniform(1e-5, 1e-1),
            "decay": one_minus(1e-3, 0.5),
            "eps": log_uniform(1e-10, 1e-3),
        },
        {_RATE: 1e-3, "decay": 0.9, "eps": 1e-8},
        "sgd",
    ),
    "adam": _tuned(optimizers.adam, _ADAM_SPACE, _ADAM, "sgd", "momentum", "rmsprop"),
    "adamw": _tuned(optimizers.adamw, *_with_decay(1e-4, 1.0, 1e-2), "adam"),
    "adamax": _tuned(
        optimizers.adamax,
        {_RATE: log_uniform(1e-4, 1e-1), "b1": one_minus(1e-2, 0.5)},
        {_RATE: 1e-3, "b1": 0.9},
    ),
    "nadam": _tuned(optimizers.nadam, _ADAM_SPACE, _ADAM, "sgd", "nag", "rmsprop"),
    "nadamw": _tuned(optimizers.nadamw, *_with_decay(1e-4, 1.0, 1e-2), "nadam"),
    "lion": _tuned(
        optimizers.lion,
        {
            _RATE: log_uniform(1e-6, 1e-2),
            "weight_decay": log_uniform(1e-3, 10.0),
            "b1": choice([0.9, 0.95]),
        },
        {_RATE: 1e-4, "weight_decay": 1e-2, "b1": 0.9},
    ),
}


def _muon(model: Any) -> Candidate:
    """Muon for the matrices inside the network; Adam, at a rate of its own, for all else."""
    factory = functools.partial(
        optax.contrib.muon, muon_weight_dimension_numbers=Inside(_last_with_kernel(model))
    )
    return Candidate(
        Made(factory),
        {
            _RATE: log_uniform(1e-3, 1.0),
            "adam_learning_rate": log_uniform(1e-4, 1e-2),
            "weight_decay": log_uniform(1e-4, 1.0),
        },
        {_RATE: 0.02, "adam_learning_rate": 3e-4, "weight_decay": 0.01},
        note="Muon for matrices but the last; Adam for the last layer, biases and gains",
    )


class Inside:
    """Which parameters are matrices inside the network: those of two axes, without the last layer's.

    Called with parameters it gives optax' numbers of axes, and None for what Adam trains.
    """

    def __init__(self, last: str | None) -> None:
        self.last = last

    def __call__(self, params: PyTree) -> PyTree:
        """For each parameter the numbers of its axes, or None."""
        axes = optax.contrib.MuonDimensionNumbers()

        def numbers(path: tree.KeyPath, leaf: Any) -> Any:
            parts = tree.path_name(path).split("/")
            inside = parts[-1] == "kernel" and parts[0] != self.last
            return axes if inside and leaf.ndim == 2 else None

        return jax.tree_util.tree_map_with_path(numbers, params)


def _last_with_kernel(model: Any) -> str | None:
    """The name of the last layer that has a kernel."""
    layers = getattr(model, "layers", {})
    linear = [name for name, layer in layers.items() if layer.traits.linear is not None]
    return linear[-1] if linear else None


def _schedule_free(factory: Factory, rate: float, space: tuple[float, float]) -> Candidate:
    return Candidate(
        Made(factory),
        {_RATE: log_uniform(*space), "b1": choice([0.9, 0.95, 0.98])},
        {_RATE: rate, "b1": 0.9},
        scheduled=False,
        note="no schedule; evaluated at the average x of its iterates",
    )


def _of_optax(name: str) -> Candidate | None:
    """An optimizer of optax or its contrib whose other arguments have defaults, tuned by its rate."""
    known: dict[str, Candidate] = {
        "schedule_free_adamw": _schedule_free(optax.contrib.schedule_free_adamw, 2.5e-3, (1e-4, 1.0)),
        "schedule_free_sgd": _schedule_free(optax.contrib.schedule_free_sgd, 1.0, (1e-2, 100.0)),
        "prodigy": Candidate(
            Made(optax.contrib.prodigy),
            {"estim_lr_coef": log_uniform(0.1, 10.0)},
            {"estim_lr_coef": 1.0},
            scheduled=False,
            note="estimates its rate; what is tuned is the factor of the estimate",
        ),
    }
    if name in known:
        return known[name]
    factory = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if name.startswith("_") or not inspect.isfunction(factory):
        return None
    parameters = list(inspect.signature(factory).parameters.values())
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [p for p in parameters[1:] if p.default is p.empty and p.kind not in variadic]
    if not parameters or parameters[0].name != _RATE or needed:
        return None
    return of_factory(factory)


def of_factory(factory: Factory) -> Candidate:
    """A candidate of any function of a learning rate, which alone is tuned."""
    return Candidate(Made(factory), {_RATE: log_uniform(1e-5, 1.0)}, {_RATE: 1e-3})


_REFUSED = {
    "lbfgs": "it searches along a line, for which it needs the loss at several points of every step; it "
    "is made for whole data sets, not for batches",
    "polyak_sgd": "it needs the value of the loss in every step",
    "sophia": "it needs the objective in every step, to estimate curvatures",
    "sam": "it takes two gradients a step",
}


def names() -> list[str]:
    """The optimizers that have a space of their own, by name.

    >>> names()[:3], "muon" in names()
    (['sgd', 'momentum', 'nag'], True)
    """
    return [*_OWN, "muon", "schedule_free_adamw", "schedule_free_sgd", "prodigy", "adan", "adopt"]


def named(name: str, *, model: Any = None) -> Candidate:
    """The candidate that a comparison knows by this name.

    Args:
      name: of `names`, or of any optimizer of optax and its contrib that trains by a learning rate
        alone, whose rate is tuned between 1e-5 and 1.
      model: the network, whose last layer muon leaves to Adam.

    Raises:
      ValueError: an unknown name (the nearest one is named), or a method that needs more than gradients.

    >>> named("nag").space["momentum"], named("nag").default["learning_rate"]
    (OneMinus(low=0.005, high=0.5), 0.01)
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be that of an optimizer, a text, got {name!r}")
    if name in _OWN:
        return _OWN[name]
    if name == "muon":
        return _muon(model)
    if name in _REFUSED:
        raise ValueError(f"candidate {name!r} cannot be compared: {_REFUSED[name]}")
    if (candidate := _of_optax(name)) is not None:
        return candidate
    known = names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that optax is about to remove
        others = [attr for module in (optax, optax.contrib) for attr in dir(module) if _of_optax(attr)]
    hint = nearest(name, [*known, *others])
    raise ValueError(
        f"unknown optimizer {name!r}{hint}; known are {', '.join(known)}, and those of optax by name"
    )


def of_function(function: Any) -> Candidate | None:
    """The candidate of a factory that the catalogue knows, such as `jaxdeep.optimizers.adam`.

    >>> of_function(optimizers.adam) is named("adam")
    True
    """
    return next(
        (
            candidate
            for candidate in _OWN.values()
            if isinstance(candidate.build, Made) and candidate.build.factory is function
        ),
        None,
    )
