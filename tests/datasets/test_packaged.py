import gzip
import hashlib
import struct

import numpy as np
import pytest

from jaxdeep import datasets


def write_idx(path, array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small set in Fashion-MNIST's format where JAXDEEP_DATA says."""
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 5_010), ("t10k", 20)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 4, 4)))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", rng.integers(0, 10, n))
    monkeypatch.setenv("JAXDEEP_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache and no network."""
    import pooch

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(pooch, "retrieve", refuse)


def test_digits_are_split_and_scaled():
    train, validation, test = datasets.digits()
    assert [len(y) for _, y in (train, validation, test)] == [1257, 270, 270]
    for x, y in (train, validation, test):
        assert x.dtype == np.float32
        assert y.dtype == np.int32
        assert x.shape[1:] == (8, 8)
        assert x.min() == 0
        assert x.max() == 1
        assert set(y) == set(range(10))
    again = datasets.digits()
    np.testing.assert_array_equal(again.train[0], train[0])
    rows = np.concatenate([x.reshape(len(x), -1) for x, _ in (train, validation, test)])
    assert len(np.unique(rows, axis=0)) == len(rows)  # no row in two parts


@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_fashion_mnist_from_a_folder(folder, below, monkeypatch):
    if below:
        (folder / below).mkdir()
        for file in folder.glob("*.gz"):
            file.rename(folder / below / file.name)
    train, validation, test = datasets.fashion_mnist()
    assert [x.shape for x, _ in (train, validation, test)] == [(10, 4, 4), (5000, 4, 4), (20, 4, 4)]
    assert train[0].dtype == np.float32
    assert train[0].max() <= 1
    assert test[1].dtype == np.int32


@pytest.mark.parametrize("set_", [False, True])
def test_fashion_mnist_nowhere_says_how_to_supply_it(offline, set_, monkeypatch, tmp_path):
    if set_:
        monkeypatch.setenv("JAXDEEP_DATA", str(tmp_path / "nothing"))
    else:
        monkeypatch.delenv("JAXDEEP_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as info:
        datasets.fashion_mnist()
    message = str(info.value)
    assert "JAXDEEP_DATA" in message
    assert "train-labels-idx1-ubyte.gz" in message
    assert "ConnectionError" in message
    assert str(tmp_path / "cache") in message
    assert (str(tmp_path / "nothing") in message) == set_


def test_a_download_is_checked_against_its_sha256(tmp_path, monkeypatch):
    import pooch

    asked = []
    monkeypatch.delenv("JAXDEEP_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", lambda url, hash_, *rest: asked.append((url, hash_)) or "x")
    with pytest.raises(ValueError, match="x is damaged or not a gzip file"):
        datasets.fashion_mnist()
    assert len(asked) == 4
    for url, hash_ in asked:
        assert url.startswith("https://")
        kind, _, digest = hash_.partition(":")
        assert kind == "sha256"
        assert len(digest) == hashlib.sha256().digest_size * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain", "damaged or not a gzip file"),
        (gzip.compress(b"hello world"), "not an idx file"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"), "3 values for the shape"),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "damaged"),
        (gzip.compress(b"x" * 1000)[:-20], "damaged or not a gzip file"),
    ],
    ids=["not gzip", "not idx", "short body", "short header", "cut off"],
)
def test_damaged_files(folder, content, message):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        datasets.fashion_mnist()


def test_labels_that_do_not_fit_the_images(folder):
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(7))
    with pytest.raises(ValueError, match="do not fit labels"):
        datasets.fashion_mnist()


X, Y = np.arange(200.0).reshape(100, 2), np.arange(100) % 3


def test_npz_holds_out_a_tenth_unless_told(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    train, validation, test = datasets.npz(tmp_path / "a.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(datasets.npz("~/a.npz").train[0], train[0])
    assert test is None
    together = np.sort(np.concatenate([train[0][:, 0], validation[0][:, 0]]))
    np.testing.assert_array_equal(together, X[:, 0])
    for x, y in (train, validation):
        np.testing.assert_array_equal(y, (x[:, 0] / 2) % 3)
    for suffix in ("_val", "_validation"):
        np.savez(tmp_path / "b.npz", x_train=X, y_train=Y, **{f"x{suffix}": X[:7], f"y{suffix}": Y[:7]})
        train, validation, _ = datasets.npz(tmp_path / "b.npz")
        assert (len(train[1]), len(validation[1])) == (100, 7)
    np.savez(tmp_path / "c.npz", x_train=X, y_train=Y, x_test=X[:9], y_test=Y[:9])
    assert len(datasets.npz(tmp_path / "c.npz").test[1]) == 9


def test_npz_takes_targets_of_any_kind_as_they_are(tmp_path):
    numbers = np.linspace(-1, 1, len(X))
    for y, dtype in (
        (numbers, np.float32),
        (np.stack([numbers, -numbers], 1), np.float32),
        (np.eye(3)[Y % 3].astype(int), np.int32),
    ):
        np.savez(tmp_path / "a.npz", x_train=X, y_train=y, x_test=X, y_test=y)
        found = datasets.npz(tmp_path / "a.npz", classes=False).test
        np.testing.assert_array_equal(found[1], y.astype(dtype))
        assert found[1].dtype == dtype
    np.savez(tmp_path / "a.npz", x=X, y=numbers[:, None])
    assert datasets.npz(tmp_path / "a.npz", classes=False).train[1].ndim == 1
    np.savez(tmp_path / "a.npz", x=X, y=numbers[:-1])
    with pytest.raises(ValueError, match=r"y must be numbers, \(rows,\) or \(rows, outputs\)"):
        datasets.npz(tmp_path / "a.npz", classes=False)


def test_npz_scales_bytes_only(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.full((20, 2), 255, np.uint8), y=np.zeros(20, int))
    assert datasets.npz(tmp_path / "a.npz").train[0].max() == 1
    np.savez(tmp_path / "a.npz", x=np.full((20, 2), 255, np.int64), y=np.zeros(20, int))
    assert datasets.npz(tmp_path / "a.npz").train[0].max() == 255


@pytest.mark.parametrize("dtype", [int, float, bool, np.uint8])
def test_npz_takes_labels_in_a_column_and_one_hot(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    expected = datasets.npz(tmp_path / "a.npz")
    column = [Y[:, None].astype(dtype)] if dtype in (int, np.uint8) else []
    for y in (np.eye(Y.max() + 1)[Y].astype(dtype), *column):
        np.savez(tmp_path / "a.npz", x=X, y=y)
        for pair, known in zip(datasets.npz(tmp_path / "a.npz")[:2], expected[:2]):
            np.testing.assert_array_equal(pair[1], known[1])
            assert pair[1].dtype == known[1].dtype


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_zeros_and_ones_of_any_type_are_classes(tmp_path, dtype):
    y = np.arange(100) % 2
    np.savez(tmp_path / "a.npz", x=X, y=y)
    np.savez(tmp_path / "b.npz", x=X, y=y.astype(dtype))
    for one, other in zip(datasets.npz(tmp_path / "a.npz")[:2], datasets.npz(tmp_path / "b.npz")[:2]):
        np.testing.assert_array_equal(one[1], other[1])
        assert other[1].dtype == np.int32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": np.ones((100, 2))}, r"one-hot, .* got \(100, 2\) and \(100, 2\)"),
        ({"x": X, "y": np.full((100, 1), 2.0)}, "integer classes"),
        ({"a": X}, "must hold arrays x and y, .* it holds a"),
        ({"x": X}, "holds x without its y"),
        ({"x": X, "y": Y[:5]}, r"got \(100, 2\) and \(5,\)"),
        ({"x": X, "y": Y + 0.5}, "integer classes"),
        ({"x": X, "y": Y - 1}, "must not be negative"),
        ({"x": X.astype(str), "y": Y}, "must hold numbers"),
        ({"x": X[:0], "y": Y[:0]}, "at least one row"),
        ({"x": X[:, :0], "y": Y}, "at least one row"),
        ({"x": X, "y": Y + 2**32}, "must be numbered from 0 and below 1,000,000"),
        ({"x": X, "y": Y, "x_val": X[:, :1], "y_val": Y}, "rows of the validation inputs have shape"),
        ({"x": X[:1], "y": Y[:1]}, "too few to hold out"),
        ({"x": np.array([{}] * 3), "y": Y[:3]}, "plain arrays"),
    ],
)
def test_npz_that_will_not_do(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        datasets.npz(tmp_path / "bad.npz")


def test_npz_that_is_no_npz(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        datasets.npz(tmp_path / "absent.npz")
    for content in (b"", b"text", b"PK\x03\x04 truncated"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"not an \.npz file"):
            datasets.npz(tmp_path / "bad.npz")
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "single.npy").rename(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="single array"):
        datasets.npz(tmp_path / "bad.npz")


def test_a_missing_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ImportError, match=r"digits\(\) needs scikit-learn: pip install 'jaxdeep\[datasets\]'"
    ):
        datasets.digits()


def test_load_knows_the_names():
    with pytest.raises(
        ValueError, match=r"must be digits, fashion-mnist or a file ending in .npz, got 'mnist'"
    ):
        datasets.load("mnist")
