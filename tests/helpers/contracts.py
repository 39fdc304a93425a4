"""A valid call of every public function, and values that its arguments are not.

`CALLS` has an entry for each public function and for what it makes: ``"optimizers.adam"`` and, for the
functions inside, ``"optimizers.adam().update"``. A case replaces one argument of a valid call by a
hostile value. It is right if it gives what the valid call gives, or an error that names the argument.
"""

# ruff: noqa: PLW0108  (a lambda says the names of the arguments)
import dataclasses
import functools
import inspect
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdeep as jd
from helpers import guessed
from jaxdeep.search.asking import ask_tell
from jaxdeep.search.strategies import asynchronous, halving
from jaxdeep.search.tables.table import Result
from jaxdeep.train import monitors

nn = jd.nn
KEY = jax.random.key(0)
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="contract"))


@dataclasses.dataclass(frozen=True)
class Call:
    """A valid call.

    Attributes:
      function: what is called.
      arguments: by name; those of ``*args`` as a tuple, those of ``**kwargs`` as a dict.
      use: what to do with the result, so that what is wrong in it shows.
      free: arguments that are taken in any shape.
      also: other words by which an error may name an argument.
      dear: takes long: hostile values only among the heavy tests.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    use: Callable[[Any], Any] = lambda made: made
    free: frozenset[str] = frozenset()
    also: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dear: bool = False

    def __call__(self, **changes: Any) -> Any:
        return self.use(called(self.function, {**self.arguments, **changes}))


def called(function, arguments):
    """A function called with its arguments by name, whatever their kind."""
    parameters = inspect.signature(function).parameters
    args, kwargs, by_name = [], {}, False
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= {key: value for key, value in arguments.items() if key not in parameters}
        elif name not in arguments:
            by_name = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            args += arguments[name]
        elif parameter.kind is parameter.KEYWORD_ONLY or by_name:
            kwargs[name] = arguments[name]
        else:
            args.append(arguments[name])
    return function(*args, **kwargs)


# --- hostile values ---------------------------------------------------------------------------------


class Odd:
    """An object that is nothing in particular."""

    def __repr__(self):
        return "<odd>"


ODD = Odd()


def is_array(value):
    return isinstance(value, (np.ndarray, jax.Array)) and not jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    )


def is_key(value):
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def masked(value):
    host = np.array(value)
    mask = np.zeros(host.shape, bool)
    mask.flat[0] = True
    return np.ma.array(host, mask=mask)


def of_the_other_bytes(value):
    """An array of NumPy as a file of another machine has it, where its numbers have several bytes."""
    host = np.array(value)
    return host.astype(host.dtype.newbyteorder(">")) if host.dtype.kind in "fiu" else host


def hostile(value: Any, *, free: bool = False) -> dict[str, Any]:
    """Values that are not of the kind of a valid one, by what they are."""
    odd: dict[str, Any] = {"None": None, "text": "text", "object": ODD}
    if is_array(value):
        odd |= {
            "complex": jnp.asarray(value) * (1 + 1j),
            "numpy complex": np.asarray(value) * (1 + 1j),
            "objects": np.array([*np.asarray(value).tolist(), None], object)[:-1].reshape(value.shape)
            if value.ndim == 1
            else np.asarray(value).astype(object),
            "texts": np.full(value.shape, "text"),
            "in a dict": {"a": value},
        }
        if value.size:
            odd |= {"masked": masked(value)}
        if not free:
            odd |= {"extra axis": jnp.asarray(value)[None]}
            odd |= {"a scalar": np.zeros((), value.dtype)} if value.ndim else {}
    elif is_key(value):
        odd |= {"number": 0, "floats": jnp.ones(2), "keys": jax.random.split(KEY, 3), "dict": {}}
    elif isinstance(value, bool):
        odd |= {"number": 2, "array": jnp.ones(2), "list": [True]}
    elif isinstance(value, int):
        odd |= {"True": True, "negative": -7, "half": 2.5, "nan": float("nan"), "complex": 2j}
        odd |= {"array": jnp.ones(2), "masked": np.ma.array(3, mask=True), "dict": {"a": 1}}
    elif isinstance(value, float):
        odd |= {"True": True, "nan": float("nan"), "complex": 1j, "array": jnp.ones(2)}
        odd |= {"list": [0.1], "masked": np.ma.array(0.5, mask=True), "dict": {"a": 0.5}}
        odd |= {"complex array": jnp.ones(()) * 1j, "objects": np.array(0.5, object)}
    elif isinstance(value, (str, pathlib.Path)):
        odd |= {"number": 3, "array": jnp.ones(2), "list": [3], "complex": 1j, "dict": {"a": 1}}
        if isinstance(value, pathlib.Path):
            del odd["text"]
    elif isinstance(value, Mapping):
        odd |= {"number": 3.0, "complex": 1j, "array": jnp.ones(2)}
        odd |= {"list": [1.0, 2.0], "another structure": {"unheard": jnp.ones(2)}, "empty": {}}
        leaves = jax.tree.leaves(value)
        if leaves and all(map(is_array, leaves)):
            odd |= {
                "complex leaves": jax.tree.map(lambda a: a * (1 + 1j), value),
                "masked leaves": jax.tree.map(masked, value),
                "leaves of objects": jax.tree.map(lambda a: np.asarray(a).astype(object), value),
                "texts": jax.tree.map(lambda a: "text", value),
                "leaves of the other bytes": jax.tree.map(of_the_other_bytes, value),
                "extra axes": jax.tree.map(lambda a: a[None], value),
            }
            del odd["empty"]
    elif isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        odd |= {"number": 3.5, "complex": 1j, "dict": {"unheard": 1}, "objects in it": [ODD, ODD]}
        odd |= {"texts in it": ["text", "text"], "complex in it": [1j, 2j], "None in it": [None, None]}
    else:  # a model, a function, a state, a transformation
        odd |= {"number": 3, "array": jnp.ones(2), "dict": {"unheard": jnp.ones(2)}, "list": [1, 2]}
        if isinstance(value, tuple) or dataclasses.is_dataclass(value):
            odd |= {"function": abs}
    return odd


# --- judging ----------------------------------------------------------------------------------------

RAW = re.compile(
    r"unsupported operand|has no attribute|annot interpret value|incompatible shapes|Tracer\w+Error"
    r"|value is of type <class 'numpy.ndarray'>"
    r"|not a valid JAX|not subscriptable|not iterable|unexpected keyword|positional argument"
    r"|could not be broadcast|ufunc|object is not callable|Dtype object is not"
)


def leaves_of(result):
    found = []
    for leaf in jax.tree.leaves(result, is_leaf=lambda node: node is None):
        try:
            found.append(np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf))
        except Exception:
            found.append(leaf)
    return found


def alike(a, b):
    """Whether two results are the same, to the bit."""
    a, b = leaves_of(a), leaves_of(b)
    if len(a) != len(b):
        return False
    return all(
        x.shape == y.shape
        and (
            np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            if x.dtype.kind != "O"
            else str(x) == str(y)
        )
        for x, y in zip(a, b)
    )


def judged(call: Call, name: str, value: Any) -> tuple[str, str]:
    """What became of a case, "right", "obscure" or "silent", and the words."""
    try:
        found = call(**{name: value})
    except Exception as error:
        message = "\n".join([str(error), *getattr(error, "__notes__", ())])
        words = [name, *call.also.get(name, "").split("|")]
        named = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message) for word in words if word)
        polite = isinstance(error, (ValueError, TypeError, OSError))
        if named and polite and not RAW.search(message):
            return "right", message
        return "obscure", f"{type(error).__name__}: {message[:300]}"
    return ("right", "same") if alike(found, _expected(call)) else ("silent", str(found)[:120])


def _expected(call):
    """What the valid call gives, once for all its cases."""
    if id(call) not in _RESULTS:
        _RESULTS[id(call)] = call()
    return _RESULTS[id(call)]


_RESULTS: dict[int, Any] = {}


def cases(call: Call) -> Iterator[tuple[str, str, Any]]:
    """``(argument, what it is, hostile value)`` of a call."""
    parameters = inspect.signature(call.function).parameters
    for name, value in call.arguments.items():
        parameter = parameters.get(name)
        optional = parameter is not None and parameter.default is None
        variadic = parameter is not None and parameter.kind is parameter.VAR_POSITIONAL
        first = value[0] if variadic else value
        for label, odd in hostile(first, free=name in call.free).items():
            if label == "None" and optional:
                continue
            yield name, label, (odd, *value[1:]) if variadic else odd


def spelled_otherwise(value: Any) -> dict[str, Any]:
    """Other values that are the same number or array, by what they are."""
    found: dict[str, Any] = {}
    if is_array(value) and value.size:
        host = np.array(value)
        read_only = host.copy()
        read_only.setflags(write=False)
        found |= {"NumPy": host, "read-only": read_only, "Fortran's": np.asfortranarray(host)}
        if host.ndim:
            found |= {"strided": np.repeat(host, 2, axis=-1)[..., ::2]}
        if host.dtype.kind in "if":
            found |= {"of the other bytes": of_the_other_bytes(host)}
        if host.dtype.kind == "i":
            widths = [d for d in (np.int8, np.uint8, np.int16, np.int64) if holds(d, host)]
            found |= {np.dtype(width).name: host.astype(width) for width in widths}
    elif isinstance(value, bool):
        found |= {"NumPy": np.bool_(value)}
    elif isinstance(value, int):
        found |= {np.dtype(d).name: d(value) for d in (np.int64, np.int8) if holds(d, value)}
    elif isinstance(value, float):
        found |= {"NumPy": np.float64(value)}
    return found


def holds(dtype, value) -> bool:
    return np.min(value) >= np.iinfo(dtype).min and np.max(value) <= np.iinfo(dtype).max


CALLS: dict[str, Call] = {}


def call(name: str, /, *, use=lambda made: made, free="", also=None, dear=False, of=None, **arguments):
    function = of
    if of is None:
        function = functools.reduce(getattr, name.split("."), jd)
    CALLS[name] = Call(function, arguments, use, frozenset(free.split()), also or {}, dear)


# --- the table --------------------------------------------------------------------------------------

# Members without a call below for which the guess is none, and why.
UNGUESSED: dict[str, str] = {}


def guess_the_others(room, names, add):
    """Add the members of a room that have no call yet: a new one is tested by existing.

    Args:
      add: adds the calls of a member, by its name and all of its arguments.
    """
    for name in names:
        if f"{room}.{name}" in CALLS:
            continue
        before = dict(CALLS)
        try:
            add(name, guessed.arguments(getattr(getattr(jd, room), name), optional=True))
            CALLS[f"{room}.{name}"]()
        except Exception as error:
            CALLS.clear()
            CALLS.update(before)
            UNGUESSED[f"{room}.{name}"] = f"{type(error).__name__}: {error}"


X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
POSITIVE = X + 2
IMAGES = jnp.linspace(-1.0, 1.0, 96).reshape(2, 4, 4, 3)
LABELS = jnp.array([0, 2, 1, 1])
BITS = jnp.array([0, 1, 1, 0])
P = jax.nn.softmax(3 * X)
SCORES = jnp.array([0.1, 0.7, 0.4, 0.6])
WEIGHTS = jnp.array([1.0, 0.5, 0.0, 2.0])
PARAMS = {"a": {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), "bias": jnp.ones(2)}}
GRADS = jax.tree.map(lambda a: a / 2 + 0.1, PARAMS)


def drawn(make):
    """What a function returns, with other numbers, without computing it."""

    def numbers(like):
        values = np.linspace(0.1, 1.0, like.size, dtype=np.float32).reshape(like.shape)
        return jnp.asarray(values.astype(like.dtype))

    return jax.tree.map(numbers, jax.eval_shape(make))


# nn


def ran(model, x=X):
    params, state = model.init(KEY, x)
    y, after = model.apply(params, state, x, train=True, key=KEY)
    return y, after


images = functools.partial(ran, x=IMAGES)
LAYERS: dict[str, Any] = {}


def layer(name, /, x=X, also=None, **arguments):
    call(f"nn.{name}", use=functools.partial(ran, x=x), also=also, **arguments)
    made = called(getattr(nn, name), arguments)
    LAYERS[name] = (made, x)
    params, state = drawn(lambda: made.init(KEY, x))
    some = {"params": params} if jax.tree.leaves(params) else {}
    some |= {"state": state} if jax.tree.leaves(state) else {}
    free, also = "x", {"x": "input|inputs", "params": "parameters|initialised|scale|slopes|vectors"}
    also["state"] = "initialised|mean|var"
    call(f"nn.{name}().init", of=lambda key, x: made.init(key, x), key=KEY, x=x, free=free, also=also)

    def apply(x, params=params, state=state, *, train=True, key=KEY):
        return made.apply(params, state, x, train=train, key=key)

    call(f"nn.{name}().apply", of=apply, x=x, train=True, key=KEY, free=free, also=also, **some)


zeros, ones = nn.initializers.zeros, nn.initializers.ones
layer("activation", function=jnp.tanh)
layer("alpha_dropout", rate=0.25, generator="hash")
layer("average_pool", x=IMAGES, window=2, strides=2, padding="VALID")
layer(
    "batch_norm",
    momentum=0.9,
    epsilon=1e-3,
    axis=-1,
    use_scale=True,
    use_bias=True,
    unbiased_running_var=False,
    use_fast_variance=False,
)
layer("bounded", low=[-1.0, 0.0, 1.0], high=2.0, squash="tanh")
layer("concatenate", also={"branches": "layer"}, branches=(nn.dense(2), nn.flatten()), axis=-1)
layer(
    "conv",
    x=IMAGES,
    filters=2,
    kernel_size=3,
    strides=1,
    padding="SAME",
    dilation=1,
    groups=1,
    activation=jnp.tanh,
    use_bias=True,
    kernel_init=ones,
    bias_init=zeros,
)
layer(
    "conv_transpose",
    x=IMAGES,
    filters=2,
    kernel_size=3,
    strides=1,
    padding="SAME",
    dilation=1,
    activation=jnp.tanh,
    use_bias=True,
    kernel_init=ones,
    bias_init=zeros,
)
layer("dense", features=2, activation=jnp.tanh, use_bias=True, kernel_init=ones, bias_init=zeros)
layer("dropout", rate=0.25, noise_shape=(None, 3), generator="hash")
layer("embedding", x=LABELS, num_embeddings=4, features=2, embedding_init=ones)
layer("flatten")
layer("gaussian_noise", stddev=0.5)
layer("get_item", x=IMAGES, parts=((1, 3), 0))
layer("global_average_pool", x=IMAGES)
layer("global_max_pool", x=IMAGES)
layer("graph", calls={"y": ("out", "x")}, outputs="y", inputs="x", out=nn.dense(2))
layer(
    "group_norm", groups=3, epsilon=1e-3, use_scale=True, use_bias=True, scale_init=ones, bias_init=zeros
)
layer("lambda_", function=jnp.tanh)
layer(
    "layer_norm", epsilon=1e-3, axis=-1, use_scale=True, use_bias=True, scale_init=ones, bias_init=zeros
)
layer("max_pool", x=IMAGES, window=2, strides=2, padding="VALID")
layer("merge", x=(X, 2 * X), how="concatenate", axis=-1)
layer("mixed_precision", model=nn.dense(2), compute_dtype="bfloat16")
layer("ntk_dense", features=2, activation=jnp.tanh, use_bias=True, kernel_init=ones, bias_init=zeros)
layer("parallel", also={"branches": "layer"}, branches=(nn.dense(2), nn.flatten()), by_position=False)
layer("prelu", alpha=0.25, shared_axes=(1,), x=IMAGES)
layer("repeat", layer=nn.dense(3), times=2, shared=False)
layer("rescale", scale=2.0, offset=[0.0, 1.0, 2.0], low=-1.0, high=3.0)
layer("reshape", sizes=(1, 3))
layer("residual", layer=nn.dense(3), shortcut=nn.dense(3))
layer("resize", x=IMAGES, sizes=(3, 2), method="nearest", antialias=True)
layer("rms_norm", epsilon=1e-3, axis=-1, use_scale=True, scale_init=ones)
layer("rrelu", lower=0.1, upper=0.3)
layer("scaling", scale_init=ones)
layer("select", x={"b": X, "c": X}, name="b")
layer("serial", also={"layers": "layer"}, layers=(nn.dense(2), nn.flatten()))
layer("shared", x=(X, X), layer=nn.dense(2))
layer("swish", beta=0.5)
layer("zero_padding", x=IMAGES, padding=((1, 0), (0, 2)))


def guessed_layer(name, arguments):
    """With rows, or with images if it refuses those."""
    model = called(getattr(nn, name), arguments)
    try:
        jax.eval_shape(lambda: ran(model))
    except (ValueError, TypeError):
        layer(name, x=IMAGES, **arguments)
    else:
        layer(name, **arguments)


NO_LAYERS = {"recompute_batch_norm", "summary", "mlp"}
guess_the_others(
    "nn",
    [n for n in nn.__all__ if inspect.isfunction(getattr(nn, n)) and n not in NO_LAYERS],
    guessed_layer,
)

NET = nn.serial(
    hidden=nn.dense(3, activation=jax.nn.relu),
    bn=nn.batch_norm(),
    drop=nn.dropout(0.5),
    logits=nn.dense(3),
)
NET_PARAMS, NET_STATE = drawn(lambda: NET.init(KEY, X))
net = {"model": NET, "params": NET_PARAMS, "state": NET_STATE}
NET_ALSO = {"params": "parameters|kernel|scale|hidden|bn|logits", "state": "mean|var|bn"}
call("nn.recompute_batch_norm", **net, x=X, batch_size=4, also=NET_ALSO, free="x")
call("nn.summary", use=str, model=NET, x=X, trainable="*", free="x")


def begun(recipe):
    """What a recipe comes to: its model, what it minimises and the options of its run."""
    params, state = drawn(lambda: recipe.model.init(KEY, X))
    outputs = recipe.model.apply(params, state, X)[0]
    rate = jd.optimizers.hyperparams(recipe.optimizer.init(params))
    return outputs, recipe.loss(outputs, SCORES), rate, recipe.options["epochs"]


call(
    "nn.mlp",
    use=begun,
    task="regression",
    inputs=nn.flatten(),
    recipe="strong",
    outputs=1,
    targets=SCORES,
    rows=4,
    validation=0.25,
    hidden=(3,),
    activation=jnp.tanh,
    output="tanh",
    bounds=(-2.0, 3.0),
    loss="huber",
    learning_rate=0.1,
    epochs=2,
    batch_size=2,
    best_epoch=True,
)
call("nn.activations.gelu", x=X, approximate=True, free="x")
call("nn.activations.prelu", x=X, alpha=0.25, free="x")
call("nn.activations.rrelu", x=X, lower=0.1, upper=0.3, key=KEY, free="x")
call("nn.activations.swish", x=X, beta=0.5, free="x")


def weights(initializer):
    return initializer(KEY, (3, 3), jnp.float32)


call("nn.initializers.identity", use=weights, gain=2.0)
call("nn.initializers.initializer_for", use=weights, activation=jax.nn.relu)
call("nn.initializers.orthogonal", use=weights, scale=2.0, column_axis=-1, dtype="float32")
call("nn.initializers.uniform", use=weights, scale=0.5, dtype="float32")
call("nn.initializers.variance_scaling", use=weights, scale=2.0, mode="fan_in", distribution="normal")

# losses and metrics
for name in ("huber", "log_cosh", "mae", "mape", "mse"):
    call(f"losses.{name}", outputs=X, targets=X / 2, **({"delta": 0.25} if name == "huber" else {}))
call(
    "losses.sigmoid_cross_entropy",
    also={"logits": "outputs"},
    logits=SCORES,
    labels=BITS,
    label_smoothing=0.1,
    from_logits=True,
    ignore_class=7,
)
call(
    "losses.softmax_cross_entropy",
    also={"logits": "outputs"},
    logits=X,
    labels=LABELS,
    label_smoothing=0.1,
    from_logits=True,
    ignore_class=7,
)
call("losses.msle", outputs=POSITIVE, targets=POSITIVE / 2)
call("losses.poisson", outputs=POSITIVE, targets=POSITIVE / 2, log_input=False)
call(
    "losses.kl_divergence",
    also={"logits": "outputs"},
    logits=X,
    labels=P[::-1],
    from_logits=True,
)
FOCAL = {"gamma": 1.5, "alpha": 0.25, "from_logits": True, "ignore_class": 7}
call("losses.sigmoid_focal", also={"logits": "outputs"}, logits=SCORES, labels=BITS, **FOCAL)
call("losses.softmax_focal", also={"logits": "outputs"}, logits=X, labels=LABELS, **FOCAL)
call("losses.hinge", outputs=SCORES, labels=BITS, squared=True, ignore_class=7)
call("losses.categorical_hinge", outputs=X, labels=LABELS, ignore_class=7)
call("losses.multiclass_hinge", outputs=X, labels=LABELS, ignore_class=7)
TWO = ({"a": X, "b": SCORES}, {"a": X / 2, "b": SCORES / 2})
call(
    "losses.weighted",
    use=lambda loss: loss(*TWO),
    losses={"a": jd.losses.mse, "b": jd.losses.mae},
    weights={"a": 1.0, "b": 0.5},
)
call(
    "losses.weighted().loss",
    of=jd.losses.weighted({"a": jd.losses.mse, "b": jd.losses.mae}),
    outputs=TWO[0],
    y=TWO[1],
    also={"y": "targets"},
)
call("metrics.accuracy", outputs=X, labels=LABELS, free="", ignore_class=7)
BINARY = {"threshold": 0.5, "from_logits": False}
call("metrics.binary_accuracy", outputs=SCORES, labels=BITS, **BINARY, ignore_class=7)
call("metrics.subset_accuracy", outputs=P, labels=(P > 0.3).astype(int), **BINARY)
call("metrics.top_k_accuracy", outputs=X, labels=LABELS, k=2, ignore_class=7)
call("metrics.roc_auc_score", outputs=SCORES, labels=BITS, weights=WEIGHTS)
call("metrics.average_precision_score", outputs=SCORES, labels=BITS, weights=WEIGHTS)


def metric(name, /, outputs=SCORES, y=BITS, variant="", **arguments):
    def use(made):
        return made.compute(made.update(made.init(), outputs, y, WEIGHTS))

    function = getattr(jd.metrics, name)
    name += variant
    call(f"metrics.{name}", of=function, use=use, **arguments)
    made = called(function, arguments)
    state = made.init()

    def update(state, outputs, y, weights):
        return made.update(state, outputs, y, weights)

    more = {"also": {"y": "labels|targets"}}
    call(
        f"metrics.{name}().update",
        of=update,
        state=state,
        outputs=outputs,
        y=y,
        weights=WEIGHTS,
        **more,
    )
    call(f"metrics.{name}().compute", of=lambda state: made.compute(state), state=state)
    call(
        f"metrics.{name}().merge",
        of=lambda state, other: made.merge(other, state),
        state=state,
        other=state,
        also={"other": "state"},
    )


for name in ("auc", "average_precision"):
    metric(name, bins=20, from_logits=False, ignore_class=7)
metric("confusion_matrix", classes=2, **BINARY, ignore_class=7)
metric("balanced_accuracy", classes=2, **BINARY, ignore_class=7, adjusted=False)
metric("cohen_kappa", outputs=X, y=LABELS, classes=3, weights="linear", **BINARY, ignore_class=7)
metric("matthews_corrcoef", outputs=X, y=LABELS, classes=3, **BINARY, ignore_class=7)
for name in ("f1", "precision", "recall"):
    metric(name, **BINARY, ignore_class=7)
of_classes = {"outputs": X, "y": LABELS, "classes": 3, "average": "macro"}
metric("f1", variant="(classes)", **of_classes, **BINARY, ignore_class=7)
of_labels = {"outputs": P, "y": (P > 0.3).astype(int), "labels": 3}
metric("recall", variant="(labels)", **of_labels, **BINARY, ignore_class=7)
metric("log_loss", from_logits=False, ignore_class=7)
metric("brier", from_logits=False, ignore_class=7, scale_by_half=True)
metric("mean", outputs=X, y=X / 2, function=jd.losses.mse)
for name in ("r2", "rmse"):

    def use(made, outputs=X, y=X / 2):
        return made.compute(made.update(made.init(), outputs, y, WEIGHTS))

    call(f"metrics.{name}", use=use, outputs=3, multioutput="uniform_average")
    made = getattr(jd.metrics, name)(3)
    call(
        f"metrics.{name}().update",
        of=lambda state, outputs, y, weights, made=made: made.update(state, outputs, y, weights),
        state=made.init(),
        outputs=X,
        y=X / 2,
        weights=WEIGHTS,
        also={"y": "labels|targets"},
    )
call("metrics.exact_sums", state=jd.metrics.r2().init())
BATCHES = {"bits": (SCORES, BITS), "classes": (P, LABELS), "values": (X, X / 2)}


def guessed_measure(room, name, arguments):
    """A function of outputs and targets with a batch that it takes, or a `Metric` with its methods."""
    function = getattr(getattr(jd, room), name)
    _, outputs, y = guessed.with_batch(function, BATCHES)
    if guessed.is_of_examples(function):
        batch = dict(zip(arguments, (outputs, y)))
        call(f"{room}.{name}", also={"logits": "outputs"}, **arguments | batch)
    else:
        metric(name, outputs, y, **arguments)


for room in ("losses", "metrics"):
    namespace = getattr(jd, room)
    guess_the_others(
        room,
        [name for name in namespace.__all__ if inspect.isfunction(getattr(namespace, name))],
        functools.partial(guessed_measure, room),
    )

# optimizers


def stepped(tx):
    state = tx.init(PARAMS)
    updates, state = tx.update(GRADS, state, PARAMS)
    return tx.update(updates, state, PARAMS)[0]


def optimizer(name, /, use=stepped, **arguments):
    call(f"optimizers.{name}", use=use, **arguments)
    if use is not stepped:
        return
    made = called(getattr(jd.optimizers, name), arguments)
    also = {
        "params": "parameters|a/kernel|a/bias|kernel|bias",
        "updates": "gradients|a/kernel|kernel|a/bias",
        "state": "state",
    }
    call(
        f"optimizers.{name}().init",
        of=lambda params: made.init(params),
        params=PARAMS,
        also=also,
        free="params",
    )
    call(
        f"optimizers.{name}().update",
        of=lambda updates, state, params: made.update(updates, state, params),
        updates=GRADS,
        state=made.init(PARAMS),
        params=PARAMS,
        also=also,
    )


B = {"b1": 0.8, "b2": 0.9}
DTYPE = {"mu_dtype": "float32"}
optimizer("adagrad", learning_rate=0.1, initial_accumulator_value=0.5, eps=1e-3, eps_in_sqrt=True)
optimizer("adam", learning_rate=0.1, **B, eps=1e-3, eps_root=1e-3, eps_mode="corrected", **DTYPE)
optimizer("adamax", learning_rate=0.1, **B, eps=1e-3, eps_mode="max", **DTYPE)
optimizer(
    "adamw",
    learning_rate=0.1,
    **B,
    eps=1e-3,
    eps_root=1e-3,
    eps_mode="corrected",
    **DTYPE,
    weight_decay=0.1,
    where="*/kernel",
    couple_lr=True,
)
optimizer("add_decayed_weights", weight_decay=0.1, where="*/kernel")
optimizer("add_l1_penalty", l1=0.1, where="*/kernel")
optimizer("add_l2_penalty", l2=0.1, where="*/kernel", half=False)
optimizer("at_learning_rate", optimizer=jd.optimizers.adam(0.1), learning_rate=0.2)
optimizer("bias_correction", decay=0.5)
optimizer("clip_by_global_norm", max_norm=0.5, eps=1e-3)
optimizer("clip_by_norm", max_norm=0.5)
optimizer("clip_by_value", max_delta=0.5)
optimizer("ema_params", decay=0.5)
optimizer("first_moment", decay=0.5, accumulator_dtype="float32")
optimizer("lion", learning_rate=0.1, **B, **DTYPE, weight_decay=0.1, where="*/kernel")
optimizer(
    "lookahead",
    fast_optimizer=jd.optimizers.sgd(0.1),
    sync_period=2,
    slow_step_size=0.5,
    reset_state=True,
)
optimizer(
    "low_precision",
    inner=jd.optimizers.adam(0.1),
    state="bfloat16",
    params="float32",
    where="*/kernel",
    min_size=2,
)
optimizer("max_norm", max_norm=0.5, axis=0, where="*/kernel", eps=1e-3)
optimizer("min_max_norm", min_norm=0.1, max_norm=0.5, rate=0.5, axis=0, where="*/kernel", eps=1e-3)
optimizer("multiply", factor=0.5, where="*/kernel")
optimizer("non_negative", where="*/kernel")
optimizer("unit_norm", axis=0, where="*/kernel", eps=1e-3)
optimizer("nadam", learning_rate=0.1, **B, eps=1e-3, eps_root=1e-3, momentum_decay=4e-3, **DTYPE)
optimizer(
    "nadamw",
    learning_rate=0.1,
    **B,
    eps=1e-3,
    eps_root=1e-3,
    momentum_decay=4e-3,
    **DTYPE,
    weight_decay=0.1,
    where="*/kernel",
    couple_lr=True,
)
optimizer("nag", learning_rate=0.1, momentum=0.5, accumulator_dtype="float32")
optimizer(
    "rmsprop",
    learning_rate=0.1,
    decay=0.5,
    eps=1e-3,
    initial_scale=0.5,
    eps_in_sqrt=True,
    centered=False,
    momentum=0.5,
    nesterov=False,
    bias_correction=False,
    lr_in_trace=True,
)
optimizer("scale_by_adagrad", initial_accumulator_value=0.5, eps=1e-3, eps_in_sqrt=True)
optimizer("scale_by_adam", **B, eps=1e-3, eps_root=1e-3, eps_mode="corrected", **DTYPE)
optimizer("scale_by_adamax", **B, eps=1e-3, eps_mode="max", **DTYPE)
optimizer("scale_by_learning_rate", learning_rate=0.1)
optimizer("scale_by_lion", **B, **DTYPE)
optimizer("scale_by_momentum", momentum=0.5, nesterov=False, accumulator_dtype="float32")
optimizer("scale_by_nadam", **B, eps=1e-3, eps_root=1e-3, momentum_decay=4e-3, **DTYPE)
optimizer("scale_by_nag", momentum=0.5, accumulator_dtype="float32")
optimizer(
    "scale_by_rms",
    decay=0.5,
    eps=1e-3,
    initial_scale=0.5,
    eps_in_sqrt=True,
    centered=False,
    bias_correction=False,
)
optimizer("second_moment", decay=0.5)
optimizer(
    "sgd",
    learning_rate=0.1,
    momentum=0.5,
    nesterov=False,
    lr_in_trace=False,
    accumulator_dtype="float32",
)
optimizer("skip_nonfinite", optimizer=jd.optimizers.sgd(0.1))


def on_plateau(tx):
    state = tx.init(PARAMS)
    for value in (1.0, 1.0, 1.0):
        updates, state = tx.update(GRADS, state, PARAMS, value=value)
    return updates


call(
    "optimizers.reduce_on_plateau",
    use=on_plateau,
    factor=0.5,
    patience=1,
    rtol=1e-3,
    atol=1e-3,
    cooldown=1,
    accumulation_size=1,
    min_scale=0.1,
    mode="min",
)
PLATEAU = jd.optimizers.reduce_on_plateau()
call(
    "optimizers.reduce_on_plateau().update",
    of=lambda updates, state, params, value: PLATEAU.update(updates, state, params, value=value),
    updates=GRADS,
    state=PLATEAU.init(PARAMS),
    params=PARAMS,
    value=0.5,
    also={"params": "parameters|kernel|a/kernel", "updates": "update|gradients|kernel|a/kernel"},
)
NAG = jd.optimizers.nag(0.1)
call("optimizers.bytes_per_param", opt_state=NAG.init(PARAMS), params=PARAMS)
call("optimizers.check_transform", tx=jd.optimizers.sgd(0.1), params=PARAMS, dear=True)
call("optimizers.factories", use=sorted, with_learning_rate=True)
call(
    "optimizers.gradient_point",
    opt_state=NAG.init(PARAMS),
    params=PARAMS,
    also={"params": "parameters|kernel|a/kernel"},
)
FREE = optax.contrib.schedule_free_sgd(0.1)
call(
    "optimizers.evaluation_params",
    opt_state=FREE.init(PARAMS),
    params=PARAMS,
    also={"params": "parameters|kernel|a/kernel"},
)
call("optimizers.hyperparams", opt_state=NAG.init(PARAMS))
call("optimizers.set_hyperparams", opt_state=NAG.init(PARAMS), learning_rate=0.5)

guess_the_others(
    "optimizers", jd.optimizers.factories(), lambda name, arguments: optimizer(name, **arguments)
)

# schedules


def values(schedule):
    return [schedule(step) for step in (0, 3, 11)]


def schedule(name, /, **arguments):
    call(f"schedules.{name}", use=values, **arguments)
    made = called(getattr(jd.schedules, name), arguments)
    call(f"schedules.{name}()", of=lambda step: made(step), step=5, free="step")


RISE = jd.schedules.exponential(0.1, 10, 0.5)
schedule("constant", value=0.1)
schedule("cosine_restarts", init_value=0.1, first_decay_steps=10, t_mul=2.0, m_mul=1.0, alpha=0.0)
schedule("coslog4", peak_value=0.1, transition_steps=10)
schedule("flat_cos", init_value=0.1, transition_steps=10, pct_start=0.25)
schedule("cosine", init_value=0.1, decay_steps=10, alpha=0.1, exponent=2.0)
schedule(
    "exponential",
    init_value=0.1,
    transition_steps=10,
    decay_rate=0.5,
    transition_begin=1,
    staircase=False,
    end_value=0.01,
)
schedule("join", schedules=[RISE, RISE], boundaries=[5])
schedule(
    "one_cycle",
    peak_value=0.1,
    transition_steps=10,
    form="torch",
    anneal="cosine",
    pct_start=0.3,
    three_phase=False,
    div_factor=10.0,
    final_div_factor=100.0,
)
schedule(
    "one_cycle_momentum",
    transition_steps=10,
    high=0.95,
    low=0.85,
    form="torch",
    anneal="cosine",
    pct_start=0.3,
    three_phase=False,
)
schedule("per_epoch", schedule=RISE, steps_per_epoch=2, epochs=4)
schedule("piecewise_constant", boundaries=[5], values=[0.1, 0.2], side="right")
schedule(
    "polynomial",
    init_value=0.1,
    end_value=0.01,
    power=2.0,
    transition_steps=10,
    transition_begin=1,
    cycle=False,
)
schedule("power", init_value=0.1, transition_steps=10, decay_rate=0.5, power=2.0, staircase=False)
schedule("warmup", schedule=RISE, steps=4, init_value=0.01)

# regularizers


def penalty(name, /, **arguments):
    call(f"regularizers.{name}", use=lambda made: made(PARAMS), **arguments)
    made = called(getattr(jd.regularizers, name), arguments)
    call(
        f"regularizers.{name}()",
        of=lambda params: made(params),
        params=PARAMS,
        free="params",
        also={"params": "kernel|its argument|a/kernel|a/bias"},
    )


penalty("l1", factor=0.1, where="*/kernel")
penalty("l2", factor=0.1, where="*/kernel", half=False)
penalty("l1_l2", l1=0.1, l2=0.2, where="*/kernel", half=False)
penalty("total", penalties=(jd.regularizers.l1(0.1), jd.regularizers.l2(0.1)))
OUTPUTS = {"hidden": X, "logits": X}
call(
    "regularizers.activity",
    use=lambda made: made(OUTPUTS),
    penalty=jd.regularizers.l1(0.1),
    where="hidden",
)
call(
    "regularizers.activity()",
    of=jd.regularizers.activity(jd.regularizers.l1(0.1), where="hidden"),
    outputs=OUTPUTS,
    mask=jnp.arange(len(X)) < 2,
    also={"outputs": "hidden"},
    free="outputs",
)

# preprocessing
LMBDA = jnp.array([0.5, 1.0, 2.0])
call(
    "preprocessing.box_cox",
    x=POSITIVE,
    lmbda=LMBDA,
    geometric_mean=False,
    axis=0,
    free="x lmbda geometric_mean",
)
call("preprocessing.box_cox_interval", x=POSITIVE, lmbda=LMBDA, level=0.9, axis=0, free="x lmbda")
call("preprocessing.box_cox_llf", x=POSITIVE, lmbda=LMBDA, axis=0, free="x lmbda")
call("preprocessing.box_cox_mle", x=POSITIVE, axis=0, free="x")
call("preprocessing.inverse_box_cox", y=POSITIVE, lmbda=LMBDA, free="y lmbda")
call("preprocessing.inverse_yeo_johnson", y=POSITIVE, lmbda=LMBDA, free="y lmbda")
call("preprocessing.yeo_johnson", x=POSITIVE, lmbda=LMBDA, free="x lmbda")
call("preprocessing.yeo_johnson_interval", x=POSITIVE, lmbda=LMBDA, level=0.9, axis=0, free="x lmbda")
call("preprocessing.yeo_johnson_llf", x=POSITIVE, lmbda=LMBDA, axis=0, free="x lmbda")
call("preprocessing.yeo_johnson_mle", x=POSITIVE, axis=0, free="x")


def scaler(name, /, data=X, **arguments):
    def use(made):
        return made.transform(made.fit(data), data)

    call(f"preprocessing.{name}", use=use, **arguments)
    made = called(getattr(jd.preprocessing, name), arguments)
    state = drawn(lambda: made.fit(data))
    parts = f"preprocessing.{name}()"
    call(f"{parts}.fit", of=lambda x: made.fit(x), x=data, free="x")
    call(
        f"{parts}.transform", of=lambda state, x: made.transform(state, x), state=state, x=data, free="x"
    )
    call(
        f"{parts}.inverse_transform",
        of=lambda state, y: made.inverse_transform(state, y),
        state=state,
        y=data,
        free="y",
    )
    if hasattr(made, "update"):
        call(f"{parts}.init", of=lambda x: made.init(x), x=data, free="x")
        call(
            f"{parts}.update",
            of=lambda state, x, weights: made.update(state, x, weights),
            state=state,
            x=data,
            weights=WEIGHTS,
            free="",
        )
        call(
            f"{parts}.merge",
            of=lambda state, other: made.merge(state, other),
            state=state,
            other=state,
            also={"other": "state"},
        )


scaler("min_max_scaler", feature_range=(0.0, 2.0), axis=0, clip=False, ignore_nan=True)
scaler("standard_scaler", axis=0, with_mean=True, with_std=True, ignore_nan=True)
scaler("power_transform", method="yeo-johnson", standardize=True, axis=0)
call("preprocessing.smooth_clip", x=X, limit=2.0, free="x")
call("preprocessing.inverse_smooth_clip", y=X, limit=2.0, free="y")
scaler(
    "robust_scaler",
    quantile_range=(20.0, 70.0),
    with_centering=True,
    with_scaling=True,
    unit_variance=False,
    flat="range",
    clip=3.0,
    axis=0,
)
scaler("quantile_transform", n_quantiles=3, output="normal", axis=0)
scaler("log_transform", POSITIVE, method="log1p", standardize=True, axis=0)
scaler("k_bins", n_bins=2, strategy="uniform", encode="ordinal", missing="bin", axis=0)
CALLS["preprocessing.k_bins().inverse_transform"] = dataclasses.replace(
    CALLS["preprocessing.k_bins().inverse_transform"],
    arguments={
        "state": CALLS["preprocessing.k_bins().inverse_transform"].arguments["state"],
        "y": jnp.array([[0, 1, 1], [1, 0, 0]]),
    },
)
scaler("imputer", strategy="median", fill=1.0, indicators="all")
IMPUTER = jd.preprocessing.imputer("median", fill=1.0, indicators="all")
CALLS["preprocessing.imputer().inverse_transform"] = dataclasses.replace(
    CALLS["preprocessing.imputer().inverse_transform"],
    arguments={"state": IMPUTER.fit(X), "y": IMPUTER.transform(IMPUTER.fit(X), X)},
)


def encoder(name, /, x, whole, **arguments):
    """An encoder of what is no number, whose arrays `whole` compiled functions take."""
    made = called(getattr(jd.preprocessing, name), arguments)
    state = made.fit(x)
    call(f"preprocessing.{name}", use=lambda made: made.transform(made.fit(x), x), **arguments)
    free, parts = "x", f"preprocessing.{name}()"
    call(f"{parts}.fit", of=lambda x: made.fit(x)[0], x=x, free=free)
    call(f"{parts}.transform", of=lambda state, x: made.transform(state, x), state=state, x=x, free=free)
    if whole is not None:
        call(
            f"{parts}.encode",
            of=lambda state, codes: made.encode(state, codes),
            state=state,
            codes=whole,
            free="codes",
        )


CODES = np.array([0, 1, 0, 2])
GROUPED: dict[str, Any] = {"categories": [[0, 1, 2]], "min_frequency": 2, "max_categories": 3}
encoder(
    "one_hot_encoder",
    CODES,
    jnp.array([[2], [3], [1]]),
    **GROUPED,
    unknown="error",
    missing="category",
    drop="if_binary",
    max_bytes=10_000,
    dtype=jnp.float32,
)
encoder(
    "ordinal_encoder",
    CODES,
    jnp.array([[2], [3], [1]]),
    **GROUPED,
    unknown=-1.0,
    missing=-2.0,
    dtype=jnp.float32,
)
encoder(
    "date_encoder",
    ["2024-02-29T12:00", "1999-12-31T18:00"],
    None,
    parts=("year", "month"),
    cycles=("hour",),
    zone="Europe/Rome",
    dtype=jnp.float32,
)
ENCODER = jd.preprocessing.target_encoder(2.0)
call(
    "preprocessing.target_encoder",
    use=lambda made: made.fit(CODES, SCORES)[:2],
    smooth=2.0,
    categories=4,
    min_count=1,
)
call(
    "preprocessing.target_encoder(classes)",
    of=jd.preprocessing.target_encoder,
    use=lambda made: made.fit(CODES, LABELS)[:2],
    smooth="auto",
    classes=3,
    min_count=1,
)
call("preprocessing.target_encoder().fit", of=lambda x, y: ENCODER.fit(x, y)[:2], x=CODES, y=SCORES)
call(
    "preprocessing.target_encoder().transform",
    of=lambda state, x: ENCODER.transform(state, x),
    state=jd.preprocessing.TargetState(jnp.full(4, 0.25), jnp.float32(0.5), None),
    x=CODES,
)
call(
    "preprocessing.target_encoder().fit_transform",
    of=lambda key, x, y, cv, stratify: ENCODER.fit_transform(key, x, y, cv=cv, stratify=stratify)[0],
    key=KEY,
    x=CODES,
    y=SCORES,
    cv=2,
    stratify=True,
)

SCALER = jd.preprocessing.standard_scaler()
call(
    "preprocessing.fitted",
    use=lambda layer: layer.apply(*layer.init(KEY, X), X)[0],
    transform=SCALER,
    state=SCALER.fit(X),
)

# uncertainty
for name in ("brier_score", "negative_log_likelihood"):
    call(f"uncertainty.{name}", probabilities=P, labels=LABELS, from_logits=False, free="")
for name in ("expected_calibration_error", "maximum_calibration_error", "reliability"):
    call(
        f"uncertainty.{name}",
        probabilities=P,
        labels=LABELS,
        from_logits=False,
        bins=3,
        strategy="uniform",
    )
call(
    "uncertainty.rejection_curve", probabilities=P, labels=LABELS, from_logits=False, uncertainty=SCORES
)
call(
    "uncertainty.fit_temperature", also={"logits": "outputs"}, logits=X, labels=LABELS, from_logits=False
)
call("uncertainty.temperature_scale", logits=X, temperature=2.0, free="logits")
ONE = (NET_PARAMS, NET_STATE)
PLAIN = {"also": NET_ALSO, "free": "x"}
call(
    "uncertainty.mc_dropout",
    **net,
    x=X,
    key=KEY,
    samples=2,
    batch_size=4,
    return_samples=True,
    outputs="logits",
    loss=jd.losses.softmax_cross_entropy,
    **PLAIN,
)
call(
    "uncertainty.ensemble",
    model=NET,
    members=[ONE, ONE],
    x=X,
    batch_size=4,
    return_samples=True,
    outputs="logits",
    loss=jd.losses.softmax_cross_entropy,
    **PLAIN,
)

# compress
call("compress.cast", **net, dtype="bfloat16", use=lambda made: made[1:], also=NET_ALSO)
QUANTIZED = jd.compress.quantize(**net)
call("compress.quantize", **net, where="logits/kernel", use=lambda made: made[1:], also=NET_ALSO)
call("compress.dequantize", qparams=QUANTIZED[1], dtype="float32", also={"qparams": "hidden|logits|bn"})
call(
    "compress.export",
    dear=True,
    path=FOLDER / "net.jaxexport",
    **net,
    x=X,
    platforms=("cpu",),
    batch_size=4,
    use=lambda made: made.call(X),
    also=NET_ALSO,
)
jd.compress.export(FOLDER / "kept.jaxexport", **net, x=X)
call("compress.load_exported", path=FOLDER / "kept.jaxexport", use=lambda made: made(X))
FOLDABLE = nn.serial(a=nn.dense(3), bn=nn.batch_norm())
FOLD = dict(zip(("params", "state"), drawn(lambda: FOLDABLE.init(KEY, X))))
call(
    "compress.fold_batch_norm",
    model=FOLDABLE,
    **FOLD,
    partial=False,
    use=lambda made: made[1:],
    also=NET_ALSO,
)
call("compress.keep_zeros", where="*/kernel", use=stepped)
for name in ("prune", "pruning_mask"):
    call(
        f"compress.{name}",
        params=PARAMS,
        sparsity=0.5,
        where="*/kernel",
        scope="global",
        free="params",
        also={"params": "kernel|a/kernel"},
    )
call(
    "compress.quantization_error",
    params=NET_PARAMS,
    qparams=QUANTIZED[1],
    also={"params": "hidden|logits|bn", "qparams": "hidden|logits|bn"},
)
call(
    "compress.quantized_conv",
    filters=2,
    kernel_size=3,
    strides=1,
    padding="SAME",
    dilation=1,
    groups=1,
    activation=jnp.tanh,
    use_bias=True,
    use=images,
)
call("compress.quantized_dense", features=2, activation=jnp.tanh, use_bias=True, use=ran)
call("compress.quantized_ntk_dense", features=2, activation=jnp.tanh, use_bias=True, use=ran)
call("compress.quantized_embedding", num_embeddings=4, features=2, use=functools.partial(ran, x=LABELS))
call("compress.size_bytes", trees=(PARAMS, PARAMS), also={"trees": "kernel|a/kernel"})
call(
    "compress.sparsity",
    params=PARAMS,
    where="*/kernel",
    free="params",
    also={"params": "kernel|a/kernel"},
)
call(
    "compress.sparsity_curve",
    dear=True,
    **net,
    data=(X, LABELS),
    levels=(0.0, 0.5),
    metric=jd.metrics.accuracy,
    where="*/kernel",
    scope="global",
    batch_size=4,
    also=NET_ALSO,
)

# transfer
call("transfer.drop_layers", **net, layers=1, use=lambda made: made[1:], also=NET_ALSO)
call("transfer.take_layers", **net, layers=1, use=lambda made: made[1:], also=NET_ALSO)
call(
    "transfer.layerwise_decay",
    model=NET,
    params=NET_PARAMS,
    decay=0.5,
    use=lambda tx: tx.update(NET_PARAMS, tx.init(NET_PARAMS), NET_PARAMS)[0],
    also=NET_ALSO,
)
call("transfer.pretrained", **net, where="hidden/*", use=lambda made: made.init(KEY, X), also=NET_ALSO)
call(
    "transfer.replace_head",
    **net,
    head=nn.dense(2),
    x=X,
    key=KEY,
    layer="logits",
    use=lambda made: made[1:],
    also=NET_ALSO,
)

call(
    "transfer.pretrain_layerwise",
    dear=True,
    model=NET,
    x=X,
    optimizer=optax.sgd(0.1),
    key=KEY,
    epochs=1,
    batch_size=2,
    noise=0.1,
)

# saving
CONFIG = jd.saving.to_config(NET)
call("saving.to_config", model=NET, use=str)
call("saving.from_config", config=CONFIG, use=lambda model: model.init(KEY, X))


def thing():
    return None


call("saving.register", name="contract.thing", thing=thing, replace=True, use=lambda made: None)
call(
    "save",
    path=FOLDER / "saved",
    **net,
    form="jaxdeep",
    training={"optimizer": jd.optimizers.sgd(0.1), "loss": jd.losses.softmax_cross_entropy},
    use=lambda _: jd.load(FOLDER / "saved")[1:],
    also=NET_ALSO,
)
jd.save(FOLDER / "kept", **net, training={"loss": jd.losses.softmax_cross_entropy})
call("load", path=FOLDER / "kept", training=True, use=lambda made: made[1:3])
call(
    "load_into",
    **net,
    arrays={"params": net["params"], "state": net["state"]},
    rename={"params/*": "params/*"},
    strict=True,
    also=NET_ALSO,
)

# diagnostics
BATCH = (X, LABELS)
CE = jd.losses.softmax_cross_entropy
SGD = jd.optimizers.sgd(0.1)
call(
    "diagnostics.gradient_flow",
    **net,
    batch=BATCH,
    optimizer=SGD,
    opt_state=SGD.init(NET_PARAMS),
    trainable="*/kernel",
    update_args=("value",),
    key=KEY,
    train=True,
    where="hidden*",
    loss=CE,
    dear=True,
    also={"opt_state": "state", **NET_ALSO},
)
FLOW = dict.fromkeys(("hidden", "logits"), jd.diagnostics.LayerFlow(*[np.float32(0.1)] * 8))
call("diagnostics.diagnose", flow=FLOW)
call("diagnostics.report", flow=FLOW)
call(
    "diagnostics.find_learning_rate",
    model=NET,
    data=BATCH,
    optimizer=jd.optimizers.sgd,
    key=KEY,
    low=1e-4,
    high=1.0,
    steps=20,
    batch_size=2,
    params=NET_PARAMS,
    state=NET_STATE,
    loss=CE,
    dear=True,
    also=NET_ALSO,
)

# datasets
np.savez(FOLDER / "data.npz", x=np.asarray(POSITIVE), y=np.asarray(LABELS))
call("datasets.npz", path=FOLDER / "data.npz", classes=True)
call("datasets.load", name=str(FOLDER / "data.npz"))
ROWS = np.arange(6)
PARTED = {"data": X[:2].repeat(3, axis=0), "groups": ROWS // 2, "stratify": ROWS % 2}
call("datasets.split", **PARTED, sizes=0.4, shuffle=True, seed=0, free="data")
call("datasets.folds", **PARTED, k=2, shuffle=True, seed=0, free="data")

# train
call("train.balanced_class_weight", y=LABELS, weights=jnp.ones(4))
OBJECTIVE = jd.train.supervised(NET, CE)
STATE = jd.train.TrainState(jnp.int32(0), NET_PARAMS, NET_STATE, SGD.init(NET_PARAMS), KEY)
EACH = {"accuracy": jd.metrics.accuracy}


def seen(objective):
    return objective(NET_PARAMS, NET_STATE, BATCH, train=False)[0]


call(
    "train.supervised",
    model=NET,
    loss=CE,
    metrics=EACH,
    penalty=jd.regularizers.l2(0.1),
    activity=jd.regularizers.activity(jd.regularizers.l1(0.1), where="hidden"),
    class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    trainable="*/kernel",
    use=seen,
)
call(
    "train.supervised()",
    of=lambda params, state, batch: OBJECTIVE(params, state, batch, train=False)[0],
    params=NET_PARAMS,
    state=NET_STATE,
    batch=BATCH,
    also={"batch": "x|y|labels|outputs|weights", **NET_ALSO},
)
call("train.init", model=NET, optimizer=SGD, x=X, key=KEY, trainable="*/kernel")
STEP = jd.train.make_step(OBJECTIVE, SGD)
call(
    "train.make_step",
    objective=OBJECTIVE,
    optimizer=SGD,
    accumulation_steps=1,
    augment=lambda key, x: x,
    trainable="*/kernel",
    update_args=("value",),
    use=lambda step: step(jd.train.init(NET, SGD, X, key=KEY, trainable="*/kernel"), BATCH)[1]["loss"],
)
call(
    "train.make_step()",
    of=lambda ts, batch: STEP(ts, batch)[1]["loss"],
    ts=STATE,
    batch=BATCH,
    also={"batch": "x|y|labels|data", "ts": "state|TrainState"},
)
EPOCH = jd.train.make_epoch(STEP, batch_size=2)
call(
    "train.make_epoch",
    step=STEP,
    batch_size=2,
    shuffle=False,
    drop_remainder=False,
    use=lambda epoch: epoch(STATE, BATCH)[1]["loss"],
    dear=True,
)
call(
    "train.make_evaluate",
    objective=OBJECTIVE,
    batch_size=2,
    use=lambda evaluate: evaluate(NET_PARAMS, NET_STATE, BATCH),
    dear=True,
)
RUN = {
    "epochs": 1,
    "batch_size": 2,
    "shuffle": False,
    "drop_remainder": False,
    "accumulation_steps": 1,
    "augment": lambda key, x: x,
    "ema": False,
    "trainable": "*/kernel",
    "update_args": ("value",),
    "early_stopping": jd.train.EarlyStopping(monitor="loss"),
    "plateau": jd.train.ReduceOnPlateau(monitor="loss"),
    "validate_every": 1,
    "on_nonfinite": "raise",
}
call(
    "train.make_run",
    objective=OBJECTIVE,
    optimizer=SGD,
    **RUN,
    use=lambda run: run(jd.train.init(NET, SGD, X, key=KEY, trainable="*/kernel"), BATCH, BATCH)[1][
        "loss"
    ],
    dear=True,
)


def watched(option):
    """Monitors are checked where they are used."""

    def use(monitor):
        jd.train.make_run(OBJECTIVE, SGD, **{option: monitor})

    return use


call(
    "train.EarlyStopping",
    use=watched("early_stopping"),
    patience=1,
    monitor="loss",
    mode="min",
    min_delta=0.1,
    restore_best=True,
    ties="last",
    baseline=0.5,
    start_from_epoch=1,
)


def in_a_fit(**options):
    jd.fit(NET, BATCH, optimizer=SGD, key=KEY, loss=CE, batch_size=2, progress=False, **options)


def in_a_sweep(halving):
    jd.sweep(
        built,
        {"rate": [0.1, 0.2]},
        data=BATCH,
        key=KEY,
        loss=CE,
        epochs=2,
        batch_size=2,
        halving=halving,
        progress=False,
    )


def built(point):
    return {"model": NET, "optimizer": jd.optimizers.sgd(point["rate"])}


call(
    "train.Phase",
    use=lambda phase: in_a_fit(phases=[phase], epochs=1, trainable=None),
    dear=True,
    epochs=1,
    trainable="*/kernel",
    learning_rate=0.1,
)
call(
    "train.ReduceOnPlateau",
    use=watched("plateau"),
    factor=0.5,
    patience=1,
    monitor="loss",
    mode="min",
    min_delta=0.1,
    cooldown=1,
    min_learning_rate=0.1,
)
call(
    "search.SuccessiveHalving", use=in_a_sweep, dear=True, first=1, factor=3, monitor="loss", mode="min"
)


def ranked_by(rule):
    """Strategies are checked where a sweep begins."""
    halving.check(rule, type(rule))
    halving.check_metrics(rule, {"loss": 0.0}, 1)
    return rule


call(
    "search.Hyperband",
    use=lambda rule: ranked_by(rule).plan(9),
    first=1,
    factor=3,
    monitor="loss",
    mode="min",
)
call(
    "search.AsynchronousHalving",
    use=lambda rule: asynchronous.begin(ranked_by(rule), 4, 9),
    first=1,
    factor=3,
    monitor="loss",
    mode="min",
)


class Asking:
    """A sampler that asks for nothing."""

    def ask(self):
        return None

    def tell(self, asked, value):
        pass


def sampling_by(asking):
    """Samplers are checked where a sweep begins."""
    ask_tell.checked(asking, None, None)
    monitors.resolve(asking, {"loss": 0.0})
    return asking


call(
    "search.AskTell",
    use=lambda asking: sampling_by(asking)[1:],
    sampler=Asking(),
    trials=3,
    batch=2,
    monitor="loss",
    mode="min",
    reports=4,
    diverged="prune",
)
call("search.uniform", low=0.1, high=0.5)
call("search.log_uniform", low=0.1, high=0.5)
call("search.one_minus", low=0.1, high=0.5)
call("search.int", low=1, high=5)
call("search.log_int", low=2, high=5)
call("search.choice", use=list, values=["adam", "sgd"])
DRAWN_FROM = {"rate": jd.search.log_uniform(0.1, 0.5), "units": [8, 16]}
call("search.grid", space=DRAWN_FROM, per_axis=3)
call("search.random", space=DRAWN_FROM, n=3, seed=1)
call("search.sobol", space=DRAWN_FROM, n=3, seed=1)
call("search.expected_best", values=[0.3, 0.1, 0.2], mode="min", unbiased=True)
call(
    "search.random_points",
    use=lambda points: [float(p["rate"]) for p in points],
    n=3,
    key=KEY,
    rate=("uniform", 0.1, 1.0),
)

FOUR = jax.vmap(lambda key: jd.train.init(nn.dense(2), jd.optimizers.adam(0.1), X, key=key))
call(
    "search.exploit_and_explore",
    key=KEY,
    states=FOUR(jax.random.split(KEY, 4)),
    values=SCORES,
    ranges={"learning_rate": (0.01, 1.0), "b1": (0.5, 0.95)},
    fraction=0.25,
    mode="max",
    factors=(0.5, 2.0),
    resample=0.25,
    use=lambda made: made[0].opt_state,
)

# fit and sweep
call(
    "fit",
    model=NET,
    data=BATCH,
    optimizer=SGD,
    key=KEY,
    loss=CE,
    penalty=jd.regularizers.l2(0.1),
    class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    **{**RUN, "trainable": "*"},
    metrics=EACH,
    validation=BATCH,
    freeze_batch_norm=True,
    params=NET_PARAMS,
    state=NET_STATE,
    stream=False,
    block_bytes=1024,
    epochs_per_call=1,
    steps_per_call=1,
    keep_checkpoints=3,
    callbacks=(),
    log=lambda values, step: None,
    progress=False,
    use=lambda r: r.history["loss"],
    dear=True,
    also={"data": "x|y|labels|loss", "validation": "validation|x|y", **NET_ALSO},
)
call(
    "evaluate",
    model=NET,
    params=NET_PARAMS,
    state=NET_STATE,
    data=BATCH,
    loss=CE,
    metrics=EACH,
    penalty=jd.regularizers.l2(0.1),
    batch_size=2,
    use=lambda found: found["loss"],
    also={"data": "x|y|labels|loss", **NET_ALSO},
)
call(
    "predict",
    model=NET,
    params=NET_PARAMS,
    state=NET_STATE,
    x=BATCH[0],
    batch_size=2,
    output="probability",
    loss=CE,
    free="x",
    also=NET_ALSO,
)
call(
    "sweep",
    builder=lambda point: {"optimizer": jd.optimizers.sgd(point["rate"])},
    model=NET,
    space={"rate": [0.1, 0.2]},
    data=BATCH,
    seeds=1,
    key=KEY,
    halving=None,
    strategy="vmap",
    rows_at_once=1,
    keep_params=2,
    retry_errors=False,
    log=lambda values, step, row: None,
    progress=False,
    use=lambda table: [row["loss"] for row in table.rows()],
    dear=True,
    loss=CE,
    penalty=jd.regularizers.l2(0.1),
    class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    **{**RUN, "trainable": "*", "plateau": None},
    metrics=EACH,
    validation=BATCH,
    freeze_batch_norm=True,
    also={"data": "x|y|labels|loss", "validation": "validation|x|y", **NET_ALSO},
)
call(
    "search.population",
    builder=lambda point: {"optimizer": jd.optimizers.sgd(point["learning_rate"])},
    model=NET,
    space={"learning_rate": [0.1, 0.2]},
    data=BATCH,
    key=KEY,
    every=1,
    ranges={"learning_rate": (0.01, 1.0)},
    fraction=0.5,
    factors=(0.8, 1.2),
    resample=0.25,
    monitor="loss",
    mode="min",
    progress=False,
    use=lambda result: result.history["loss"],
    dear=True,
    loss=CE,
    penalty=jd.regularizers.l2(0.1),
    class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    **{**RUN, "trainable": "*", "plateau": None, "early_stopping": None},
    metrics=EACH,
    validation=BATCH,
    freeze_batch_norm=True,
    also={"data": "x|y|labels|loss", "validation": "validation|x|y", **NET_ALSO},
)
ROWS = {
    "builder": lambda point: {"optimizer": jd.optimizers.sgd(point["rate"])},
    "model": NET,
    "space": {"rate": [0.1, 0.2]},
    "data": BATCH,
    "seeds": 1,
    "key": KEY,
    "strategy": "vmap",
    "rows_at_once": 1,
    "progress": False,
    "loss": CE,
    "penalty": jd.regularizers.l2(0.1),
    "class_weight": {0: 1.0, 1: 2.0, 2: 0.5},
    **{**RUN, "trainable": "*", "plateau": None, "batch_size": 2},
    "metrics": EACH,
    "freeze_batch_norm": True,
    "prepare": jd.preprocessing.standard_scaler(),
    "log": lambda values, step, row: None,
}
call(
    "search.cross_validate",
    **ROWS,
    folds=2,
    stratify=False,
    groups=None,
    shuffle_folds=True,
    use=lambda table: [row["loss"] for row in table.rows()],
    dear=True,
    also={"data": "x|y|labels|loss", **NET_ALSO},
)
call(
    "search.learning_curve",
    **ROWS,
    validation=BATCH,
    sizes=(0.5, 1.0),
    nested=True,
    stratify=False,
    use=lambda table: [row["loss"] for row in table.rows()],
    dear=True,
    also={"data": "x|y|labels|loss", "validation": "validation|x|y", **NET_ALSO},
)

# comparison
DIFFERENCES = [0.1, 0.2, 0.4]
call("comparison.t_interval", values=DIFFERENCES, level=0.9)
call("comparison.bca_interval", values=DIFFERENCES, level=0.9, seed=1)
call("comparison.sign_flip_test", differences=DIFFERENCES, seed=1, error=1e-7)
call("comparison.paired_t_test", differences=DIFFERENCES)
call("comparison.holm", p_values=DIFFERENCES)
call("comparison.superiority", a=DIFFERENCES, b=[0.3, 0.1], mode="min")
call("comparison.seeds_needed", deviation=0.1, difference=0.05, level=0.9, power=0.7)
call("comparison.named", name="muon", model=NET, use=lambda candidate: list(candidate.space))
call(
    "compare",
    candidates=["sgd"],
    model=NET,
    data=jax.tree.map(lambda rows: jnp.concatenate([rows] * 4), BATCH),  # each class in all parts
    validation=0.2,
    test=0.2,
    loss=CE,
    metrics=EACH,
    penalty=jd.regularizers.l2(0.1),
    class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    freeze_batch_norm=True,
    **{n: option for n, option in RUN.items() if n not in ("plateau", "early_stopping")}
    | {"trainable": "*"},
    metric="loss",
    mode="min",
    budget=1,
    seeds=2,
    schedule="cosine",
    worth=0.1,
    target=0.1,
    level=0.9,
    seed=1,
    strategy="vmap",
    rows_at_once=1,
    progress=False,
    use=lambda answer: answer.values["sgd"],
    dear=True,
)

call("search.bootstrap_samples", n=5, samples=2, seed=0)
call("search.corrected_interval", values=[0.1, 0.2, 0.4], n_train=8, n_validate=2, level=0.9)
call(
    "search.intervals",
    table=jd.search.Table(
        [{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}],
        [Result({}, {}, {"loss": np.array([loss])}, 0, "finished") for loss in (1.0, 2.0)],
    ),
    metric="loss",
    level=0.9,
    against={"rate": 0.1},
)

# tables
TABLE = {"age": [31.0, None, 58.0, 40.0], "city": ["a", "b", "a", None], "y": ["no", "yes", "no", "no"]}
call(
    "tables.fit",
    use=lambda columns: columns.encode_inputs(TABLE),
    frame=TABLE,
    target="y",
    kinds={"age": "number"},
    null=("", "?"),
    min_frequency=1,
    unknown="code",
    missing_columns="error",
    standardize_target=False,
    target_encoding=("city",),
    rows=[0, 1, 3],
    free="frame",
)
call(
    "tables.from_json",
    use=lambda columns: columns.encode_inputs(TABLE),
    text=jd.tables.fit(TABLE, "y").to_json(),
)

# tree
PART, REST = jd.tree.partition(PARAMS, "*/kernel")
call("tree.combine", trees=(PART, REST))
call("tree.leaf_paths", tree=PARAMS, free="tree")
call("tree.mask", also={"tree": "where"}, tree=PARAMS, where="*/kernel", free="tree")
call("tree.partition", also={"tree": "where"}, tree=PARAMS, where="*/kernel", free="tree")
call("tree.path_name", path=(jax.tree_util.DictKey("a"), jax.tree_util.SequenceKey(0)))
call("tree.shapes", tree=PARAMS, free="tree")
