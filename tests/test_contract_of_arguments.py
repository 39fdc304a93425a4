"""What every public function owes an argument that is not what it takes: an error that names it.

The valid calls are in `helpers.contracts`. Layers, losses, metrics and optimizers that have none there
are called as their signature suggests. Any other public function, and an argument that has no guess,
fails here until it has a valid call. The table takes seconds to make, so it is imported when it is used.
"""

import fnmatch
import importlib
import inspect

import numpy as np
import pytest

import jaxdeep as jd

NAMESPACES = [
    "jaxdeep",
    *(f"jaxdeep.{name}" for name in jd.__all__ if inspect.ismodule(getattr(jd, name))),
    "jaxdeep.nn.activations",
    "jaxdeep.nn.initializers",
]

RECORD = "holds what functions return"
OTHERS = "takes what another library makes, and is tested beside it"
# Public names without a valid call, and why.
LEFT_OUT = {
    "adapters.*": OTHERS,
    "plotting.*": "draws; tested in test_plotting.py",
    "comparison.Candidate": RECORD,
    "comparison.Comparison": RECORD,
    "comparison.Pair": RECORD,
    "comparison.names": "takes no arguments",
    "compress.KeepZerosState": RECORD,
    "compress.export_onnx": "needs the extra `onnx`; tested in tests/compress/test_onnx_exporting.py",
    "compress.Sparsity*": RECORD,
    "compress.WeightDeviation": RECORD,
    "datasets.Dataset": RECORD,
    "datasets.digits": "takes no arguments",
    "datasets.fashion_mnist": "takes no arguments, and downloads",
    "diagnostics.Finding": RECORD,
    "diagnostics.LayerFlow": RECORD,
    "diagnostics.RateTest": RECORD,
    "metrics.Metric": "made of functions by whoever writes one",
    "metrics.Tally": RECORD,
    "nn.Model": "made of functions by whoever writes one",
    "nn.Recipe": RECORD,
    "optimizers.*State": RECORD,
    "preprocessing.Moments": RECORD,
    "preprocessing.Range": RECORD,
    "preprocessing.PowerTransform": RECORD,
    "preprocessing.Transform": RECORD,
    "preprocessing.Dates": RECORD,
    "preprocessing.*State": RECORD,
    "preprocessing.*Encoder": RECORD,
    "preprocessing.Imputer": RECORD,
    "preprocessing.Scaler": RECORD,
    "train.Epochs": RECORD,
    "train.FitResult": RECORD,
    "train.Objective": "a protocol",
    "search.Points": RECORD,
    "search.Generation": RECORD,
    "search.LoggedRow": RECORD,
    "search.PopulationResult": RECORD,
    "search.Table": RECORD,
    "tables.Column": RECORD,
    "tables.Columns": RECORD,
    "tables.Number": RECORD,
    "tables.Report": RECORD,
    "tables.Tally": RECORD,
    "tables.Target": RECORD,
    "train.TrainState": RECORD,
    "transfer.pretrain_on_task": "is `fit` under another head; tested in transfer/test_pretraining.py",
    "uncertainty.Prediction": RECORD,
    "uncertainty.Rejection": RECORD,
    "uncertainty.Reliability": RECORD,
}
# Arguments that the valid call of a function leaves out, and why.
OMITTED = {
    "datasets.* time": "excludes groups; tested in tests/datasets/test_splitting.py",
    "datasets.* gap": "goes with time",
    "datasets.* identity": "excludes groups; tested in tests/datasets/test_splitting.py",
    "* axis_name": "the name of a mapped axis, which only a mapped call has",
    "* args": "JAX' own",
    "nn.initializers.variance_scaling *": "JAX' own",
    "metrics.accuracy from_logits": "of a single output",
    "uncertainty.mc_dropout from_logits": "an alternative of outputs",
    "uncertainty.ensemble from_logits": "an alternative of outputs",
    "predict from_logits": "an alternative of loss",
    "preprocessing.target_encoder(classes) categories": "has its own example",
    "* class_id": "an alternative of threshold",
    "metrics.f1*|metrics.precision*|metrics.recall* classes|labels|average": "have their own examples",
    "* mesh": "several devices; tested in tests/fitting/test_placement.py",
    "* shard": "several devices; tested in tests/fitting/test_placement.py",
    "* pct_final": "of another form than that of the example",
    "* objective": "an alternative of loss",
    "* executor": "other processes; tested in tests/search/runners/test_executors.py",
    "* memory": "of a device that tells its memory",
    "* halving": "SuccessiveHalving has its own example",
    "preprocessing.target_encoder classes": "has its own example",
    "fit activity": "that of supervised",
    "evaluate activity": "that of supervised",
    "compare activity": "that of supervised",
    "search.population activity": "that of supervised",
    "search.population checkpoint": "writes a folder; tested in test_population.py",
    "search.population optimizer": "an alternative of the builder's",
    "sweep activity": "that of supervised",
    "sweep sampler": "an alternative of space; AskTell has its own example",
    "sweep optimizer": "an alternative of the builder's",
    "search.* activity": "that of supervised",
    "search.* optimizer": "an alternative of the builder's",
    "sweep|search.* checkpoint": "writes a folder; tested in tests/search",
    "sweep|search.* keep_params": "of a checkpoint",
    "sweep|search.* retry_errors": "of a checkpoint",
    "fit phases": "an alternative of epochs; Phase has its own example",
    "fit train_state": "an alternative of params and key; tested in tests/saving/test_training.py",
    "fit diagnostics": "an alternative of epochs_per_call",
    "fit steps_per_epoch": "of loaders",
    "fit|evaluate|predict batch": "of loaders; tested in tests/fitting/test_loaders.py",
    "* checkpoint": "writes a folder; tested in test_checkpoint.py and test_resume.py",
    "diagnostics.* penalty": "that of supervised",
    "diagnostics.* activity": "that of supervised",
    "diagnostics.* class_weight": "that of supervised",
}
# Cases that are right although the result is another: (function, argument, what it is given, reason).
ALLOWED = [
    ("metrics.exact_sums", "state", "extra axes", "several states"),
    ("nn.*().apply", "key", "None", "randomness is off without a key"),
    ("nn.select().apply", "x", "*", "hands on what it is given; the layer behind it refuses"),
    ("nn.get_item", "parts", "None in it", "an end of a slice that is left out"),
    ("nn.rescale|nn.bounded", "*", "number|list", "one for all features, or one for each"),
    ("nn.summary", "x", "extra axis", "another input"),
    ("nn.activations.*", "*", "list", "a list of numbers is an array"),
    ("nn.initializers.initializer_for", "activation", "None", "a layer without one"),
    ("metrics.*", "weights", "None|a scalar", "no weights, or one for all"),
    ("metrics.*", "weights", "extra axis", "no weights, or one for all"),
    ("optimizers.*().init", "params", "number|array|list|another structure|extra axes", "any pytree"),
    ("optimizers.bytes_per_param", "*", "number|array|dict|list|another structure", "any pytrees"),
    ("optimizers.*_norm", "axis", "None", "the norm of the whole leaf"),
    ("optimizers.hyperparams", "opt_state", "number|array|dict|list", "the state of another library"),
    ("optimizers.reduce_on_plateau().update", "value", "True|nan", "a NaN is no improvement"),
    ("schedules.*()", "step", "half|negative|array", "between steps, before the first, several"),
    ("regularizers.*()", "params", "number|array|list|another structure", "any pytree"),
    ("regularizers.activity()", "outputs", "extra axes", "another output"),
    ("preprocessing.box_cox", "geometric_mean", "number", "its value"),
    ("preprocessing.*", "axis", "None", "statistics of the whole array"),
    ("preprocessing.*().update", "weights", "None|a scalar", "no weights, or one for all"),
    ("datasets.split", "data", "complex|numpy complex|objects|texts", "rows of anything"),
    ("preprocessing.target_encoder*", "smooth", "number", "a number as well as 'auto'"),
    ("preprocessing.target_encoder().*", "x", "texts", "categories of any kind"),
    ("preprocessing.*_encoder().*", "x", "texts|objects", "categories of any kind"),
    ("preprocessing.*_encoder", "categories|parts|cycles", "None*", "those found"),
    ("preprocessing.*_encoder().*", "x", "in a dict", "a dict of columns"),
    ("preprocessing.date_encoder().*", "x", "None in it", "dates that are missing"),
    ("preprocessing.robust_scaler", "clip", "None", "no limit"),
    ("preprocessing.target_encoder().transform", "x", "extra axis|a scalar", "numbers of any shape"),
    ("compress.dequantize", "qparams", "another structure|extra axes", "what is not int8 stays"),
    ("compress.prun*", "params", "extra axes", "any pytree"),
    ("compress.size_bytes", "trees", "*", "any pytree of numbers"),
    ("diagnostics.report", "flow", "extra axes|empty", "the flow of several models, or of no layer"),
    ("train.supervised", "class_weight", "array|list", "an array as well as a dict"),
    ("search.int", "low", "negative", "any whole number"),
    ("search.choice", "values", "*in it", "values of any kind"),
    ("search.grid|search.random|search.sobol", "space", "another structure", "any names"),
    ("search.exploit_and_explore", "ranges", "empty", "copies that explore nothing"),
    ("fit|sweep|search.*", "class_weight", "array|list", "an array as well as a dict"),
    ("search.corrected_interval", "n_*", "half", "means of numbers of rows"),
    ("tree.*", "*", "*", "any leaves, of which only paths are looked at"),
]
# Refusals that are still hard to read: (function, argument, what it is given, reason).
OBSCURE = [
    ("metrics.log_loss().update|metrics.brier().update", "y", "a scalar", "outputs of one example"),
    ("nn.lambda_().apply", "x", "None|in a dict", "the error is that of the user's function"),
    ("compress.export", "x", "extra axis", "JAX refuses the call of a file of other shapes"),
    ("sweep|search.*", "space", "another structure|empty", "the error is that of the user's builder"),
]


def public_functions():
    """Public names and what they are, each once: `jaxdeep.train` shows some of `jaxdeep.search`."""
    seen = []
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name in module.__all__:
            thing = getattr(module, name)
            own = getattr(thing, "__module__", "").startswith("jaxdeep")
            if callable(thing) and own and thing not in seen:
                seen.append(thing)
                yield f"{namespace}.{name}".removeprefix("jaxdeep."), thing


def is_among(table, *place):
    """Whether a case is in a table of globs, where | is or."""
    return any(
        all(
            any(fnmatch.fnmatchcase(part, glob) for glob in globs.split("|"))
            for part, globs in zip(place, entry)
        )
        for entry in table
    )


def faults(names, labels="*"):
    """What is wrong with the calls of these names, in words."""
    from helpers import contracts

    found = []
    for name in names:
        call = contracts.CALLS[name]
        for argument, label, odd in contracts.cases(call):
            if not fnmatch.fnmatchcase(label, labels):
                continue
            what, words = contracts.judged(call, argument, odd)
            table = {"silent": ALLOWED, "obscure": OBSCURE, "right": ()}[what]
            if what != "right" and not is_among(table, name, argument, label):
                found.append(f"{what}: {name}, {argument} = {label}: {words}")
    return found


def test_every_public_function_has_a_valid_call_or_a_reason_to_be_left_out():
    from helpers import contracts

    lacking = [
        name
        for name, _ in public_functions()
        if name not in contracts.CALLS and not is_among([(glob,) for glob in LEFT_OUT], name)
    ]
    lacking = [f"{name} ({contracts.UNGUESSED.get(name, 'no guess')})" for name in lacking]
    assert not lacking, (
        f"{', '.join(lacking)}: add a valid call to tests/helpers/contracts.py, by which wrong "
        "arguments are tried, or a reason to LEFT_OUT"
    )
    omitted = [tuple(key.split()) for key in OMITTED]
    missing = [
        f"{name}({argument})"
        for name, call in contracts.CALLS.items()
        for argument, parameter in inspect.signature(call.function).parameters.items()
        if "()" not in name and parameter.kind is not parameter.VAR_KEYWORD
        if argument not in call.arguments and not is_among(omitted, name, argument)
    ]
    assert not missing, f"add {', '.join(missing)} to the valid calls in tests/helpers/contracts.py"


# The namespaces, so that the workers of a run share them.
ROOMS = sorted({name.split(".")[0] for name, _ in public_functions() if "." in name})


@pytest.mark.heavy
def test_no_function_takes_a_text_for_what_it_takes():
    from helpers import contracts

    quick = [
        name
        for name, call in contracts.CALLS.items()
        if not call.dear and not name.startswith(("train.", "transfer."))
    ]
    found = faults(quick, "text")
    assert not found, "\n".join(found)


@pytest.mark.heavy
@pytest.mark.parametrize("room", ROOMS)
def test_a_wrong_argument_is_refused_by_its_name(room):
    from helpers import contracts

    names = [n for n, call in contracts.CALLS.items() if n.startswith(f"{room}.") and not call.dear]
    found = faults(names)
    assert not found, "\n".join(found)


@pytest.mark.heavy
def test_a_wrong_argument_of_what_runs_long_is_refused_by_its_name():
    from helpers import contracts

    names = [n for n, call in contracts.CALLS.items() if call.dear or "." not in n]
    found = faults(names)
    assert not found, "\n".join(found)


@pytest.mark.heavy
@pytest.mark.parametrize("room", ROOMS)
def test_the_same_number_or_array_may_come_in_any_form(room):
    from helpers import contracts

    found = []
    for name, call in contracts.CALLS.items():
        if not name.startswith(f"{room}.") or call.dear:
            continue
        for argument, value in call.arguments.items():
            for label, other in contracts.spelled_otherwise(value).items():
                what, words = contracts.judged(call, argument, other)
                if words != "same" and room == "preprocessing" and isinstance(other, np.ndarray):
                    # computed on the host there, in double precision: whatever its form, the same bits
                    same = contracts.alike(
                        call(**{argument: other}), call(**{argument: np.array(value)})
                    )
                    words = "same" if same else words
                # annotations, which only the tests check, know no numbers of NumPy
                if words != "same" and "Type-check error" not in words:
                    found.append(f"{what}: {name}, {argument} = {label}: {words}")
    assert not found, "\n".join(found)
