"""Folds: which rows they hold, beside scikit-learn's, and which are refused."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection

import jaxdeep as jd
from jaxdeep.search.resampling.folds import subsets_of

X = np.zeros((30, 2))


def pairs_of(folds, data=None, *, stratify=None, groups=None, shuffle=True, key=None):
    data = (X, np.linspace(0.1, 0.2, 30)) if data is None else data
    made = subsets_of(folds, data, stratify=stratify, groups=groups, shuffle=shuffle, key=key)
    return [subset.indices for subset in made]


def same_folds(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def check_partition(pairs, rows):
    """Every row is validated once, and trained on in all other folds."""
    validated = np.concatenate([validate for _, validate in pairs])
    np.testing.assert_array_equal(np.sort(validated), np.arange(rows))
    for train, validate in pairs:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, validate])), np.arange(rows))


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n))), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_number_of_folds_is_scikit_learns_k_fold(numbers, shuffle):
    rows, folds = numbers
    pairs = pairs_of(folds, (np.zeros((rows, 1)), np.full(rows, 0.5)), shuffle=shuffle)
    split = model_selection.KFold(folds, shuffle=shuffle, random_state=0 if shuffle else None)
    same_folds(pairs, split.split(np.zeros(rows)))


@given(st.lists(st.integers(-2, 3), min_size=4, max_size=60), st.integers(2, 4), st.booleans())
@settings(max_examples=50, deadline=None)
def test_classes_are_shared_out_evenly(labels, folds, shuffle):
    y = np.array(labels)
    pairs = pairs_of(folds, (np.zeros((len(y), 1)), y), shuffle=shuffle)
    check_partition(pairs, len(y))
    sizes = [len(validate) for _, validate in pairs]
    assert max(sizes) - min(sizes) <= 1
    for label in set(labels):
        counts = [int(np.sum(y[validate] == label)) for _, validate in pairs]
        assert max(counts) - min(counts) <= 1


def test_shares_of_classes_are_those_of_scikit_learns_stratified_folds():
    rest = np.random.default_rng(0).permutation(np.repeat(["a", "b", "c"], [40, 16, 8]))
    y = np.array(["a", "b", "c", *rest])  # scikit-learn deals out classes in the order they appear in
    ours = pairs_of(5, np.zeros((len(y), 1)), stratify=y.tolist())
    theirs = model_selection.StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)

    def counts(pairs):
        return sorted(tuple(np.sum(y[v] == label) for label in "abc") for _, v in pairs)

    assert counts(ours) == counts(theirs)


def test_y_is_taken_for_classes_if_it_is_one_whole_number_a_row():
    y = np.repeat([0, 1], [25, 5])

    def counts(labels, **how):
        return [int(np.sum(y[validate])) for _, validate in pairs_of(5, (X, labels), **how)]

    for labels in (y, y.astype(bool), y.astype(np.float32), y[:, None], jax.numpy.asarray(y)):
        assert counts(labels) == [1] * 5
        assert counts(labels, stratify=True) == [1] * 5
    assert counts(y, stratify=False) != [1] * 5
    assert counts(y + 0.5) == counts(y, stratify=False)
    assert counts(y + 0.5, stratify=y) == [1] * 5
    assert counts(np.where(y, np.nan, 0.0)) == counts(y, stratify=False)
    # a rare class alone is no error unless classes are asked for
    assert len(pairs_of(5, (X, np.arange(30)))) == 5
    with pytest.raises(ValueError, match="a row of each class for each of 5 folds, got a class of 1"):
        pairs_of(5, (X, np.arange(30)), stratify=True)


def test_the_key_draws_the_folds():
    first, again, other = (pairs_of(3, key=jax.random.key(seed)) for seed in (1, 1, 2))
    same_folds(first, again)
    assert not np.array_equal(first[0][1], other[0][1])
    same_folds(first, pairs_of(3, key=jax.random.PRNGKey(1)))


def test_groups_are_never_divided():
    groups = np.random.default_rng(0).integers(0, 8, 30).astype(str)
    ours = pairs_of(4, groups=groups)
    same_folds(ours, model_selection.GroupKFold(4).split(X, None, groups))
    y = np.arange(30) % 2
    ours = pairs_of(3, (X, y), groups=groups, stratify=True)
    check_partition(ours, 30)
    assert all(not {*groups[train]} & {*groups[validate]} for train, validate in ours)
    split = model_selection.StratifiedGroupKFold(3, shuffle=True, random_state=0)
    same_folds(ours, split.split(X, y, groups))


@pytest.mark.parametrize(
    "splitter",
    [
        model_selection.RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        model_selection.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
        model_selection.ShuffleSplit(4, test_size=0.3, random_state=0),
        model_selection.TimeSeriesSplit(3),
        model_selection.PredefinedSplit(np.arange(30) % 4 - 1),
        model_selection.LeaveOneGroupOut(),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
def test_splitters_of_scikit_learn(splitter):
    y, groups = np.arange(30) % 2, np.arange(30) % 5
    with_groups = groups if isinstance(splitter, model_selection.LeaveOneGroupOut) else None
    ours = pairs_of(splitter, (X, y), groups=with_groups)
    same_folds(ours, splitter.split(X, y, with_groups))
    same_folds(pairs_of(splitter.split(X, y, with_groups), (X, y)), ours)  # a generator


def test_pairs_are_indices_or_masks():
    mask = np.arange(30) < 10
    for train, validate in (
        (mask, ~mask),
        (mask.tolist(), (~mask).tolist()),
        (list(range(10)), range(10, 30)),
        (np.arange(10, dtype=np.uint8), jax.numpy.arange(10, 30)),
    ):
        ((rows, others),) = pairs_of([(train, validate)])
        assert rows.tolist() == list(range(10))
        assert others.tolist() == list(range(10, 30))


def test_a_fold_knows_its_number_and_its_different_rows():
    first, second = subsets_of(
        [([0, 0, 1], [2]), ([3], [4, 5])],
        (X, X),
        stratify=None,
        groups=None,
        shuffle=True,
        key=None,
    )
    assert first.names == {"fold": 0, "n_train": 2, "n_validate": 1}
    assert second.names == {"fold": 1, "n_train": 1, "n_validate": 2}
    assert first.train.tolist() == [0, 0, 1]


@given(st.integers(2, 50), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_bootstrap_samples_are_drawn_rows_and_those_that_were_not(n, samples, seed):
    pairs = jd.search.bootstrap_samples(n, samples, seed=seed)
    assert len(pairs) == samples
    assert len({len(out) for _, out in pairs}) == 1
    for train, out in pairs:
        assert len(train) == n
        assert not {*train} & {*out}
        assert len({*out}) == len(out) >= 1
    longer = jd.search.bootstrap_samples(n, samples + 2, seed=seed)
    for (train, out), (again, fewer) in zip(pairs, longer):
        assert np.array_equal(train, again)
        assert {*fewer} <= {*out}


def test_bootstrap_samples_hold_the_share_of_rows_that_theory_says():
    n = 2_000
    shares = [len({*train}) / n for train, _ in jd.search.bootstrap_samples(n, 50)]
    # 1 − 1/e, with the standard deviation of the number of empty cells (occupancy)
    sd = np.sqrt(np.exp(-1) * (1 - 2 * np.exp(-1)) / n)
    assert abs(np.mean(shares) - (1 - np.exp(-1))) < 4 * sd / np.sqrt(50)
    assert 0.5 < np.std(shares, ddof=1) / sd < 1.5


@pytest.mark.parametrize(
    ("folds", "more", "message"),
    [
        (1, {}, "folds must be at least 2, got 1"),
        (31, {}, "folds must be at most the number of rows, 30, got 31"),
        (True, {}, "folds must be a whole number, a list of pairs"),
        (2.5, {}, "folds must be a whole number, a list of pairs"),
        (np.ma.array(3, mask=True), {}, "folds must be a whole number, a list of pairs"),
        (None, {}, "folds must be a whole number, a list of pairs"),
        ("five", {}, "folds must be a whole number, a list of pairs"),
        ({"a": 1}, {}, "folds must be a whole number, a list of pairs"),
        (model_selection.KFold, {}, "folds must be a whole number, a list of pairs"),
        ([], {}, "folds must be one pair of rows at least, got none"),
        ([[1, 2, 3]], {}, r"folds\[0\] must be a pair \(training rows, validation rows\)"),
        ([5], {}, r"folds\[0\] must be a pair"),
        ([([0, 30], [1])], {}, r"folds\[0\]\[0\] must be rows in \[0, 30\), got 30"),
        ([([0], [1]), ([0], [-1])], {}, r"folds\[1\]\[1\] must be rows in \[0, 30\), got -1"),
        (
            [([0, 1, 2], [2, 1])],
            {},
            r"folds\[0\] has 2 rows both for training and for validation.* row 1",
        ),
        ([([], [1])], {}, r"folds\[0\]\[0\] must hold rows, got none"),
        ([(np.zeros(30, bool), [1])], {}, r"folds\[0\]\[0\] must hold rows, got none"),
        ([(np.zeros(29, bool), [1])], {}, r"folds\[0\]\[0\] must be a mask of 30 rows, got .* \(29,\)"),
        (
            [(np.arange(30) % 2, np.arange(30) % 2 == 0)],
            *(
                {},
                r"folds\[0\]\[0\] must be .*mask of booleans; these are 30 zeros.*astype\(bool\)",
            ),
        ),
        ([(np.arange(30) > 0, [1] + [0] * 29)], {}, r"folds\[0\]\[1\] .*make the mask boolean"),
        ([([0.0], [1])], {}, r"folds\[0\]\[0\] must be whole numbers or a mask"),
        ([([[0]], [1])], {}, r"folds\[0\]\[0\] must be a list of rows, got an array of shape \(1, 1\)"),
        ([(None, [1])], {}, r"folds\[0\]\[0\] must be an array of numbers, got None"),
        ([("text", [1])], {}, r"folds\[0\]\[0\] must be an array of numbers, got 'text'"),
        ([([0], [1])], {"stratify": np.zeros(30)}, "stratify is for a number of folds"),
        ([([0], [1])], {"groups": np.zeros(30)}, "groups is for a number of folds"),
        (
            2,
            {"stratify": np.zeros(29)},
            r"stratify must be one label a row, 30 in all, got shape \(29,\)",
        ),
        (2, {"stratify": "text"}, "stratify must be one label a row"),
        (2, {"stratify": np.full(30, np.nan)}, "stratify must be labels, got nan"),
        (2, {"stratify": [None, 1] * 15}, "stratify must be labels of one kind"),
        (2, {"stratify": [[1], [2, 3]]}, "stratify must be labels of one kind"),
        (2, {"stratify": np.ma.masked_less(np.arange(30), 2)}, "stratify is a masked array"),
        (2, {"stratify": True}, r"stratify=True needs data \(x, y\) whose y is one class a row"),
        (4, {"stratify": np.arange(30) // 3}, "for each of 4 folds, got a class of 3"),
        (4, {"groups": np.arange(30) // 10}, "folds must be at most the number of groups, 3, got 4"),
        (2, {"groups": 3}, "groups must be one label a row"),
        (2, {"shuffle": "yes"}, "shuffle_folds must be True or False"),
        (model_selection.GroupKFold(2), {}, "GroupKFold needs groups=, the group of each row; got None"),
        (model_selection.StratifiedKFold(2), {}, "StratifiedKFold needs stratify=, the class of each"),
    ],
)
def test_wrong_folds(folds, more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pairs_of(folds, **more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1, "samples": 2}, "n must be at least 2, got 1"),
        ({"n": 5, "samples": 0}, "samples must be at least 1, got 0"),
        ({"n": 5, "samples": 1, "seed": -1}, "seed must be at least 0"),
        ({"n": 5.0, "samples": 1}, "n must be a whole number"),
        ({"n": 5, "samples": True}, "samples must be a whole number"),
    ],
)
def test_wrong_bootstrap_samples(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jd.search.bootstrap_samples(arguments.pop("n"), arguments.pop("samples"), **arguments)
