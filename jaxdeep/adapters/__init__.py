"""Models of other libraries as `jaxdeep.nn.Model`, optimizers for Keras, runs for other logs."""

from jaxdeep.adapters.back import to_equinox, to_linen, to_nnx, to_opt_state
from jaxdeep.adapters.equinox import from_equinox
from jaxdeep.adapters.hparams import sweep_to_tensorboard
from jaxdeep.adapters.keras import to_keras_optimizer
from jaxdeep.adapters.keras_models.reading import from_keras, keras_trainable
from jaxdeep.adapters.keras_models.wrapping import from_keras_model
from jaxdeep.adapters.keras_models.writing import to_keras
from jaxdeep.adapters.lifting import lift, lower
from jaxdeep.adapters.linen import from_linen
from jaxdeep.adapters.log_files import to_csv, to_json_lines
from jaxdeep.adapters.nnx import from_nnx
from jaxdeep.adapters.tensorboard import to_tensorboard

__all__ = [
    "from_equinox",
    "from_keras",
    "from_keras_model",
    "from_linen",
    "from_nnx",
    "keras_trainable",
    "lift",
    "lower",
    "sweep_to_tensorboard",
    "to_csv",
    "to_equinox",
    "to_json_lines",
    "to_keras",
    "to_keras_optimizer",
    "to_linen",
    "to_nnx",
    "to_opt_state",
    "to_tensorboard",
]


def __dir__() -> list[str]:
    return __all__
