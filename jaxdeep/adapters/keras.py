"""Transformations of optax as optimizers of Keras 3, on its JAX backend."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.optimizers import NagState, hyperparams, set_hyperparams
from jaxdeep.optimizers.evaluation import states_of
from jaxdeep.train.state import check_optimizer


def to_keras_optimizer(optimizer: optax.GradientTransformation, *, name: str = "optax") -> Any:
    """An optax transformation as an optimizer of Keras 3: ``model.compile(to_keras_optimizer(tx))``.

    Its state is the variables of the optimizer, so that `keras.Model.fit`, Keras' accumulation of
    gradients and saved weights know it. Leaves have the paths of Keras' variables, such as
    ``"sequential/dense/kernel"``, so that ``where="*/kernel"`` is every kernel. A learning rate that is
    a hyperparameter in the state, as in all optimizers of jaxdeep, is Keras' `learning_rate`, which its
    callbacks read and set.

    ``optimizer.opt_state`` is the state as a pytree, and ``optimizer.opt_params`` are the parameters by
    path. Of a schedule-free method,
    ``jaxdeep.optimizers.evaluation_params(optimizer.opt_state, optimizer.opt_params)`` are those to
    evaluate.

    A saved model has the state among its weights but not the transformation: load it with
    ``keras.models.load_model(file, compile=False)`` and compile it again.

    Args:
      optimizer: any optax transformation that needs gradients and parameters alone.
      name: of the optimizer, in Keras.

    Raises:
      ImportError: Keras is not installed. ValueError: another backend of Keras than JAX; when Keras
        builds it, before training, a transformation that needs the loss, or that takes its gradient at
        other points than the parameters (`jaxdeep.optimizers.nag`), which Keras does not give it.
      TypeError: not an optax transformation; a `learning_rate` set that the state does not hold.

    Source: `keras.optimizers.Optimizer`.

    >>> import jaxdeep as jd
    >>> to_keras_optimizer(jd.optimizers.adam(1e-3))  # doctest: +SKIP
    <OptaxOptimizer optax>
    """
    check_optimizer(optimizer)
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, got {name!r}")
    keras = needed("keras", "to_keras_optimizer", "keras", None)
    if (backend := keras.backend.backend()) != "jax":
        raise ValueError(
            "to_keras_optimizer needs the JAX backend of Keras: set the environment variable "
            f"KERAS_BACKEND to 'jax' before keras is imported, which is {backend!r} here"
        )
    return _kind(keras)(optimizer, name)


@functools.cache
def _kind(keras: Any) -> Any:
    """The class of these optimizers, which cannot be written before Keras is imported."""

    class OptaxOptimizer(keras.optimizers.Optimizer):
        """A transformation of optax, whose state are the variables of an optimizer of Keras."""

        def __init__(self, tx: optax.GradientTransformation, name: str) -> None:
            super().__init__(learning_rate=self._rate, name=name)
            self._tx = tx

        def build(self, variables: Sequence[Any]) -> None:
            """Make the variables of the state, once the parameters are known."""
            if self.built:
                return
            super().build(variables)
            self._paths = _unique([v.path for v in variables])
            params = self.opt_params
            state = jax.tree.map(jnp.asarray, self._tx.init(params))
            _check_needs(self._tx, params, state)
            leaves, self._structure = jax.tree.flatten(state)
            self._kinds = [_impl(leaf) for leaf in leaves]
            self._slots = []
            for i, leaf in enumerate(map(_as_numbers, leaves)):
                slot = self.add_variable(leaf.shape, dtype=str(leaf.dtype), name=f"state_{i}")
                # A copy: Keras donates both, and the leaf may be a parameter.
                slot.assign(jnp.copy(leaf))
                self._slots.append(slot)

        @property
        def opt_params(self) -> dict[str, jax.Array]:
            """The parameters, by path."""
            variables = self._trainable_variables
            return {path: v.value for path, v in zip(self._paths, variables)}

        @property
        def opt_state(self) -> PyTree:
            """The state of the transformation."""
            leaves = [
                slot.value if impl is None else jax.random.wrap_key_data(slot.value, impl=impl)
                for slot, impl in zip(self._slots, self._kinds)
            ]
            return jax.tree.unflatten(self._structure, leaves)

        def _keep(self, state: PyTree) -> None:
            for slot, leaf in zip(self._slots, jax.tree.leaves(state)):
                slot.assign(_as_numbers(leaf))

        def _backend_update_step(
            self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
        ) -> None:
            """Update the variables; one without a gradient stays as it is."""
            params = self.opt_params
            taken = {id(v): g for v, g in zip(trainable_variables, grads)}
            paths = {path: id(v) for path, v in zip(self._paths, self._trainable_variables)}
            every = {
                path: taken[paths[path]] if paths[path] in taken else jnp.zeros_like(p)
                for path, p in params.items()
            }
            updates, state = self._tx.update(every, self.opt_state, params)
            self._keep(state)
            after = optax.apply_updates(params, updates)
            for path, v in zip(self._paths, self._trainable_variables):
                if id(v) in taken:
                    v.assign(after[path])

        def _rate(self) -> Any:
            """The learning rate in force; NaN before the first step and if the state has none."""
            known = hyperparams(self.opt_state) if self.built else {}
            return known.get("learning_rate", jnp.nan)

        @property
        def learning_rate(self) -> Any:
            """The learning rate in the state."""
            return self._rate()

        @learning_rate.setter
        def learning_rate(self, value: Any) -> None:
            if not self.built:
                raise TypeError("learning_rate can be set once Keras has built the optimizer")
            try:
                state = set_hyperparams(self.opt_state, learning_rate=value)
            except ValueError as error:
                raise TypeError(
                    f"learning_rate: the optimizer's state has none to set: {error}"
                ) from error
            self._keep(state)

        def get_config(self) -> dict[str, Any]:
            """The name alone: a transformation is no data."""
            return {"name": self.name}

        @classmethod
        def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
            """Refuse to make what the configuration does not hold."""
            raise ValueError(
                "an optimizer of optax is not in the file: load the model with compile=False, and "
                "compile it with jaxdeep.adapters.to_keras_optimizer(…)"
            )

        def __repr__(self) -> str:
            return f"<{type(self).__name__} {self.name}>"

    return OptaxOptimizer


def _unique(paths: Sequence[str]) -> list[str]:
    """Paths, of which those that are there before have a number."""
    return [f"{path}_{n}" if (n := paths[:i].count(path)) else path for i, path in enumerate(paths)]


def _impl(leaf: jax.Array) -> Any:
    """How a random key is made; None of other arrays."""
    return jax.random.key_impl(leaf) if _is_key(leaf) else None


def _as_numbers(leaf: jax.Array) -> jax.Array:
    """The array that a variable of Keras can hold, of a random key its data."""
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _check_needs(tx: optax.GradientTransformation, params: PyTree, state: PyTree) -> None:
    """Refuse a transformation that gradients at the parameters do not suffice for."""
    if any(True for _ in states_of(state, NagState)):
        raise ValueError(
            "optimizer: nag takes its gradient at a look-ahead point, and Keras takes it at the "
            "parameters: use jaxdeep.optimizers.sgd(…, nesterov=True)"
        )
    try:
        jax.eval_shape(lambda params, state: tx.update(params, state, params), params, state)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "optimizer: Keras gives an optimizer the gradients and the parameters alone, with which its "
            f"update failed: {error}"
        ) from error
