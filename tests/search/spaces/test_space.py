"""Points: grids, lists and draws, each point once, with the spaces they come from."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.search.spaces.space import Points, edges, groups, points_of, spaces_of

S = jd.search
X = jnp.linspace(-1, 1, 32)[:, None]


def sweep(builder, space, **changes):
    how = {"epochs": 1, "batch_size": 16, "loss": jd.losses.mse, "progress": False} | changes
    return jd.sweep(builder, space, model=jd.nn.dense(1), data=(X, 3 * X), **how)


def test_a_dict_of_lists_is_a_grid():
    points = points_of({"a": np.array([0.1, 0.2]), "b": (1, None), "c": range(2)})
    assert points == [{"a": a, "b": b, "c": c} for a in (0.1, 0.2) for b in (1, None) for c in (0, 1)]
    assert points.spaces == (
        {"a": S.choice([0.1, 0.2]), "b": S.choice([1, None]), "c": S.choice([0, 1])},
    )


def test_a_list_of_points_may_have_different_names():
    given = [{"a": np.float64(1)}, {"b": jnp.array(2)}]
    assert points_of(given) == [{"a": 1.0}, {"b": 2}]
    assert points_of(given).spaces == ()


def test_points_know_their_spaces():
    points = S.sobol({"a": S.uniform(0, 1)}, 8)
    for same in (points_of(points), pickle.loads(pickle.dumps(points)), copy.deepcopy(points)):
        assert type(same) is Points
        assert same == points
        assert same.spaces == points.spaces == ({"a": S.uniform(0, 1)},)
    assert type(points[2:4]) is Points
    assert points[2:4].spaces == points.spaces
    assert points[2:4] == [points[2], points[3]]
    more = points + S.grid({"b": [1]})
    assert more.spaces == ({"a": S.uniform(0, 1)}, {"b": S.choice([1])})
    assert (points + more[8:]).spaces[:1] == points.spaces


def test_equal_points_are_left_out_with_a_warning_at_the_line_of_the_sweep():
    space = [
        {"rate": 0.1, "b": 1},
        {"b": 1, "rate": 0.1},
        {"rate": 0.1, "b": 1.0},
        {"rate": 0.1, "b": True},
    ]

    def build(hp):
        raise RuntimeError("built")

    with (
        pytest.warns(UserWarning, match="1 of 4 points are the same as others before them") as caught,
        pytest.raises(RuntimeError, match="built"),
    ):
        sweep(build, space)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="left out"):
        assert points_of(space) == [space[0], space[2], space[3]]


@pytest.mark.heavy
def test_points_of_several_optimizers_are_swept():
    made = {"sgd": jd.optimizers.sgd, "adam": jd.optimizers.adam}
    points = S.sobol(
        [
            {"kind": "sgd", "learning_rate": S.log_uniform(1e-3, 1)},
            {"kind": "adam", "learning_rate": S.log_uniform(1e-4, 1e-1), "b1": S.one_minus(0.01, 0.5)},
        ],
        4,
    )
    assert [point["kind"] for point in points] == ["sgd", "adam", "sgd", "adam"]

    def build(hp):
        return made[hp["kind"]](**{name: value for name, value in hp.items() if name != "kind"})

    table = sweep(build, points)
    for point, row in zip(points, table.rows()):
        alone = jd.fit(
            jd.nn.dense(1),
            (X, 3 * X),
            optimizer=build(point),
            loss=jd.losses.mse,
            epochs=1,
            batch_size=16,
            key=jax.random.key(0),
            progress=False,
        )
        assert row["loss"] == alone.history["loss"][-1]


def test_points_whose_floats_have_other_names_are_of_other_groups():
    points = points_of([{"a": 0.1}, {"b": 0.1}, {"a": 0.2}])
    assert [members for _, members in groups(points)] == [[0, 2], [1]]


def test_edges_of_a_grid():
    points = points_of({"rate": [0.1, 0.2, 0.3], "units": [8, 16], "kind": ["a", "b", "c"]})
    flagged = [edges({**point, "seed": 0}, points.spaces) for point in points]
    assert flagged == [("rate",) if point["rate"] != 0.2 else () for point in points]
    log = S.grid({"rate": S.log_uniform(1e-4, 1)}, per_axis=5)
    assert [edges(point, log.spaces) for point in log] == [("rate",), (), (), (), ("rate",)]


def test_edges_of_conditional_spaces():
    spaces = spaces_of(
        [
            {"kind": "sgd", "rate": S.log_uniform(1e-3, 1)},
            {"kind": "adam", "rate": S.log_uniform(1e-5, 1e-1)},
            {"kind": "adam", "rate": S.log_uniform(1e-4, 1e-2), "b1": S.one_minus(0.01, 0.5)},
        ]
    )
    assert edges({"kind": "sgd", "rate": 1e-3, "seed": 2, "fold": 0}, spaces) == ("rate",)
    assert edges({"kind": "adam", "rate": 1e-3, "seed": 2}, spaces) == ()
    assert edges({"b1": 0.99, "kind": "adam", "rate": 1e-4}, spaces) == ("b1", "rate")
    assert edges({"rate": 1e-4}, spaces) == ()
    assert edges({"rate": 1e-4}, ()) == ()
    known = {}  # kept from point to point
    for point in ({"kind": "adam", "rate": 1e-4, "b1": 0.99}, {"kind": "sgd", "rate": 1e-3}):
        assert edges(point, spaces, known) == edges(point, spaces) == edges(point, spaces, known)


def test_an_edge_inside_another_space_is_none():
    narrow, wide = {"rate": S.log_uniform(1e-4, 1e-2)}, {"rate": S.log_uniform(1e-6, 1)}
    assert edges({"rate": 1e-2}, [narrow]) == ("rate",)
    assert edges({"rate": 1e-2}, [narrow, wide]) == ()
    assert edges({"rate": 1.0}, [narrow, wide]) == ("rate",)


def test_edges_of_a_table_from_a_file_whose_functions_are_texts():
    spaces = spaces_of({"rate": S.uniform(0, 1), "function": [jnp.tanh, jax.nn.relu]})
    assert edges({"rate": 1.0, "function": "tanh"}, spaces) == ("rate",)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "space must be a dict of values by name or a list of points, got None"),
        ([{"a": 1}, 3], "space must be a dict of values by name or a list of points"),
        ([], "space holds no points"),
        ({"a": []}, r"space\['a'\] must hold a value at least"),
        ({"a": 0.1}, r"space\['a'\] must be a list, got 0.1"),
        ({"a": "text"}, r"space\['a'\] must be a list, got 'text'"),
        ({"a": [1], "seed": [1]}, "none called 'seed'"),
        ([{"seed": 1}], "none called 'seed'"),
        ({1: [2]}, "the names in space must be texts"),
        (
            {"a": S.log_uniform(1e-4, 1e-1)},
            r"space\['a'\] must hold values, got LogUniform.* draw points with jaxdeep.search.sobol",
        ),
        ([{"b": 1}, {"a": S.int(1, 3)}], r"space\[1\]\['a'\] must hold values, got Int.* draw points"),
        ({"a": ("uniform", 0, 1)}, r"space\['a'\] must be jaxdeep.search.uniform\(0, 1\)"),
        (
            {name: range(101) for name in "abc"},
            "at most 1,000,000 points, got 101 of a × .* = 1,030,301",
        ),
    ],
)
def test_wrong_spaces_of_a_sweep(space, message):
    with pytest.raises((ValueError, TypeError), match=message):
        points_of(space)
