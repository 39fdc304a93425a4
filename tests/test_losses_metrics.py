import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep.losses import softmax_cross_entropy
from jaxdeep.metrics import accuracy

LOGITS = jnp.array([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0]])


def test_cross_entropy_is_the_closed_form_for_every_kind_of_label():
    labels = jnp.array([1, 2])
    exact = -np.log(np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, labels), [exact[0, 1], exact[1, 2]], rtol=1e-6
    )
    one_hot = jax.nn.one_hot(labels, 3)
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, one_hot), softmax_cross_entropy(LOGITS, labels), rtol=1e-6
    )
    smooth = 0.9 * one_hot + 0.1 / 3
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, smooth), (exact * smooth).sum(-1), rtol=1e-6
    )


def test_extreme_logits_are_finite():
    loss = softmax_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    np.testing.assert_allclose(loss, [2e4])


def test_further_axes_and_dtypes():
    labels = np.zeros((2, 5), np.uint8)
    loss = softmax_cross_entropy(jnp.zeros((2, 5, 4), jnp.bfloat16), labels)
    assert loss.shape == (2, 5)
    assert loss.dtype == jnp.bfloat16
    assert accuracy(jnp.zeros((2, 5, 4)), labels).shape == (2, 5)


def test_accuracy():
    assert accuracy(LOGITS, np.array([0, 1])).tolist() == [1.0, 0.0]
    assert accuracy(LOGITS, jax.nn.one_hot(jnp.array([0, 1]), 3)).tolist() == [1.0, 0.0]
    assert accuracy(LOGITS, np.array([0, 1])).dtype == jnp.float32


@pytest.mark.parametrize("function", [softmax_cross_entropy, accuracy])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 3]),
            r"labels must be in \[0, 3\) for outputs of 3 classes, got labels from 0 to 3",
        ),
        (jnp.array([-1, 2]), "got labels from -1 to 2"),
        (np.array([0, 1, 2]), r"labels must have shape \(2,\)"),
        (np.array([0.0, 1.0]), "must be integers, got float"),
        (np.zeros((2, 1), int), r"labels must have shape \(2,\)"),
    ],
)
def test_labels_that_do_not_fit(function, labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        function(LOGITS, labels)


def test_traced_labels_are_not_checked():
    jax.jit(softmax_cross_entropy)(LOGITS, jnp.array([0, 7]))
