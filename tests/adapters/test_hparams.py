"""What a sweep writes for TensorBoard's view of hyperparameters."""

import importlib.util

import jax
import numpy as np
import pytest
from helpers.events import events, scalars

import jaxdeep as jd
from jaxdeep.adapters import sweep_to_tensorboard
from jaxdeep.search.tables.table import Result, Table

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="wants tensorboardX"
)

POINTS = [
    {"rate": np.float32(0.01), "activation": None, "bias": True, "seed": 0},
    {"rate": np.float32(0.1), "activation": jax.nn.relu, "bias": False, "seed": 0},
    {"rate": 0.02, "activation": "a/b c", "bias": True, "seed": 0},
    {"rate": 1e30, "activation": None, "bias": True, "seed": 0},
]


def table(rows=4, epochs=3):
    losses = np.linspace(1.0, 0.5, epochs)
    history = {"loss": losses, "val_loss": losses + 1}
    results = [Result({}, {}, history, end=epochs - 1, ended="finished") for _ in range(rows)]
    if rows == 4:
        results[3] = Result({}, {}, {"loss": np.array([np.nan])}, end=0, ended="diverged")
    return Table(POINTS[:rows], results)


def sessions(folders):
    """The hyperparameters and the status of each session, by the plugin's own messages."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = []
    for folder in folders:
        contents = [
            HParamsPluginData.FromString(value.metadata.plugin_data.content)
            for event in events(folder)
            for value in event.summary.value
            if value.metadata.plugin_data.plugin_name == "hparams"
        ]
        started = [c.session_start_info for c in contents if c.HasField("session_start_info")]
        ended = [c.session_end_info for c in contents if c.HasField("session_end_info")]
        assert (len(started), len(ended)) == (1, 1)
        values = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in started[0].hparams.items()
        }
        found.append((values, ended[0].status))
    return found


@pytest.mark.heavy
def test_every_row_is_a_session_with_its_values(tmp_path):
    folders = sweep_to_tensorboard(table(), tmp_path)
    assert len(set(folders)) == 4
    assert [values for values, _ in sessions(folders)] == [
        {"rate": float(np.float32(0.01)), "activation": "None", "bias": True, "seed": 0.0},
        {"rate": float(np.float32(0.1)), "activation": "relu", "bias": False, "seed": 0.0},
        {"rate": 0.02, "activation": "a/b c", "bias": True, "seed": 0.0},
        {"rate": 1e30, "activation": "None", "bias": True, "seed": 0.0},
    ]
    assert [status for _, status in sessions(folders)] == [1, 1, 1, 2]  # success, failure
    assert scalars(folders[0] / "train") == [("loss", 1, 1.0), ("loss", 2, 0.75), ("loss", 3, 0.5)]
    assert scalars(folders[0] / "validation")[-1] == ("loss", 3, 1.5)
    assert {path.name for folder in folders for path in folder.iterdir() if path.is_dir()} == {
        "train",
        "validation",
    }


@pytest.mark.heavy
def test_rows_that_go_on_are_written_once(tmp_path):
    sweep_to_tensorboard(Table(POINTS[:3], list(table(3).results)), tmp_path)
    first = sweep_to_tensorboard(table(3), tmp_path)
    again = sweep_to_tensorboard(table(4), tmp_path)
    assert again[:3] == first
    assert [step for _, step, _ in scalars(again[0] / "train")] == [1, 2, 3]
    assert len(sessions(again)) == 4


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"table must be what jaxdeep.sweep returned, got \[\]"):
        sweep_to_tensorboard([], tmp_path)
    with pytest.raises(TypeError, match="logdir must be a path, got 3"):
        sweep_to_tensorboard(table(), 3)


@pytest.mark.slow
def test_tensorboard_reads_the_sessions(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard import context
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    sweep_to_tensorboard(table(), tmp_path)
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(tmp_path))
    shown = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, multiplexer=runs, logdir=str(tmp_path))
    )
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=[0, 1, 2, 3]
    )
    asked = list_session_groups.Handler(context.RequestContext(), shown, "", request)
    groups = asked.run().session_groups
    rates = sorted(group.hparams["rate"].number_value for group in groups)
    assert rates == sorted([float(np.float32(0.01)), float(np.float32(0.1)), 0.02, 1e30])


@pytest.mark.heavy
def test_statistics_of_batch_norms_and_gradients_are_written_beside_the_parameters(tmp_path):
    x = jax.random.normal(jax.random.key(0), (32, 3))
    y = x[:, :1]
    model = jd.nn.serial(hidden=jd.nn.dense(4), bn=jd.nn.batch_norm(), out=jd.nn.dense(1))
    objective = jd.train.supervised(model, jd.losses.mse)

    def gradients(ts):
        return jax.grad(lambda params: objective(params, ts.state, (x, y))[0])(ts.params)

    def written(name, histograms, **options):
        callback = jd.adapters.to_tensorboard(tmp_path / name, histograms=histograms, **options)
        jd.fit(
            model,
            (x, y),
            loss=jd.losses.mse,
            optimizer=jd.optimizers.sgd(0.01),
            key=jax.random.key(0),
            callbacks=[callback],
            progress=False,
        )
        return {
            value.tag
            for event in events(tmp_path / name / "train")
            for value in event.summary.value
            if value.HasField("histo")
        }

    of_all = written("all", True, gradients=gradients)
    assert {"hidden/kernel", "bn/scale", "bn/mean", "bn/var", "gradients/out/bias"} <= of_all
    assert written("some", "bn/*") == {path for path in of_all if path.startswith("bn/")}
    assert written("globs", ["bn/mean", "out/*"]) == {"bn/mean", "out/kernel", "out/bias"}


def test_rows_that_read_the_same_have_folders_of_their_own(tmp_path):
    points = [{"act": act, "seed": 0} for act in (np.tanh, jax.numpy.tanh, "tanh")]
    folders = sweep_to_tensorboard(Table(points, list(table(3).results)), tmp_path)
    assert len(set(folders)) == 3
    assert folders[2].name == "act=tanh,seed=0"
    assert [len(scalars(folder / "train")) for folder in folders] == [3, 3, 3]
