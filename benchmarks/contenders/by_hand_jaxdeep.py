"""The study of `benchmarks.compare_by_hand` in jaxdeep."""

import jax

import jaxdeep as jd


def study(train, validation, test, *, budget, epochs, seeds, seed):
    """The mean test accuracy of each optimizer, and what the answer says."""
    answer = jd.compare(
        ["sgd", "nag", "rmsprop", "adam"],
        model=jd.nn.serial(*[jd.nn.dense(100, activation=jax.nn.relu)] * 3, jd.nn.dense(10)),
        data=train,
        validation=validation,
        test=test,
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        epochs=epochs,
        budget=budget,
        seeds=seeds,
        seed=seed,
        progress=False,
    )
    return {name: values.tolist() for name, values in answer.values.items()}, answer.verdict
