"""Models of other libraries as `jaxdeep.nn.Model`, and runs for TensorBoard."""

from jaxdeep.adapters.equinox import from_equinox as from_equinox
from jaxdeep.adapters.linen import from_linen as from_linen
from jaxdeep.adapters.nnx import from_nnx as from_nnx
from jaxdeep.adapters.tensorboard import to_tensorboard as to_tensorboard
