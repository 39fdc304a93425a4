"""What an optimizer's update is passed, beside the same update written by hand in optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.training import close

import jaxdeep as jd

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype(np.float32)
BATCH = X[:16], Y[:16]
SGD = optax.sgd(0.1)


def network(rate=0.2):
    return jd.nn.serial(
        hidden=jd.nn.dense(4, activation=jnp.tanh), drop=jd.nn.dropout(rate), out=jd.nn.dense(1)
    )


def normed():
    return jd.nn.serial(out=jd.nn.dense(1), bn=jd.nn.batch_norm())


def objective_of(model):
    return jd.train.supervised(model, jd.losses.mse)


def fit(optimizer, *, model=None, **options):
    options = {"epochs": 2, "batch_size": 16} | options
    return jd.fit(
        model or network(),
        (X, Y),
        loss=jd.losses.mse,
        optimizer=optimizer,
        key=KEY,
        progress=False,
        **options,
    )


def sam(*, opaque_mode=True):
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    return optax.contrib.sam(SGD, ascent, opaque_mode=opaque_mode)


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


# --- what is passed -----------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("accumulation_steps", [2, 1])
def test_lbfgs_is_passed_the_loss_of_the_same_batch_with_the_same_key(accumulation_steps):
    """With dropout, micro-batches and frozen leaves: as written by hand, and never worse for it."""
    model, tx, where = network(), optax.lbfgs(memory_size=3), "out/*"
    objective = objective_of(model)
    ts = jd.train.init(model, tx, X[:1], key=KEY, trainable=where)
    step = jax.jit(
        jd.train.make_step(objective, tx, accumulation_steps=accumulation_steps, trainable=where)
    )

    def loss(out, held, key):
        """The mean over halves of the batch, each with a mask of its own."""
        if accumulation_steps == 1:
            return objective(held | {"out": out}, {}, BATCH, key=key, train=True)[0]
        halves = [tuple(a[i : i + 8] for a in BATCH) for i in (0, 8)]
        keys = [jax.random.fold_in(key, i) for i in range(2)]
        values = [
            objective(held | {"out": out}, {}, half, key=k, train=True)[0]
            for half, k in zip(halves, keys)
        ]
        return sum(values) / 2

    @jax.jit
    def by_hand(out, state, held, key):
        value, grads = jax.value_and_grad(loss)(out, held, key)
        updates, state = tx.update(
            *(grads, state, out), value=value, grad=grads, value_fn=lambda out: loss(out, held, key)
        )
        after = optax.apply_updates(out, updates)
        return after, state, value, loss(after, held, key)

    out, state = ts.params["out"], tx.init(ts.params["out"])
    for t in range(3):
        out, state, value, after = by_hand(out, state, ts.params, jax.random.fold_in(ts.key, t))
        ts, metrics = step(ts, BATCH)
        close(ts.params["out"], out, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
        assert after <= value


def with_any(seen):
    def update(grads, state, params=None, **extra):
        seen.extend(sorted(extra))
        return grads, state

    return update


def with_two(seen):
    def update(grads, state, params=None, *, value, grad_fn=None):
        seen.extend(["value"] if grad_fn is None else ["grad_fn", "value"])
        return grads, state

    return update


@pytest.mark.parametrize(
    ("update", "names", "passed"),
    [
        (with_any, None, ["grad", "value", "value_fn"]),
        (with_any, ["obj_fn"], ["obj_fn"]),
        (with_any, (), []),
        (with_two, None, ["value"]),
        (with_two, ("value", "grad_fn", "obj_fn"), ["grad_fn", "value"]),
    ],
)
def test_it_is_passed_of_update_args_what_it_takes(update, names, passed):
    seen = []
    tx = optax.GradientTransformationExtraArgs(lambda params: (), update(seen))
    named = {} if names is None else {"update_args": names}
    step = jd.train.make_step(objective_of(network()), tx, **named)
    jax.eval_shape(step, jd.train.init(network(), tx, X[:1], key=KEY), BATCH)
    assert seen == passed


def test_nobody_who_does_not_ask_pays_for_it():
    """A step of Adam has one forward pass: as many matrix products as its gradient."""
    model, tx = network(), optax.adam(0.1)
    ts, objective = jd.train.init(model, tx, X[:1], key=KEY), objective_of(model)
    gradient = jax.grad(lambda p: objective(p, {}, BATCH, key=KEY, train=True)[0])
    count = [
        str(jax.make_jaxpr(f)(*args)).count("dot_general")
        for f, args in ((jd.train.make_step(objective, tx), (ts, BATCH)), (gradient, (ts.params,)))
    ]
    assert count[0] == count[1]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.identity(), tx),
        pytest.param(lambda tx: optax.apply_if_finite(tx, 3), marks=pytest.mark.heavy),
        pytest.param(jd.optimizers.skip_nonfinite, marks=pytest.mark.heavy),
        pytest.param(lambda tx: optax.MultiSteps(tx, 1), marks=pytest.mark.heavy),
        pytest.param(
            lambda tx: optax.masked(
                tx, lambda p: jax.tree.map(lambda _: True, p), mask_compatible_extra_args=True
            ),
            marks=pytest.mark.heavy,
        ),
        pytest.param(
            lambda tx: optax.partition({"all": tx}, "all", mask_compatible_extra_args=True),
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_a_line_search_does_the_same_inside_wrappers(wrap):
    expected, found = fit(optax.lbfgs(), epochs=1), fit(wrap(optax.lbfgs()), epochs=1)
    close(found.params, expected.params, rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_a_line_search_over_some_leaves_sees_the_others_as_they_are():
    """Half the leaves by lbfgs, the others at rest: as if only these were trained."""
    parts = {True: optax.lbfgs(), False: optax.set_to_zero()}
    tx = optax.partition(parts, lambda p: jd.tree.mask(p, "out/*"), mask_compatible_extra_args=True)
    found = fit(tx, epochs=1)
    expected = fit(optax.lbfgs(), trainable="out/*", epochs=1)
    close(found.params, expected.params, rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_sam_takes_its_gradient_at_the_adversarial_point():
    """By its paper's equations; batch norms see each batch once."""
    model = normed()
    objective, tx = objective_of(model), optax.chain(optax.identity(), sam())
    ts = jd.train.init(model, tx, X[:1], key=KEY)
    new, _ = jax.jit(jd.train.make_step(objective, tx, update_args=("grad_fn",)))(ts, BATCH)

    def loss(params):
        return objective(params, ts.state, BATCH, key=KEY, train=True)

    grads = jax.grad(lambda p: loss(p)[0])(ts.params)
    norm = optax.tree.norm(grads)
    worse = jax.tree.map(lambda p, g: p + 0.05 * g / norm, ts.params, grads)
    step = jax.grad(lambda p: loss(p)[0])(worse)
    close(new.params, jax.tree.map(lambda p, g: p - 0.1 * g, ts.params, step), rtol=1e-5, atol=1e-7)
    close(new.state, loss(ts.params)[1][0], rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_sophia_is_what_optax_does_with_the_loss_of_the_batch(accumulation_steps):
    model, tx = network(rate=0.0), optax.contrib.sophia(1e-2)
    objective = objective_of(model)
    ts = jd.train.init(model, tx, X[:1], key=KEY)
    options = {"update_args": ("obj_fn",), "accumulation_steps": accumulation_steps}
    step = jax.jit(jd.train.make_step(objective, tx, **options))

    def loss(params):
        return objective(params, {}, BATCH, train=True)[0]

    params, state = ts.params, tx.init(ts.params)
    for _ in range(12):  # the Hessian is estimated at the first and at the eleventh
        updates, state = tx.update(jax.grad(loss)(params), state, params, obj_fn=loss)
        params = optax.apply_updates(params, updates)
        ts, _ = step(ts, BATCH)
    close(ts.params, params, rtol=1e-3, atol=1e-5)


@pytest.mark.heavy
def test_a_sweep_side_by_side_searches_its_lines_as_single_fits_do():
    def build(hp):
        tx = optax.chain(jd.optimizers.sgd(hp["rate"]), optax.scale_by_backtracking_linesearch(5))
        return {"optimizer": tx}

    options = {"model": network(), "data": (X, Y), "loss": jd.losses.mse, "epochs": 2, "progress": False}
    table = jd.sweep(build, {"rate": [0.5, 2.0]}, strategy="vmap", **options)
    for rate in (0.5, 2.0):
        own = jd.fit(**options, **build({"rate": rate}), key=KEY)
        found = next(row for row in table.rows() if row["rate"] == rate)
        np.testing.assert_allclose(found["loss"], own.history["loss"][-1], rtol=1e-4)


# --- what is refused, before anything is compiled -----------------------------------------------------


def needing(name):
    """An optimizer whose update has a required argument of this name."""
    scope = {}
    exec(f"def update(g, s, p=None, *, {name}, **rest): return g, s", scope)
    return optax.GradientTransformationExtraArgs(lambda params: (), scope["update"])


REFUSED = {
    "one that a step knows": (sam(), r"opaque_mode=True and update_args=\('grad_fn',\): grad_fn is not"),
    "in a chain": (optax.chain(SGD, sam()), r"grad_fn is not among update_args"),
    "transparent SAM": (sam(opaque_mode=False), r"opaque_mode=True .*most steps of the run go uphill"),
    "Sophia": (optax.contrib.sophia(0.1), r"sophia needs update_args=\('obj_fn',\)"),
    "one's own": (needing("grad_fn"), r"needs 'grad_fn'; pass update_args=\(.*'value_fn', 'grad_fn'\)"),
    "one only the user knows": (needing("heat"), r"'heat', which only you can give; bind it: .*heat=…"),
    "pairs": (optax.lookahead(SGD, 5, 0.5), r"fast and slow .* jaxdeep.optimizers.lookahead, with the"),
    "examples": (
        optax.contrib.differentially_private_aggregate(1.0, 0.1, key=KEY),
        r"dpsgd needs a gradient for each example",
    ),
    "a mask": (optax.masked(optax.lbfgs(), matrices), r"made with mask_compatible_extra_args=True"),
    "flat": (optax.flatten(sam()), "flatten, cannot be around an optimizer that evaluates"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_optimizer_lacks_is_said_before_anything_is_compiled(case):
    tx, words = REFUSED[case]
    options = {"update_args": ("grad_fn",)} if case == "flat" else {}
    with pytest.raises(ValueError, match=words):
        fit(tx, **options)


def test_an_argument_that_is_not_taken_can_be_left_out():
    with pytest.raises(TypeError, match=r"does not take 'value'; pass update_args=\('grad_fn',\)"):
        fit(optax.chain(sam()), update_args=("value", "grad_fn"))


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        ("grad_fn", TypeError, "update_args must be a list of names, such as .*got 'grad_fn'"),
        (("gradient",), ValueError, "update_args must be names among value, grad, value_fn"),
        ((3,), ValueError, r"got \(3,\)"),
    ],
)
def test_names_that_no_step_knows(names, kind, words):
    with pytest.raises(kind, match=words):
        fit(SGD, update_args=names)
    with pytest.raises(kind, match=words):
        jd.train.make_step(objective_of(network()), SGD, update_args=names)


# --- what is kept with a run --------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_checkpoint_knows_what_the_update_is_passed(tmp_path):
    value_only = optax.GradientTransformationExtraArgs(SGD.init, SGD.update)
    fit(value_only, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"arguments: update_args is absent there, .*'value'"):
        fit(value_only, checkpoint=tmp_path, update_args=("value",))


@pytest.mark.heavy
def test_layers_are_measured_under_a_line_search():
    model = network()
    params, state = model.init(KEY, X)
    tx = optax.lbfgs()
    flow = jd.diagnostics.gradient_flow(
        model, params, state, BATCH, loss=jd.losses.mse, optimizer=tx, key=KEY
    )
    loss = lambda p: objective_of(model)(p, state, BATCH, key=KEY, train=True)[0]  # noqa: E731
    value, grads = jax.value_and_grad(loss)(params)
    updates, _ = tx.update(grads, tx.init(params), params, value=value, grad=grads, value_fn=loss)
    ratio = optax.tree.norm(updates["out"]) / optax.tree.norm(params["out"])
    assert float(flow["out"].update_ratio) == pytest.approx(float(ratio), rel=1e-4)
