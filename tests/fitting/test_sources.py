"""Data from the host: the same numbers as from the device, whatever the blocks; iterables of batches."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compilations import work
from helpers.properties import over
from helpers.runs import KEY, MODEL, X, Y, close, fit, identical, same

import jaxdeep as jd
from jaxdeep import _compilation

ROWS = np.asarray(X), np.asarray(Y)


def shuffled_batches(epoch, size=16):
    order = np.random.default_rng(epoch).permutation(len(X))
    for rows in np.split(order, range(size, len(X), size)):
        yield tuple(a[rows] for a in ROWS)


class Numbered:
    """An endless iterator that can say where it is and be put back, as Grain's."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        rows = np.random.default_rng(self.at).integers(0, len(X), 16)
        return tuple(a[rows] for a in ROWS)

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.mark.optimized
@pytest.mark.heavy
@pytest.mark.parametrize("block_bytes", [1, 700, 2**20])
def test_streamed_rows_give_the_bits_of_rows_on_the_device(block_bytes):
    stopping = jd.train.EarlyStopping(patience=2)
    shared = {"early_stopping": stopping, "validate_every": 2, "epochs": 4}
    same(fit(stream=True, block_bytes=block_bytes, **shared), fit(**shared))


@pytest.mark.heavy
def test_memory_maps_are_streamed(tmp_path, monkeypatch):
    for name, array in zip("xy", ROWS):
        np.save(tmp_path / name, array)
    maps = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    same(fit(data=maps, validation=maps, drop_remainder=True), fit(drop_remainder=True))
    monkeypatch.setattr("jaxdeep.fitting.drive._on_device", None)
    fit(data=maps, epochs=1)
    with pytest.raises(TypeError, match="NoneType"):
        fit(epochs=1)


@pytest.mark.heavy
def test_a_function_of_the_epoch_gives_its_batches(tmp_path):
    whole = fit(data=shuffled_batches)
    step = jax.jit(jd.train.make_step(objective(), jd.optimizers.adam(0.01)))
    ts = jd.train.init(MODEL, jd.optimizers.adam(0.01), X[:1], key=KEY)
    for epoch in range(5):
        for batch in shuffled_batches(epoch):
            ts, _ = step(ts, batch)
    close(whole.train_state, ts)
    fit(data=shuffled_batches, epochs=2, checkpoint=tmp_path)
    same(fit(data=shuffled_batches, checkpoint=tmp_path), whole)


def objective():
    return jd.train.supervised(MODEL, jd.losses.softmax_cross_entropy)


@pytest.mark.heavy
def test_batches_may_be_iterated_over_again_or_go_on(tmp_path):
    batches = list(shuffled_batches(0))

    class Loader:
        def __iter__(self):
            return iter(batches)

    again = fit(data=Loader(), validation=Loader(), epochs=3)
    endless = fit(data=itertools.cycle(batches), epochs=3, steps_per_epoch=7)
    identical(again.params, endless.params)
    fit(data=itertools.cycle(batches), epochs=2, steps_per_epoch=7, checkpoint=tmp_path)
    same(fit(data=Loader(), epochs=3, steps_per_epoch=7, checkpoint=tmp_path), endless)


@pytest.mark.heavy
def test_an_iterator_with_a_state_is_put_back(tmp_path):
    whole = fit(data=Numbered(), steps_per_epoch=4)
    fit(data=Numbered(), steps_per_epoch=4, epochs=2, checkpoint=tmp_path)
    same(fit(data=Numbered(), steps_per_epoch=4, checkpoint=tmp_path), whole)


@pytest.mark.heavy
def test_grain_loaders_go_on_where_they_were(tmp_path):
    grain = pytest.importorskip("grain")

    def loader():
        rows = grain.MapDataset.source(list(zip(*ROWS))).seed(0).shuffle().repeat()
        return rows.to_iter_dataset().batch(16)

    whole = fit(data=loader(), steps_per_epoch=7)
    fit(data=loader(), steps_per_epoch=7, epochs=3, checkpoint=tmp_path)
    same(fit(data=loader(), steps_per_epoch=7, checkpoint=tmp_path), whole)


@pytest.mark.heavy
def test_convolutions_that_are_slow_in_loops_are_dispatched_with_the_same_numbers(monkeypatch):
    x = X.reshape(100, 2, 1, 2)
    conv = jd.nn.conv(4, (50, 1), groups=2, activation=jax.nn.relu)  # more places than a product takes
    model = jd.nn.serial(conv, jd.nn.flatten(), jd.nn.dense(2))
    monkeypatch.setattr("jaxdeep.fitting.drive._on_device", None)
    result = fit(model=model, data=(x, Y), validation=(x, Y), epochs=2)
    optimizer = jd.optimizers.adam(0.01)
    run = jd.train.make_run(
        jd.train.supervised(
            model, jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}
        ),
        optimizer,
        epochs=2,
        batch_size=16,
    )
    ts, history = jax.jit(run)(jd.train.init(model, optimizer, x[:1], key=KEY), (x, Y), (x, Y))
    close(result.train_state, ts)
    close(result.history, history)


ARGUMENTS = {"metrics": None, "validation": None, "epochs": 2, "model": jd.nn.dense(2)}


def in_order(size=16):
    return lambda epoch: (
        tuple(a[rows] for a in ROWS) for rows in np.split(np.arange(len(X)), range(size, len(X), size))
    )


def fit_loader(data, **changes):
    # without a batch_size, which is the loader's to decide
    arguments = {"loss": jd.losses.softmax_cross_entropy, "optimizer": jd.optimizers.adam(0.01)}
    arguments |= {"epochs": 2, "key": KEY, "progress": False} | changes
    return jd.fit(arguments.pop("model", jd.nn.dense(2)), data, **arguments)


def fit_rows(**changes):
    return fit(batch_size=16, shuffle=False, **(ARGUMENTS | changes))


@pytest.mark.heavy
def test_a_loader_of_small_batches_gives_what_rows_give():
    close(fit_loader(in_order()).history, fit_rows().history)
    loader = torch_loader()
    assert fit_loader(loader).history["loss"].shape == (2,)


def torch_loader(**changes):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(*(torch.tensor(a) for a in ROWS))
    return torch.utils.data.DataLoader(data, batch_size=16, **changes)


@pytest.mark.heavy
@pytest.mark.parametrize("place", [0, 2, 7])
def test_batches_without_rows_are_left_out(place):
    def batches(epoch):
        made = list(in_order()(epoch))
        return [*made[:place], tuple(a[:0] for a in ROWS), *made[place:]]

    whole, other = fit_loader(in_order(), validation=ROWS), fit_loader(batches, validation=batches)
    close(other.history, whole.history)


@pytest.mark.heavy
def test_an_odd_batch_on_a_mesh_is_computed_as_on_one_device():
    mesh = jax.make_mesh((8,), ("data",))
    whole = fit_loader(in_order(), validation=ROWS)  # 100 rows, the last batch has 4
    spread = fit_loader(in_order(), validation=in_order(30), mesh=mesh)
    close(spread.history, whole.history)


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", ["torch", "lists", "pandas", "h5py", "masked"])
def test_whatever_is_an_array_is_taken(kind, tmp_path):
    whole = fit_rows(data=ROWS)
    x, y = ROWS
    if kind == "torch":
        torch = pytest.importorskip("torch")
        data = torch.tensor(x), torch.tensor(y)
    elif kind == "lists":
        data = [x.tolist(), y.tolist()]
    elif kind == "pandas":
        pandas = pytest.importorskip("pandas")
        data = pandas.DataFrame(x), pandas.Series(y)
    elif kind == "masked":
        data = np.ma.masked_greater(x, 1e9), y
    else:
        file = pytest.importorskip("h5py").File(tmp_path / "data.h5", "w")
        file["x"], file["y"] = x, y
        data = file["x"], file["y"]
    same(fit_rows(data=data), whole)


class Shuffling:
    """Begins each epoch in another order, drawn from a generator of its own."""

    def __init__(self, seed=0):
        self.draw, self.begun = np.random.default_rng(seed), 0

    def __iter__(self):
        self.begun += 1
        order = self.draw.permutation(len(X))
        return (tuple(a[rows] for a in ROWS) for rows in np.split(order, 4))


@pytest.mark.heavy
def test_each_epoch_begins_its_loader_once():
    data, validation = Shuffling(), Shuffling()
    fit_loader(data, validation=validation, epochs=3)
    assert (data.begun, validation.begun) == (3, 3)


class Orders:
    """Batches in an order of its own for every pass, the first batch always the same one."""

    def __init__(self, fixed, seed=0):
        self.fixed, self.orders = fixed, np.random.default_rng(seed)

    def __iter__(self):
        rest = self.fixed + self.orders.permutation(48 - self.fixed)
        order = np.concatenate([np.arange(self.fixed), rest])
        return iter([tuple(a[rows] for a in ROWS) for rows in np.split(order, 3)])


@pytest.mark.heavy
@pytest.mark.parametrize("fixed", [16, 32])
def test_every_batch_counts_for_the_order_that_a_run_goes_on_with(fixed, tmp_path):
    whole = fit(data=Orders(fixed), epochs=3)
    fit(data=Orders(fixed), epochs=2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"gives other batches .*epoch 1 had others"):
        fit(data=Orders(fixed, seed=1), epochs=3, checkpoint=tmp_path)
    same(fit(data=Orders(fixed), epochs=3, checkpoint=tmp_path), whole)


@pytest.mark.heavy
def test_a_loader_may_make_its_batches_in_the_same_memory():
    def batches(epoch):
        room = tuple(np.empty_like(a[:16]) for a in ROWS)
        for first in range(0, 48, 16):
            for a, b in zip(room, ROWS):
                a[:] = b[first : first + 16]
            yield room

    same(
        fit(data=batches), fit(data=lambda epoch: [tuple(np.copy(a) for a in b) for b in batches(epoch)])
    )


@pytest.mark.heavy
def test_other_byte_orders_and_frames_of_several_kinds_are_the_numbers_they_hold():
    pandas = pytest.importorskip("pandas")
    x, y = ROWS
    usual = fit(epochs=1)
    same(fit(data=(x.astype(">f4"), y.astype(">i4")), epochs=1), usual)
    same(fit(data=(x.astype(np.longdouble), y), epochs=1), usual)
    frame = pandas.DataFrame(x).astype("Float32")
    same(fit(data=(frame, pandas.Series(y).astype("Int64")), epochs=1), usual)
    frame.iloc[0, 0] = pandas.NA
    with pytest.raises(TypeError, match=r"data\[0\] must be an array of numbers"):
        fit(data=(frame, y), epochs=1)


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.parametrize("kind", ["own", "torch"])
def test_a_loader_that_shuffles_itself_goes_on_with_its_batches(kind, tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def loader():
        if kind == "own":
            return Shuffling()
        torch = pytest.importorskip("torch")
        return torch_loader(shuffle=True, generator=torch.Generator().manual_seed(0))

    whole = fit_loader(loader(), validation=loader(), epochs=4)
    for epochs in (1, 3):
        fit_loader(loader(), validation=loader(), epochs=epochs, checkpoint=tmp_path)
    same(fit_loader(loader(), validation=loader(), epochs=4, checkpoint=tmp_path), whole)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["iterable", "function", "iterator"])
def test_a_loader_that_gives_other_batches_is_refused(kind, tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def loader(seed):
        made = Shuffling(seed)
        return {
            "iterable": made,
            "function": lambda epoch: iter(made),
            "iterator": (batch for _ in range(9) for batch in made),
        }[kind]

    steps = {"steps_per_epoch": 4} if kind == "iterator" else {}
    fit_loader(loader(0), checkpoint=tmp_path, **steps)
    with pytest.raises(ValueError, match=r"data gives other batches than in the run .* a seed"):
        fit_loader(loader(1), epochs=3, checkpoint=tmp_path, **steps)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float16), y), r"data\[0\] must be in every batch as .* got float16"),
        (lambda x, y: (x, y[:, None]), r"data\[1\] must be in every batch as in the first"),
        (lambda x, y: (x, y, np.ones(len(y))), "every batch of data must have the parts of the first"),
        (lambda x, y: (x, y[1:]), "a batch of data must have the same number of rows"),
        (
            lambda x, y: (x, y.astype(np.int64) + 2**32),
            r"data\[1\] holds 42949672.., which needs more than 32 bits",
        ),
        (lambda x, y: (x, None), r"every batch of data must have the parts of the first"),
    ],
)
def test_a_later_batch_unlike_the_first_is_refused(change, message):
    def batches(epoch):
        return [ROWS, change(*ROWS)]

    with pytest.raises(ValueError, match=message):
        fit_loader(batches)


def test_a_later_batch_whose_examples_have_another_shape_is_tried_out_by_name():
    def batches(epoch):
        return [ROWS, ROWS, (np.ones((8, 5), np.float32), ROWS[1][:8])]

    of_any = jd.train.supervised(jd.nn.dense(2), jd.losses.softmax_cross_entropy)
    for changes in ({}, {"loss": None, "objective": of_any}):
        with pytest.raises(ValueError, match=r"^batch 2 of data: "):
            fit_loader(batches, **changes)


@pytest.mark.heavy
def test_examples_of_several_shapes_are_trained_on_where_the_model_takes_them():
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 1)).astype(np.float32)
    model = jd.nn.serial(jd.nn.conv(2, (3, 3)), jd.nn.global_average_pool(), jd.nn.dense(2))
    batches = [(x, np.arange(32) % 2), (x[:, :4], np.arange(32) % 2)]
    result = jd.fit(
        model,
        lambda epoch: batches,
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        epochs=2,
        key=KEY,
        progress=False,
    )
    assert np.isfinite(result.history["loss"]).all()


class Rewinding:
    """An iterator of its own batches that begins anew whenever it is iterated over."""

    def __iter__(self):
        self.batches = list(in_order()(0))
        return self

    def __next__(self):
        if not self.batches:
            raise StopIteration
        return self.batches.pop(0)


@pytest.mark.heavy
def test_an_iterator_that_rewinds_is_iterated_over_again(tmp_path):
    whole = fit_loader(Rewinding(), validation=Rewinding(), epochs=3)
    same(fit_loader(in_order(), validation=in_order(), epochs=3), whole)
    fit_loader(Rewinding(), epochs=2, checkpoint=tmp_path)
    identical(fit_loader(Rewinding(), epochs=3, checkpoint=tmp_path).params, whole.params)


@pytest.mark.parametrize("name", ["data", "validation"])
def test_what_ends_once_is_refused_before_the_first_step(name):
    with pytest.raises(ValueError, match=f"{name} is a generator, which ends once, and epochs=2"):
        fit_loader(**{"data": in_order(), name: in_order()(0)})


class Once:
    """An iterator of one's own, which says of itself that it is its iterator, and ends for ever."""

    def __init__(self):
        self.batches = iter(in_order()(0))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.batches)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["data", "validation"])
def test_epochs_before_an_iterator_ended_are_kept(name, tmp_path):
    """A class does not say that it ends once, which is only known after the first epoch."""
    sources = {"data": in_order(), "validation": in_order()}
    how = {"epochs": 3, "checkpoint": tmp_path, "epochs_per_call": 3}
    with pytest.raises(
        ValueError, match=rf"{name} has no batch 0 .* the Once given .* ends once; give .*checkpoint"
    ):
        fit_loader(**sources | {name: Once()}, **how)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    same(fit_loader(**sources, **how), fit_loader(**sources, epochs=3))


def test_weights_of_a_batch_that_are_not_finite_are_refused():
    ones = np.ones(len(X), np.float32)
    with pytest.raises(ValueError, match=r"data\[2\], the weights, must be finite, got nan in row 0"):
        fit_loader(lambda epoch: [(*ROWS, ones), (*ROWS, ones * np.nan)])
    with pytest.raises(
        ValueError, match=r"batch 2 of data: data\[2\], the weights, .* at least 0, got -1"
    ):
        fit_loader(lambda epoch: [(*ROWS, ones), (*ROWS, ones), (*ROWS, -ones)])
    for bad, message in ((np.nan, "finite, got nan"), (-1, "at least 0, got -1.0 in row 0")):
        with pytest.raises(ValueError, match=rf"data\[2\], the weights, must be {message}"):
            fit(data=(*ROWS, bad * ones))


@pytest.mark.heavy
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["plain", "user's"])
def test_labels_of_every_batch_are_looked_at(weighted, loss):
    softmax = jd.losses.softmax_cross_entropy
    losses = {"plain": softmax, "user's": lambda outputs, y: 2 * softmax(outputs, y)}
    x, y = ROWS
    weights = (np.ones(len(x), np.float32) - (np.arange(len(x)) == 5),) if weighted else ()
    wrong = y.copy()
    wrong[5] = 7  # of weight 0, if there are weights

    def batches(*labels):
        return lambda epoch: [(x, one, *weights) for one in labels]

    if weighted:
        fit_loader(batches(y, wrong), loss=losses[loss])
    else:
        with pytest.raises(
            ValueError, match=r"batch 2 of data: labels, data\[1\], must be in \[0, 1\], got 7"
        ):
            fit_loader(batches(y, y, wrong), loss=losses[loss])
    wrong[[5, 7]] = 1, -1
    with pytest.raises(
        ValueError, match=r"batch 1 of data: labels, data\[1\], must be in \[0, 1\], got -1"
    ):
        fit_loader(batches(y, wrong + 0 * y), loss=losses[loss])
    with pytest.raises(ValueError, match=r"batch 1 of validation: labels, validation\[1\],"):
        fit_loader(batches(y), validation=batches(y, wrong), loss=losses[loss])


@pytest.mark.heavy
def test_soft_labels_and_those_of_several_outputs_are_looked_at_in_every_batch():
    x, y = ROWS
    soft = np.eye(2, dtype=np.float32)[y]
    with pytest.raises(ValueError, match=r"batch 1 of data: .* must sum to 1"):
        fit_loader(lambda epoch: [(x, soft), (x, 0.4 * soft)], metrics={})
    model = jd.nn.parallel(a=jd.nn.dense(2), b=jd.nn.dense(1))
    loss = jd.losses.weighted(
        {"a": jd.losses.softmax_cross_entropy, "b": jd.losses.sigmoid_cross_entropy}
    )
    good, bad = ({"a": y, "b": y[:, None] * scale} for scale in (1, 2))
    with pytest.raises(
        ValueError, match=r"batch 1 of data: labels, data\[1/b\], must be in \[0, 1\], got 2"
    ):
        fit(
            model=model,
            data=lambda epoch: [(x, good), (x, bad)],
            loss=loss,
            validation=None,
            metrics={},
            batch_size=len(x),
        )


@pytest.mark.heavy
def test_labels_of_very_large_arrays_are_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr("jaxdeep.fitting.array_source._KNOWN_BYTES", 100)
    x, y = ROWS
    wrong = y.copy()
    wrong[-1] = 2
    np.save(tmp_path / "y.npy", wrong)
    for labels in (wrong, np.load(tmp_path / "y.npy", mmap_mode="r")):
        with pytest.raises(ValueError, match=r"labels, data\[1\], must be in \[0, 1\], got 2"):
            fit(data=(x, labels), validation=None)


@pytest.mark.heavy
@pytest.mark.optimized
def test_data_sets_on_file_are_read_block_by_block(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "data.h5", "w")
    file["x"], file["y"] = (np.repeat(a, 3, axis=0) for a in ROWS)
    data = file["x"], file["y"]
    arguments = {"data": data, "validation": None, "epochs": 2, "block_bytes": 700}
    whole = fit(**arguments | {"stream": False})
    most, read = [], h5py.Dataset.__getitem__

    def watched(self, rows, *args, **kwargs):
        values = read(self, rows, *args, **kwargs)
        if self.name == "/x":
            most.append(len(values))
        return values

    def refuse(self, *args, **kwargs):
        raise AssertionError("the data set was read at once")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    monkeypatch.setattr(h5py.Dataset, "__array__", refuse)
    same(fit(**arguments, stream=True), whole)
    same(
        fit(**arguments, stream=True, shuffle=False),
        fit(
            data=tuple(np.repeat(a, 3, axis=0) for a in ROWS),
            **{n: v for n, v in arguments.items() if n != "data"},
            shuffle=False,
        ),
    )
    assert 0 < max(most) < 150
    file["words"] = ["a"] * 300
    with pytest.raises(TypeError, match=r"data\[0\] must be an array of real numbers"):
        fit(data=(file["words"], file["y"]), validation=None, stream=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shuffle": True}, "shuffle=True is for arrays: data is a loader"),
        ({"drop_remainder": True}, "drop_remainder=True is for arrays"),
        ({"batch_size": 8}, "batch_size=8 is for arrays: .* whose own batches have 16 rows"),
        ({"phases": [(1,)], "epochs": 1, "batch_size": 8}, "batch_size=8 is for arrays"),
        ({"mesh": (8,), "data": in_order(30)}, "rows of a batch of data must be a multiple .* got 30"),
        ({"data": lambda epoch: None}, "data must give an iterable of batches"),
        ({"data": lambda epoch: [tuple(a[:0] for a in ROWS)]}, "data holds no batches with rows"),
    ],
)
def test_what_a_loader_decides_is_refused(changes, message):
    changes = {"data": in_order()} | changes
    if "mesh" in changes:
        changes["mesh"] = jax.make_mesh(changes["mesh"], ("data",))
    with pytest.raises((ValueError, TypeError), match=message):
        fit_loader(changes.pop("data"), **changes)


@pytest.mark.heavy
def test_phases_take_loaders():
    assert len(fit_loader(in_order(), phases=[(1,), (1,)], epochs=1).history["loss"]) == 2


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": lambda epoch: []}, "data holds no batches"),
        (
            {"data": iter([ROWS])},
            "data is a list_iterator, which ends once, and epochs=.* give steps_per_epoch=",
        ),
        ({"data": map(tuple, [ROWS])}, "data is a map, which ends once"),
        ({"data": [ROWS] * 4}, "data must be a pair .* give batches as an iterator"),
        ({"data": lambda epoch: [ROWS[0]]}, "data must be a pair"),
        (
            {"data": lambda epoch: [(ROWS[0], ROWS[1][:5])]},
            "a batch of data must have the same number of rows",
        ),
        ({"data": lambda epoch: [(ROWS[0], ROWS[1] + 7)]}, r"labels must be in \[0, 2\)"),
        ({"steps_per_epoch": 3}, "steps_per_epoch is for iterables of batches"),
        ({"data": shuffled_batches, "steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"stream": 3}, "stream must be True, False or None, got 3"),
        ({"block_bytes": 0}, "block_bytes must be at least 1"),
    ],
)
def test_wrong_data(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


def test_totals_of_a_million_batches_lose_nothing():
    from jaxdeep.train.batches import averages, none_yet, over_batches

    x = jnp.full((1_000_000, 1), 0.1)

    def step(carry, batch):
        return carry, {"loss": batch.mean()}

    _, totals = jax.jit(lambda x: over_batches(step, (), x, jnp.arange(len(x)), 1))(x)
    np.testing.assert_allclose(averages(totals)["loss"], np.float32(0.1), rtol=1e-7)
    assert np.isnan(averages(none_yet(step, (), x[:1]))["loss"])


@pytest.mark.heavy
@pytest.mark.parametrize(
    "changes", [{}, {"stream": True, "block_bytes": 700}, {"data": shuffled_batches}]
)
def test_nothing_is_traced_or_compiled_after_the_first_segment(changes):
    _compilation.forget()
    before, at = work(), []
    fit(epochs=4, callbacks=[lambda now: at.append(work() - before)], **changes)
    assert at[0] > 0
    assert at == [at[0]] * 4


# --- whatever works with arrays works with batches --------------------------------------------------


def noisy(key, batch):
    x, *others = batch
    return (x + 0.1 * jax.random.normal(key, x.shape), *others)


ON_BOTH = {
    "validation": st.sampled_from(["arrays", "batches"]),
    "weights": st.just(True),
    "class_weight": st.sampled_from([{0: 1.0, 1: 3.0}, [0.5, 2.0]]),
    "metrics": st.just(
        {
            "accuracy": jd.metrics.accuracy,
            "recall": jd.metrics.recall(class_id=1),
            "mine": lambda outputs, y: outputs[:, 0] - y,
        }
    ),
    "penalty": st.just(jd.regularizers.l2(0.01, where="*/kernel")),
    "activity": st.just(jd.regularizers.activity(jd.regularizers.l1(0.01), where="hidden")),
    "early_stopping": st.builds(
        jd.train.EarlyStopping,
        ties=st.sampled_from(["first", "last"]),
        patience=st.integers(0, 2),
        monitor=st.just("loss"),
        mode=st.sampled_from([None, "min"]),
        restore_best=st.booleans(),
        min_delta=st.sampled_from([0.0, 0.05]),
        baseline=st.sampled_from([None, 0.5]),
        start_from_epoch=st.integers(0, 2),
    ),
    "plateau": st.just(jd.train.ReduceOnPlateau(patience=1, monitor="loss", min_delta=0.1)),
    "ema": st.just(True),
    "accumulation_steps": st.sampled_from([2, 4]),
    "augment": st.just(noisy),
    "clip": st.just(True),
    "trainable": st.just("out/*"),
    "freeze_batch_norm": st.booleans(),
    "validate_every": st.integers(2, 3),
    "epochs_per_call": st.integers(2, 3),
    "on_nonfinite": st.sampled_from(["skip", "stop", "ignore"]),
    "broken": st.just(True),
    "diagnostics": st.integers(1, 4),
    "stream": st.booleans(),
    "params": st.just(True),
    "steps_per_epoch": st.just(True),
}


def taken_by_both(options):
    """Options that go together, with the data as arrays and as batches in the arrays' order."""
    options = dict(options)
    x, y = ROWS
    if options.pop("broken", False):
        x = x.copy()
        x[37] = np.nan
        options.setdefault("on_nonfinite", "skip")
    rows = (x, y, np.linspace(0, 2, len(x), dtype=np.float32)) if options.pop("weights", 0) else (x, y)
    size = 20

    def batches(*_):
        return [tuple(a[i : i + size] for a in rows) for i in range(0, len(x), size)]

    optimizer = [jd.optimizers.clip_by_global_norm(0.5)] if options.pop("clip", False) else []
    optimizer.append(jd.optimizers.adam(0.01))
    if options.get("ema"):
        optimizer.append(jd.optimizers.ema_params(0.9))
    options["optimizer"] = optax.chain(*optimizer)
    if options.pop("params", False):
        options["params"], options["state"] = MODEL.init(jax.random.key(5), x[:1])
    if options.get("trainable") is None:
        options.pop("freeze_batch_norm", None)
    validation = options.pop("validation", None)
    held = {"validation": None} if validation is None else {"validation": ROWS}
    of_batches = {"validation": in_order()} if validation == "batches" else held
    arrays = {"stream": options.pop("stream")} if "stream" in options else {}
    loader, steps = batches, {}
    if options.pop("steps_per_epoch", False):
        loader, steps = itertools.cycle(batches()), {"steps_per_epoch": len(batches())}
    shared = {"epochs": 4, "metrics": {}, "batch_size": size} | options
    if validation != "arrays":
        shared_batches = {n: v for n, v in shared.items() if n != "batch_size"}
    else:
        shared_batches = shared
    return (
        {"data": rows, "shuffle": False, **shared, **held, **arrays},
        {"data": loader, **steps, **shared_batches, **of_batches},
    )


@over(2, 12, heavy=True, options=st.fixed_dictionaries({}, optional=ON_BOTH))
def test_batches_in_order_do_what_arrays_do_whatever_the_options(options):
    of_arrays, of_batches = taken_by_both(options)
    whole = fit(**of_arrays)
    data = of_batches.pop("data")
    usual = {"key": KEY, "progress": False, "loss": jd.losses.softmax_cross_entropy}
    other = jd.fit(MODEL, data, **usual | of_batches)
    assert sorted(other.history) == sorted(whole.history)
    assert other.stopped == whole.stopped
    assert other.best_epoch == whole.best_epoch
    close(other.history, whole.history, rtol=1e-4)
    close((other.params, other.state), (whole.params, whole.state), rtol=1e-4)


@pytest.mark.heavy
def test_a_later_batch_that_a_named_layer_refuses_is_named():
    model = jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(2))

    def batches(epoch):
        return [ROWS, (np.ones((8, 5), np.float32), ROWS[1][:8])]

    with pytest.raises(ValueError, match=r"^batch 1 of data: hidden: dense was initialised for"):
        fit_loader(batches, model=model)
