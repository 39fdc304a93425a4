"""Array types that state their shapes, such as ``Float[Array, "rows classes"]``.

These are jaxtyping's. Type checkers see them, and the tests check them whenever an annotated function is
called (``--jaxtyping-packages`` in pyproject.toml, which loads jaxtyping before jaxdeep). For users they
must cost nothing: neither JAX nor optax loads jaxtyping, so that without it each of these types is Any.
"""

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

__all__ = ["Array", "ArrayLike", "Arrays", "Bool", "Float", "Integer", "Num", "PyTree", "Shaped"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Num, Shaped
else:

    class _Untyped:
        def __class_getitem__(cls, item: Any) -> Any:
            return Any

    Array = ArrayLike = Any
    Bool = Float = Integer = Num = Shaped = _Untyped

PyTree = Any  # of arrays: parameters, state, inputs. Python's types cannot say it.
Arrays: TypeAlias = dict[str, Array]  # by name: a layer's parameters, what a leaf accumulates
