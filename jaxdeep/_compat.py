"""What the supported versions of JAX call by different names: each difference is settled here, once."""

try:
    from jax import enable_x64
except ImportError:  # before JAX 0.8
    from jax.experimental import enable_x64  # type: ignore[attr-defined, no-redef]

__all__ = ["enable_x64"]
