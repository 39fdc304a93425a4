"""`jaxdeep.fit`."""

import jax

import jaxdeep as jd
from benchmarks.contenders import tell
from benchmarks.contenders.variants import BATCH, DEPTH, DROPOUT, RATE

jd.fit, jd.losses, jd.metrics, jd.nn, jd.optimizers  # noqa: B018  # imported when first used


def network(kind):
    nn, relu = jd.nn, jax.nn.relu
    if kind == "deep":
        layer = nn.dense(100, activation=jax.nn.selu)
        return nn.serial(nn.dense(100, activation=jax.nn.selu), nn.repeat(layer, DEPTH), nn.dense(10))
    if kind == "conv":
        return nn.serial(
            nn.conv(16, 3, activation=relu),
            nn.max_pool(2),
            nn.conv(32, 3, activation=relu),
            nn.max_pool(2),
            nn.flatten(),
            nn.dense(10),
        )
    layers = []
    for _ in range(3):
        layers += [nn.dropout(DROPOUT)] if kind == "dropout" else []
        layers += [nn.dense(100, kernel_init=nn.initializers.he_normal())]
        layers += [nn.batch_norm()] if kind == "bn" else []
        layers += [nn.activation(relu)]
    layers += [nn.dropout(DROPOUT)] if kind == "dropout" else []
    return nn.serial(*layers, nn.dense(10))


def train(variant, data, epochs, *, rate=RATE):
    jd.fit(
        network(variant.name),
        data,
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        optimizer=jd.optimizers.adam(rate),
        epochs=epochs,
        batch_size=BATCH,
        key=jax.random.key(0),
        callbacks=[lambda now: tell(now.history["loss"][-1], now.history["accuracy"][-1])],
        progress=False,
    )
