"""The one way in for arrays: whatever holds numbers gives the numbers of the array."""

import itertools
import math

import chex
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.experimental.sparse
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers.properties import over

import jaxdeep as jd
from jaxdeep._arrays import as_array

NUMBERS = itertools.count()


def framed(a):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(a) if a.ndim == 2 else pandas.Series(a)


def in_memory(a):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(f"{next(NUMBERS)}.h5", "w", driver="core", backing_store=False)
    file["a"] = a
    return file["a"]


CONTAINERS = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "jax": jax.numpy.asarray,
    "rows backwards": lambda a: a[::-1].copy()[::-1],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "masked without a mask": np.ma.masked_array,
    "masked with nothing masked": lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
    "pandas": framed,
    "torch": lambda a: pytest.importorskip("torch").tensor(a),
    "h5py": in_memory,
}


def streamed(metric):
    return lambda x, y: metric.compute(metric.update(metric.init(), x, y))


def scaled(x, y):
    scaler = jd.preprocessing.standard_scaler()
    return scaler.transform(scaler.fit(x), x)


def encoded(x, y):
    encoder = jd.preprocessing.target_encoder(categories=3)
    return encoder.transform(encoder.fit(y, y), y)


def predicted(x, y):
    return tuple(jd.uncertainty.mc_dropout(MODEL, PARAMS, {}, x, jax.random.key(1), samples=2))


MODEL = jd.nn.serial(jd.nn.dropout(0.5), jd.nn.dense(3))
PARAMS = {"dense0": {"kernel": np.ones((3, 3), np.float32), "bias": np.zeros(3, np.float32)}}
# Functions of a matrix of numbers and a column of labels from 0 to 2.
FUNCTIONS = {
    "softmax_cross_entropy": jd.losses.softmax_cross_entropy,
    "mse": lambda x, y: jd.losses.mse(x, x),
    "accuracy": jd.metrics.accuracy,
    "confusion_matrix": streamed(jd.metrics.confusion_matrix(3)),
    "mean": streamed(jd.metrics.mean(jd.losses.softmax_cross_entropy)),
    "standard_scaler": scaled,
    "target_encoder": encoded,
    "init": lambda x, y: jd.nn.dense(3).init(jax.random.key(0), x),
    "mc_dropout": predicted,
    "penalty": lambda x, y: jd.regularizers.l2(0.1)({"kernel": np.asarray(x)}),
}

OF_MODELS = ("init", "mc_dropout")  # to which a tuple is several inputs


@pytest.mark.few("accuracy")
@pytest.mark.parametrize("name", FUNCTIONS)
@over(
    6,
    60,
    x=hnp.arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32)),
    y=hnp.arrays(np.int32, 4, elements=st.integers(0, 2)),
    of_x=st.sampled_from(sorted(CONTAINERS)),
    of_y=st.sampled_from(sorted(CONTAINERS)),
)
def test_any_container_gives_the_numbers_of_the_array(name, x, y, of_x, of_y):
    function = FUNCTIONS[name]
    if of_x == "tuple" and name in OF_MODELS:
        with pytest.raises(TypeError, match=r"x (must be an array, got|is) a tuple"):
            function(CONTAINERS[of_x](x), y)
        return
    # Python's floats are float64: a scaler takes mean and deviation of them to more digits
    widened = name == "standard_scaler" and of_x in ("list", "tuple")
    expected = function(x.astype(np.float64) if widened else x, y)
    found = function(CONTAINERS[of_x](x), CONTAINERS[of_y](y))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.few(3)
@pytest.mark.parametrize("name", [*(name for name in FUNCTIONS if name != "penalty"), "fit"])
def test_bfloat16_of_torch_is_bfloat16(name):
    """NumPy has no such numbers, so that torch gives it none."""
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    ours, labels = jax.numpy.asarray(values, jax.numpy.bfloat16), np.array([0, 1, 2, 0, 1, 2])

    def trained(x, y):
        how = {"loss": jd.losses.softmax_cross_entropy, "optimizer": jd.optimizers.sgd(0.1)}
        model = jd.nn.dense(3)
        return jd.fit(
            model, (x, y), key=jax.random.key(0), epochs=1, batch_size=3, progress=False, **how
        ).params

    function = FUNCTIONS.get(name, trained)
    tensor = torch.tensor(values).to(torch.bfloat16)
    chex.assert_trees_all_equal(function(tensor, labels), function(ours, labels))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_of_torch_are_applied_and_saved(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    values = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    ours = {"kernel": jax.numpy.asarray(values, dtype), "bias": jax.numpy.ones(3, dtype)}
    theirs = {
        "kernel": torch.tensor(values).to(getattr(torch, dtype)),
        "bias": torch.ones(3, dtype=getattr(torch, dtype)),
    }
    model, x = jd.nn.dense(3), jax.numpy.ones((4, 2))
    chex.assert_trees_all_equal(model.apply(theirs, {}, x), model.apply(ours, {}, x))
    jd.save(tmp_path / "m", model, theirs, {})
    chex.assert_trees_all_equal(jd.load(tmp_path / "m")[1], ours)
    # shapes and dtypes are the same, too
    chex.assert_trees_all_equal_shapes_and_dtypes(jd.load(tmp_path / "m")[1], ours)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [">f4", "longdouble"])
def test_parameters_of_dtypes_that_jax_lacks_are_taken_or_refused_by_their_path(dtype):
    ours = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, np.float32)}
    theirs = jax.tree.map(lambda a: a.astype(dtype), ours)
    model, x = jd.nn.dense(3), np.ones((4, 2), np.float32)
    penalty = jd.regularizers.l1_l2(0.1, 0.2, where="*")
    of_outputs = jd.regularizers.activity(penalty, where="*")
    weighted = jd.losses.weighted({"kernel": jd.losses.mse})
    for function in (
        lambda params: model.apply(params, {}, x),
        lambda params: jd.nn.mixed_precision(model).apply(params, {}, x),
        lambda params: jd.nn.serial(a=model).apply({"a": params}, {}, x),
        lambda params: jd.uncertainty.ensemble(model, [(params, {})] * 2, x).mean,
        lambda params: jd.transfer.pretrained(model, params, {}).init(jax.random.key(0), x),
        penalty,
        of_outputs,
        lambda params: of_outputs(params, np.ones(3, bool)),
        lambda params: weighted(params, params),
    ):
        chex.assert_trees_all_equal(function(theirs), function(ours))
    adam = jd.optimizers.adam(0.1)
    for refused in (
        adam.init,
        lambda params: adam.update(ours, adam.init(ours), params),
        lambda params: jd.compress.prune(params, 0.5),
    ):
        with pytest.raises(TypeError, match=r"params: bias must be an array of a dtype of JAX, got .*f"):
            refused(theirs)


def test_parameters_in_another_byte_order_are_saved(tmp_path):
    model = jd.nn.dense(2, use_bias=False)
    params = {"kernel": np.arange(4, dtype=">f4").reshape(2, 2)}
    jd.save(tmp_path / "m", model, params, {})
    loaded = jd.load(tmp_path / "m")[1]["kernel"]
    assert loaded.tolist() == [[0, 1], [2, 3]]
    assert loaded.dtype == np.float32


@pytest.mark.parametrize(
    "values", [[1.0, np.ma.masked], [np.ma.masked_equal([1.0, 2.0], 2.0), [1.0, 2.0]], (1, np.ma.masked)]
)
def test_masked_values_in_a_list_are_refused(values):
    with pytest.raises(TypeError, match=r"x is a (list|tuple) with masked values; fill them"):
        as_array("x", values)
    with pytest.raises(TypeError, match="masked"):
        jd.losses.mse(values, values)


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["csr_matrix", "csr_array", "coo_matrix", "lil_array"])
def test_a_sparse_matrix_is_named_and_how_to_make_an_array_of_it(form):
    matrix = getattr(scipy.sparse, form)(np.eye(4))
    labels = np.zeros(4, int)
    model = jd.nn.dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    for call in (
        lambda: as_array("x", matrix),
        lambda: jd.fit(
            *(model, (matrix, labels)),
            loss=jd.losses.softmax_cross_entropy,
            optimizer=jd.optimizers.sgd(0.1),
            key=jax.random.key(0),
        ),
        lambda: jd.losses.mse(matrix, np.eye(4)),
        lambda: jd.metrics.accuracy(matrix, labels),
        lambda: jd.preprocessing.standard_scaler().fit(matrix),
        lambda: jd.preprocessing.target_encoder().fit(matrix, labels),
        lambda: jd.datasets.split(matrix),
        lambda: jd.datasets.split(np.eye(4), stratify=matrix),
        lambda: model.apply(params, state, matrix),
    ):
        with pytest.raises(
            TypeError, match=r"must be an array of numbers, got a sparse .*\.toarray\(\)"
        ):
            call()
    with pytest.raises(TypeError, match=r"got a sparse matrix, .*\.todense\(\)"):
        as_array("x", jax.experimental.sparse.BCOO.fromdense(jnp.eye(3)))


def test_a_row_of_a_frame_says_how_it_is_given():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [31.0, 40.0], "city": ["Rome", "Oslo"]})
    with pytest.raises(TypeError, match=r"frame\.iloc\[\[i\]\], or a dict, row\.to_dict\(\)"):
        as_array("x", frame.iloc[0])
    with pytest.raises(TypeError, match="finds out what its columns are"):
        as_array("x", frame["city"])


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow", "list"])
def test_whole_numbers_beside_missing_ones_keep_their_differences_or_are_refused(container):
    ids = [2**60, 2**60 + 1, None]
    if container == "list":
        columns = [[ids[0], ids[1], math.nan]]
        wide = [2**60, 1, math.nan]
    else:
        library = pytest.importorskip(container)
        make = {
            "pandas": lambda values: library.DataFrame({"a": values}, dtype="Int64"),
            "polars": lambda values: library.DataFrame({"a": values}),
            "pyarrow": lambda values: library.table({"a": values}),
        }[container]
        series = {"pandas": lambda: make(ids)["a"], "polars": lambda: make(ids)["a"]}
        columns = [make(ids), series.get(container, lambda: library.array(ids))()]
        wide = make([2**60, 1, None])
    for column in columns:
        with pytest.raises(
            ValueError, match=rf"x holds numbers from {2**60} .*float64 .*missing values"
        ):
            as_array("x", column)
    assert np.ravel(as_array("x", wide)).tolist()[:2] == [2.0**60, 1.0]
