"""Optimizers in optax's protocol, with their hyperparameters as named leaves of the state."""

from jaxdeep.optimizers.adaptive import adagrad as adagrad
from jaxdeep.optimizers.adaptive import adam as adam
from jaxdeep.optimizers.adaptive import adamax as adamax
from jaxdeep.optimizers.adaptive import adamw as adamw
from jaxdeep.optimizers.adaptive import nadam as nadam
from jaxdeep.optimizers.adaptive import rmsprop as rmsprop
from jaxdeep.optimizers.adaptive import scale_by_adagrad as scale_by_adagrad
from jaxdeep.optimizers.adaptive import scale_by_adam as scale_by_adam
from jaxdeep.optimizers.adaptive import scale_by_adamax as scale_by_adamax
from jaxdeep.optimizers.adaptive import scale_by_nadam as scale_by_nadam
from jaxdeep.optimizers.adaptive import scale_by_rms as scale_by_rms
from jaxdeep.optimizers.clipping import clip_by_global_norm as clip_by_global_norm
from jaxdeep.optimizers.clipping import clip_by_norm as clip_by_norm
from jaxdeep.optimizers.clipping import clip_by_value as clip_by_value
from jaxdeep.optimizers.decay import add_decayed_weights as add_decayed_weights
from jaxdeep.optimizers.decay import add_l1_penalty as add_l1_penalty
from jaxdeep.optimizers.decay import add_l2_penalty as add_l2_penalty
from jaxdeep.optimizers.descent import lookahead as lookahead
from jaxdeep.optimizers.descent import nag as nag
from jaxdeep.optimizers.descent import scale_by_learning_rate as scale_by_learning_rate
from jaxdeep.optimizers.descent import scale_by_momentum as scale_by_momentum
from jaxdeep.optimizers.descent import scale_by_nag as scale_by_nag
from jaxdeep.optimizers.descent import sgd as sgd
from jaxdeep.optimizers.moments import bias_correction as bias_correction
from jaxdeep.optimizers.moments import first_moment as first_moment
from jaxdeep.optimizers.moments import second_moment as second_moment
