"""What kind of thing a value is, for what it is made of."""

import functools
import importlib.util
import sys
from typing import Any

import numpy as np

_LIBRARIES = frozenset({"jaxdeep", "jax", "jaxlib", "optax", "flax", "chex", "numpy", "equinox"})
_ABSTRACT: tuple[type, ...] = (  # types of NumPy's that are no dtype
    *(np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger),
    *(np.inexact, np.floating, np.complexfloating, np.flexible, np.character),
)


def tensor(value: Any) -> np.ndarray | None:
    """The values of a tensor of PyTorch, which is pickled with the place that it is at."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    value = value.detach().cpu().to_dense().resolve_conj().resolve_neg()
    return np.asarray(value.double() if value.dtype == torch.bfloat16 else value)


def is_linen(kind: type) -> bool:
    """Whether objects of a class are modules of Flax Linen, which hold a number of their own besides."""
    return any(base.__module__ == "flax.linen.module" for base in kind.__mro__)


def is_scalar_type(value: object) -> bool:
    """Whether a value is a type of NumPy's or JAX' that stands for a dtype, such as jnp.float32."""
    if not isinstance(value, type):
        return False
    if issubclass(value, np.generic):
        return value not in _ABSTRACT
    return isinstance(getattr(value, "dtype", None), np.dtype)


@functools.cache
def is_library(module: object) -> bool:
    """Whether a module was installed, rather than written for what is described here."""
    top = str(module).split(".", 1)[0]
    if top in _LIBRARIES or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    file = _file_of(top) or ""
    return "site-packages" in file or "dist-packages" in file


def _file_of(module: str) -> str | None:
    """Where a module is written, also if nothing has imported it yet."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # the text is not the name of a module
        return None
    return None if spec is None else spec.origin
