"""Every transformation of jaxdeep, made from its factory alone: a new one is tested by existing."""

import inspect

import jax.numpy as jnp

from helpers import guessed
from jaxdeep import optimizers

FACTORIES = optimizers.factories()
OPTIMIZERS = optimizers.factories(with_learning_rate=True)
PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, -0.2])}

# Arguments that are left out by default, given so that all of an optimizer is tested.
OPTIONAL = {
    "nadam": {"momentum_decay": 0.004},
    "nadamw": {"momentum_decay": 0.004},
    "rmsprop": {"momentum": 0.9},
    "scale_by_nadam": {"momentum_decay": 0.004},
    "sgd": {"momentum": 0.9},
}


def make(name, **arguments):
    """The transformation of a factory, with `arguments` in place of the usual ones."""
    return guessed.call(FACTORIES[name], **OPTIONAL.get(name, {}) | arguments)


def numbers(name):
    """The hyperparameters of a factory that are numbers, by name, as its arguments."""
    arguments = inspect.signature(FACTORIES[name]).parameters
    state = make(name).init(PARAMS)
    return {key: float(v) for key, v in optimizers.hyperparams(state).items() if key in arguments}
