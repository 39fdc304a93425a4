"""Every transformation of jaxdeep, made from its factory alone: a new one is tested by existing."""

import inspect

import jax.numpy as jnp

from jaxdeep import optimizers

FACTORIES = optimizers.factories()
OPTIMIZERS = optimizers.factories(with_learning_rate=True)
PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, -0.2])}

# Values for arguments without a default, by name. A factory with another such argument needs one here.
REQUIRED = {
    "decay": 0.9,
    "factor": 0.5,
    "fast_optimizer": optimizers.sgd(0.1),
    "inner": optimizers.sgd(0.1),
    "l1": 0.1,
    "l2": 0.1,
    "learning_rate": 0.1,
    "max_delta": 1.0,
    "max_norm": 1.0,
    "momentum": 0.9,
    "optimizer": optimizers.sgd(0.1),
    "weight_decay": 0.1,
}
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
    required = {
        key: REQUIRED[key]
        for key, parameter in inspect.signature(FACTORIES[name]).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return FACTORIES[name](**required | OPTIONAL.get(name, {}) | arguments)


def numbers(name):
    """The hyperparameters of a factory that are numbers, by name, as its arguments."""
    arguments = inspect.signature(FACTORIES[name]).parameters
    state = make(name).init(PARAMS)
    return {key: float(v) for key, v in optimizers.hyperparams(state).items() if key in arguments}
