"""Optimizers in optax's protocol, with their hyperparameters as named leaves of the state."""

from jaxdeep.optimizers.adaptive import adam as adam
from jaxdeep.optimizers.descent import lookahead as lookahead
from jaxdeep.optimizers.descent import nag as nag
from jaxdeep.optimizers.descent import sgd as sgd
