"""Models as pairs of pure functions: layers, combinators and initialisers."""

from jaxdeep.nn import initializers as initializers
from jaxdeep.nn.activations import activation as activation
from jaxdeep.nn.combinators import serial as serial
from jaxdeep.nn.linear import dense as dense
from jaxdeep.nn.linear import flatten as flatten
from jaxdeep.nn.model import Model as Model
from jaxdeep.nn.normalization import batch_norm as batch_norm
from jaxdeep.nn.stochastic import dropout as dropout
from jaxdeep.nn.summary import summary as summary
