"""Saving models: the architecture as a readable config, the arrays as safetensors, nothing pickled.

A saved model is a directory of two files. ``model.json`` holds the format and its version, the kinds of
layers with their arguments and names, the structure of parameters and state, and checksums;
``arrays.safetensors`` holds the arrays by path, ``params/hidden1/kernel``.

The Hub of Hugging Face knows other names, ``config.json`` and ``model.safetensors``, which
``form="huggingface"`` gives them.

Functions in arguments go by name: those of `jax.nn`, `jaxdeep.nn.activations`, `jax.numpy`, `jax.lax`
and `jax.scipy.special`, `functools.partial` of them, and the initialisers that `jax.nn.initializers`
makes. Everything else, a user's functions, layers and adapted modules, goes by the name it was given
with `register`, in the process that saves and in the one that loads.
"""

from jaxdeep.saving.architecture import from_config, to_config
from jaxdeep.saving.registry import register

__all__ = [
    "from_config",
    "register",
    "to_config",
]


def __dir__() -> list[str]:
    return __all__
