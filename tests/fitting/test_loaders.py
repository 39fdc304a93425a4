"""Batches of other libraries: dicts taken apart, loaders with a state put back, what to write."""

import collections
import enum
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import KEY, X, Y, close, fit, identical, same

import jaxdeep as jd
from jaxdeep.fitting.loaders import from_json, to_json

ROWS = {"image": np.asarray(X), "label": np.asarray(Y)}
PAIR = lambda batch: (batch["image"], batch["label"])  # noqa: E731
MODEL = jd.nn.dense(2)
SMALL = {"model": MODEL, "metrics": None, "validation": None, "epochs": 2, "batch_size": 20}
TRAINED = MODEL.init(KEY, X[:1])


def dicts(epoch=0, size=20):
    order = np.random.default_rng(epoch).permutation(len(X))
    for rows in np.split(order, len(X) // size):
        yield {name: array[rows] for name, array in ROWS.items()}


def pairs(epoch=0, size=20):
    return map(PAIR, dicts(epoch, size))


class Tensor:
    """An array as those of TensorFlow are: NumPy makes one of it, and it says its shape."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype.name

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class TfData:
    """As a `tf.data.Dataset`: iterated over anew for every epoch, in dicts of tensors."""

    def __iter__(self):
        return ({name: Tensor(array) for name, array in batch.items()} for batch in dicts())


# --- dicts ------------------------------------------------------------------------------------------


def test_dicts_are_trained_on_as_pairs_are():
    expected = fit(**SMALL, data=pairs)
    same(fit(**SMALL, data=dicts, batch=PAIR), expected)


def test_tensors_that_are_iterated_over_again_and_validation_batches():
    expected = fit(**SMALL | {"validation": lambda epoch: pairs()}, data=lambda epoch: pairs())
    same(fit(**SMALL | {"validation": TfData()}, data=TfData(), batch=PAIR), expected)
    arrays = fit(**SMALL | {"validation": (X, Y)}, data=TfData(), batch=PAIR)
    identical(arrays.params, expected.params)
    close(arrays.history, expected.history)  # the rows of validation are in another order


def test_evaluate_and_predict_take_them_too():
    loss = {"loss": jd.losses.softmax_cross_entropy}
    found = jd.evaluate(MODEL, *TRAINED, TfData(), batch=PAIR, **loss)
    order = np.random.default_rng(0).permutation(len(X))
    close(found, jd.evaluate(MODEL, *TRAINED, (X[order], Y[order]), **loss))
    outputs = jd.predict(MODEL, *TRAINED, TfData(), batch=lambda batch: batch["image"])
    identical(outputs, jd.predict(MODEL, *TRAINED, X[order]))
    result = fit(**SMALL)
    classes = result.predict(dicts(), batch=lambda batch: batch["image"], output="class")
    identical(classes, result.predict(X[order], output="class"))
    assert result.evaluate(dicts(), batch=PAIR)["loss"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": dicts},
            r"data must give pairs \(x, y\) or \(x, y, weights\), got a dict of 'image', 'label': say "
            r"which are which, batch=lambda b: \(b\['image'\], b\['label'\]\)",
        ),
        (
            {"data": dicts, "batch": lambda batch: (batch["img"], batch["label"])},
            r"batch=.* failed with KeyError: 'img', for a batch of data, a dict of 'image', 'label'",
        ),
        (
            {"data": dicts, "batch": lambda batch: batch["image"]},
            r"what batch=.* returns must be a pair \(x, y\) or \(x, y, weights\), got ndarray",
        ),
        ({"data": dicts, "batch": lambda batch: None}, "what batch=.* returns must be .*, got NoneType"),
        (
            {"data": dicts, "batch": lambda batch: (*PAIR(batch), *PAIR(batch))},
            r"what batch=.* returns must be a pair \(x, y\) or \(x, y, weights\), got tuple of 4$",
        ),
        (
            {"data": dicts, "batch": lambda batch: [batch["image"]]},
            r"what batch=.* returns must be a pair .*, got list of 1$",
        ),
        (
            {"data": dicts, "batch": lambda batch: (batch["image"], None)},
            r"data\[1\], the labels, must be arrays, got None: give pairs \(x, y\), which of the "
            r"batches of a loader batch= makes \(labels must be",
        ),
        (
            {"data": dicts, "batch": lambda batch, epoch: PAIR(batch)},
            "batch must be a function batch -> values, got .*; it is called with one argument$",
        ),
        ({"data": (X, Y), "batch": PAIR}, "batch=.* takes the batches of a loader apart, and the data"),
        ({"data": dicts, "batch": 3}, "batch must be a function batch -> values, got 3"),
    ],
)
def test_what_is_not_taken_is_refused_with_what_to_write(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(**SMALL | changes)


def test_a_loss_of_outputs_alone_takes_no_labels():
    changes = {"data": dicts, "batch": lambda batch: (batch["image"], None)}
    result = fit(**SMALL | changes | {"loss": lambda outputs, y: jnp.mean(outputs**2, -1)})
    assert np.isfinite(result.history["loss"]).all()


def test_evaluate_and_predict_refuse_to_take_arrays_apart():
    with pytest.raises(ValueError, match=r"batch=.* takes the batches of a loader apart"):
        jd.evaluate(MODEL, *TRAINED, (X, Y), loss=jd.losses.mse, batch=PAIR)
    with pytest.raises(ValueError, match=r"batch=.* takes the batches of a loader apart"):
        jd.predict(MODEL, *TRAINED, X, batch=PAIR)
    with pytest.raises(
        TypeError, match=r"what batch=.* returns must be a batch of arrays, got NoneType"
    ):
        jd.predict(MODEL, *TRAINED, TfData(), batch=lambda batch: None)


def test_an_objective_of_dicts_needs_no_pairs():
    def objective(params, state, batch, *, key=None, train=False):
        outputs, state = MODEL.apply(params, state, batch["image"], train=train, key=key)
        return jnp.mean(jd.losses.softmax_cross_entropy(outputs, batch["label"])), (state, {})

    given = {"loss": None, "objective": objective, "params": TRAINED[0], "data": dicts}
    close(fit(**SMALL | given).params, fit(**SMALL, data=pairs, params=TRAINED[0]).params)


# --- data sets of Hugging Face ----------------------------------------------------------------------


def of_hugging_face(kind, *bases, **fields):
    fields = {"with_format": lambda self, kind: self, "__module__": "datasets.arrow_dataset", **fields}
    return type(kind, bases, fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: fit(**SMALL, data=made), "data=lambda epoch: dataset.shuffle(seed=epoch)"),
        (lambda made: fit(**SMALL | {"data": made, "validation": 0.2}), "data=lambda epoch: dataset."),
        (
            lambda made: fit(**SMALL | {"validation": made}),
            "validation=lambda epoch: dataset.with_format",
        ),
        (lambda made: jd.evaluate(MODEL, *TRAINED, made, loss=jd.losses.mse), "b['image'], b['label'])"),
        (lambda made: jd.predict(MODEL, *TRAINED, made), "x=lambda epoch: dataset.with_format('numpy')"),
        (lambda made: jd.predict(MODEL, *TRAINED, made), "batch=lambda b: b['image']"),
    ],
)
def test_data_sets_of_hugging_face_are_told_what_to_write(call, message):
    made = of_hugging_face("Dataset", shape=(3, 2), column_names=["image", "label"], __len__=lambda _: 3)
    with pytest.raises(TypeError, match=re.escape(message)):
        call(made())


def test_their_streams_and_dicts_of_splits_too():
    stream = of_hugging_face("IterableDataset", __iter__=lambda self: iter(()))()
    with pytest.raises(TypeError, match=r"datasets.IterableDataset, .*b\['x'\], b\['y'\]"):
        fit(**SMALL, data=stream)
    splits = of_hugging_face("DatasetDict", dict)({"train": 0, "test": 0})
    with pytest.raises(
        TypeError, match=r"datasets\.DatasetDict of 'train', 'test': give batches of one"
    ):
        fit(**SMALL, data=splits)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_real_ones_train_as_arrays_do_and_go_on(tmp_path):
    pytest.importorskip("datasets.arrow_dataset")  # tests/datasets is called datasets, too
    datasets = importlib.import_module("datasets")
    dataset = datasets.Dataset.from_dict(ROWS)
    for refused in (dataset, datasets.DatasetDict(train=dataset), dataset.to_iterable_dataset()):
        with pytest.raises(TypeError, match="give"):
            fit(**SMALL, data=refused)
    batches = lambda epoch: (  # noqa: E731
        dataset.shuffle(seed=epoch).with_format("numpy").iter(batch_size=20)
    )
    whole = fit(**SMALL, data=batches, batch=PAIR)
    fit(**SMALL | {"epochs": 1}, data=batches, batch=PAIR, checkpoint=tmp_path)
    same(fit(**SMALL, data=batches, batch=PAIR, checkpoint=tmp_path), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tf_data_trains_as_arrays_do_and_goes_on(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def batches(epoch=0):
        return tf.data.Dataset.from_tensor_slices(ROWS).shuffle(100, seed=epoch).batch(20)

    in_order = fit(**SMALL, data=(X, Y), shuffle=False)
    plain = tf.data.Dataset.from_tensor_slices(ROWS).batch(20)
    close(fit(**SMALL, data=plain, batch=PAIR).params, in_order.params)
    whole = fit(**SMALL, data=batches, batch=PAIR)
    fit(**SMALL | {"epochs": 1}, data=batches, batch=PAIR, checkpoint=tmp_path)
    same(fit(**SMALL, data=batches, batch=PAIR, checkpoint=tmp_path), whole)


@pytest.mark.heavy
def test_grain_in_dicts(tmp_path):
    grain = pytest.importorskip("grain")
    rows = [{name: array[i] for name, array in ROWS.items()} for i in range(len(X))]

    def loader():
        return grain.MapDataset.source(rows).seed(0).shuffle().repeat().to_iter_dataset().batch(20)

    how = {**SMALL, "steps_per_epoch": 5, "batch": PAIR}
    whole = fit(**how, data=loader())
    fit(**how | {"epochs": 1}, data=loader(), checkpoint=tmp_path)
    same(fit(**how, data=loader(), checkpoint=tmp_path), whole)


# --- loaders with a state ---------------------------------------------------------------------------


class StatefulLoader:
    """As torchdata's `StatefulDataLoader`: in another order each epoch, from a generator it keeps."""

    def __init__(self, seed=0):
        self.random, self.at, self.next = np.random.default_rng(seed), 0, None
        self.batches = 0  # that were made

    def __iter__(self):
        self.at, begun = 0, None
        if self.next is not None:
            (self.at, begun), self.next = self.next, None
            self.random.bit_generator.state = begun
            if self.at == 5:
                self.random.permutation(len(X))  # that of the epoch that is done
                self.at = 0
        self.begun = self.random.bit_generator.state
        order = self.random.permutation(len(X)).reshape(5, 20)
        while self.at < 5:
            self.at, self.batches = self.at + 1, self.batches + 1
            yield tuple(array[order[self.at - 1]] for array in ROWS.values())

    def state_dict(self):
        begun = self.begun["state"]["state"].to_bytes(16, "little")
        other = {name: value for name, value in self.begun.items() if name != "state"}
        inc = self.begun["state"]["inc"].to_bytes(16, "little")
        return {"at": (self.at,), "begun": np.frombuffer(begun, np.uint8), "inc": inc, 0: other}

    def load_state_dict(self, state):
        (at,), begun = state["at"], state["begun"].tobytes()
        words = {"state": int.from_bytes(begun, "little"), "inc": int.from_bytes(state["inc"], "little")}
        self.next = at, {**state[0], "state": words}


@pytest.mark.few(1)
@pytest.mark.parametrize("steps", [None, 3])
def test_a_loader_with_a_state_goes_on_where_it_was(tmp_path, steps):
    how = {**SMALL, "epochs": 4, "steps_per_epoch": steps}
    whole = fit(**how | {"validation": StatefulLoader(7)}, data=StatefulLoader())
    begun = {"epochs": 3, "validation": StatefulLoader(7)}
    fit(**how | begun, data=StatefulLoader(), checkpoint=tmp_path)
    loader = StatefulLoader(1)  # of another seed: what it draws is in the checkpoint
    found = fit(**how | {"validation": StatefulLoader(2)}, data=loader, checkpoint=tmp_path)
    same(found, whole)
    assert loader.batches <= 2 + (steps or 5)  # it was not passed over again


class StatefulIterator:
    """An endless iterator, as Grain's, with a state of all that JSON does not have."""

    def __init__(self):
        self.seed = {0: (np.int64(0), b"\x00\xff"), "drawn": np.zeros(2, np.int16)}

    def __iter__(self):
        return self

    def __next__(self):
        at, _ = self.seed[0]  # a KeyError if 0 has become "0"
        self.seed = {0: (at + 1, b"\x00\xff"), "drawn": self.seed["drawn"] + 1}
        wanted = isinstance(self.seed[0], tuple), self.seed["drawn"].dtype == np.int16
        rows = np.random.default_rng([int(at), *wanted]).integers(0, len(X), 20)
        return tuple(array[rows] for array in ROWS.values())

    def get_state(self):
        return self.seed

    def set_state(self, state):
        assert type(state[0]) is tuple
        assert type(state[0][0]) is np.int64
        self.seed = state


def test_the_state_of_an_iterator_is_kept_as_that_of_a_loader_is(tmp_path):
    how = {**SMALL, "steps_per_epoch": 3}
    whole = fit(**how, data=StatefulIterator())
    fit(**how | {"epochs": 1}, data=StatefulIterator(), checkpoint=tmp_path)
    same(fit(**how, data=StatefulIterator(), checkpoint=tmp_path), whole)


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        ({"state": {"at": 6}, "last": 1}, {"at": 6}),
        ({"bytes": "00ff06"}, b"\x00\xff\x06"),
        ({"iterator": {"dict": [["at", 6]]}}, {"at": 6}),
    ],
)
def test_an_iterator_is_put_where_earlier_versions_left_it(kept, given):
    found = []

    class Watched(StatefulIterator):
        set_state = staticmethod(found.append)

    from jaxdeep.fitting.loader_source import LoaderSource

    options = {"steps_per_epoch": 3, "checkpoint": "there", "batch": None, "steps_per_call": None}
    source = LoaderSource(Watched(), "data", options | {"epochs": 2}, pairs=True)
    source.go_to({"taken": 6, **kept})
    assert found == [given]


@pytest.mark.parametrize("by", ["state_dict", "get_state"])
def test_a_state_that_cannot_be_kept_is_refused_before_the_run(tmp_path, by):
    loader = StatefulLoader() if by == "state_dict" else StatefulIterator()
    setattr(loader, by, lambda: {"sampler": object()})
    how = {**SMALL, "steps_per_epoch": 3}
    fit(**how, data=loader)
    with pytest.raises(TypeError, match=r"data has a state with a builtins\.object in it"):
        fit(**how, data=loader, checkpoint=tmp_path)


class Phase(enum.IntEnum):
    FIRST = 1


class Name(str):
    pass


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (collections.namedtuple("Place", "row")(1), "test_loaders.Place"),
        (collections.deque([1]), "collections.deque"),
        (Phase.FIRST, "test_loaders.Phase"),
        (Name("a"), "test_loaders.Name"),
        (np.str_("a"), "numpy.str_"),
        (np.ma.masked_array([1, 2], [True, False]), "numpy.ma.*MaskedArray"),
    ],
)
@pytest.mark.parametrize("within", [lambda part: [part], lambda part: {"at": (part,)}])
def test_what_would_come_back_as_another_type_is_refused(part, kind, within):
    with pytest.raises(TypeError, match=f"^data has a state with a .*{kind} in it, which checkpoint="):
        to_json(within(part), "data")


@pytest.mark.slow
def test_tensors_that_numpy_cannot_hold_are_refused_by_name():
    torch = pytest.importorskip("torch")
    with pytest.raises(
        TypeError, match=r"data has a state with a torch\.Tensor of torch\.bfloat16 in it"
    ):
        to_json({"seen": torch.zeros(2, dtype=torch.bfloat16)}, "data")
    with pytest.raises(
        TypeError, match=r"a torch\.Tensor of torch\.float32 that requires a gradient in"
    ):
        to_json({"seen": torch.zeros(2, requires_grad=True)}, "data")


def test_states_that_hold_themselves_or_nest_without_end_are_refused():
    import json

    cyclic = {"list": []}
    cyclic["list"] += [cyclic, cyclic]
    deep, kept = [], {}
    for _ in range(2000):
        deep = [deep]
    for _ in range(100):
        kept = {1: kept}
    for state in (cyclic, deep, {1: kept}):
        with pytest.raises(
            ValueError, match=r"^data has a state that nests more than 100 deep, or holds"
        ):
            to_json(state, "data")
    assert from_json(json.loads(json.dumps(to_json(kept, "data")))) == kept


def test_states_come_back_from_json_as_they_were():
    import json

    state = {
        "none": None,
        3: [True, (1.5, "text", b"\x00\xff"), []],
        "nested": {"bytes": {"dict": 1}, "array": np.arange(6, dtype=">i2").reshape(2, 3)},
        "scalar": np.float32(0.1),
        np.int64(2): [np.float64(0.1), np.bool_(True), 0.1, float("inf"), 2**100],
    }
    found = from_json(json.loads(json.dumps(to_json(state, "data"))))
    assert found.keys() == state.keys()
    assert found[3] == state[3]
    assert found["nested"]["bytes"] == {"dict": 1}
    np.testing.assert_array_equal(found["nested"]["array"], state["nested"]["array"])
    assert found["scalar"] == np.float32(0.1)
    assert found[2] == state[2]
    scalars = [found["scalar"], *found[2], *(key for key in found if key == 2)]
    assert [*map(type, scalars)] == [np.float32, np.float64, np.bool_, float, float, int, np.int64]
    jax.tree.map(np.testing.assert_array_equal, found["nested"], state["nested"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize(
    ("workers", "by", "seed"), [(0, "sampler", 1), (0, "generator", 0), (2, "generator", 1)]
)
def test_torchdata_goes_on_where_it_was(tmp_path, workers, by, seed, steps):
    """From the state in the checkpoint, where it brings the loader back, else from the seed."""
    torch = pytest.importorskip("torch")
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    rows = [{name: array[i] for name, array in ROWS.items()} for i in range(len(X))]

    def loader(seed=0):
        how = {"num_workers": workers, "multiprocessing_context": "spawn" if workers else None}
        random = torch.Generator().manual_seed(seed)
        if by == "sampler":
            how["sampler"] = stateful.sampler.RandomSampler(rows, generator=random)
        else:
            how |= {"shuffle": True, "generator": random}
        return stateful.StatefulDataLoader(rows, 20, **how)

    how = {**SMALL, "epochs": 4, "steps_per_epoch": steps, "batch": PAIR}
    whole = fit(**how, data=loader())
    fit(**how | {"epochs": 3}, data=loader(), checkpoint=tmp_path)
    same(fit(**how, data=loader(seed), checkpoint=tmp_path), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_plain_torch_loaders_in_dicts_and_in_bfloat16(tmp_path):
    torch = pytest.importorskip("torch")
    rows = [
        {"image": torch.tensor(ROWS["image"][i]).bfloat16(), "label": ROWS["label"][i]}
        for i in range(len(X))
    ]

    def loader():
        seeded = torch.Generator().manual_seed(0)
        return torch.utils.data.DataLoader(rows, 20, shuffle=True, generator=seeded)

    how = {**SMALL, "epochs": 3, "batch": PAIR}
    whole = fit(**how, data=loader())
    fit(**how | {"epochs": 2}, data=loader(), checkpoint=tmp_path)
    same(fit(**how, data=loader(), checkpoint=tmp_path), whole)
    narrow = fit(**SMALL, data=(X.astype(jnp.bfloat16), Y), shuffle=False)
    in_order = torch.utils.data.DataLoader(rows, 20)
    close(fit(**SMALL, data=in_order, batch=PAIR).params, narrow.params)


@pytest.mark.few(1)
@pytest.mark.parametrize(("first", "later"), [("int32", "int8"), ("int8", "int64"), ("int64", "uint8")])
def test_labels_of_another_width_are_those_of_the_first(first, later):
    x, y = np.asarray(X[:24]), np.asarray(Y[:24]) % 2

    options = {"model": jd.nn.dense(2), "loss": jd.losses.softmax_cross_entropy, "epochs": 1, "key": KEY}
    options |= {"optimizer": jd.optimizers.sgd(0.1), "progress": False}

    def run(*kinds):
        batches = [(x[:12], y[:12].astype(kinds[0])), (x[12:], y[12:].astype(kinds[1]))]
        return jd.fit(data=lambda epoch: batches, **options).history["loss"]

    np.testing.assert_array_equal(run(first, later), run(first, first))
    large = [(x[:12], y[:12].astype("int8")), (x[12:], y[12:].astype("int32") + 300)]
    with pytest.raises(ValueError, match="must be in every batch as in the first, int8"):
        jd.fit(data=lambda epoch: large, **options)
