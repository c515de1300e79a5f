"""`average=`: the mean of E and of its gradients over samples of a training."""

import functools
import random

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.averaged import Averaged
from hypergrad.backend import Traces
from hypergrad.bound import bind_values
from problems import constant_rate, quadratic, ridge
from registry import METHODS

RATE, NOISE = "optimizer.learning_rate", "gaussian_noise.stddev"
SPACE = {
    RATE: hg.Float(0.01, 0.2, default=0.05),
    NOISE: hg.Float(0.05, 0.5, default=0.2),
}


def data(rows=12):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows + 5, 3))
    y = np.tanh(x[:, :1]) + 0.1 * draw.normal(size=(rows + 5, 1))
    return x[:rows], y[:rows], (x[rows:], y[rows:])


def build(optimizer=None, seed=None, noise_seed=None):
    initializer = "glorot_uniform"
    if seed is not None:
        initializer = keras.initializers.GlorotUniform(seed=seed)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.GaussianNoise(0.2, seed=noise_seed),
            keras.layers.Dense(3, "tanh", kernel_initializer=initializer),
            keras.layers.Dense(1, kernel_initializer=initializer),
        ]
    )
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.5)
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def problem_of(model, seed=3, **options):
    x, y, validation_data = data()
    options = {"hyperparameters": SPACE, "steps": 5, "batch_size": 4} | options
    return hg.Problem.from_model(
        model, x, y, validation_data=validation_data, seed=seed, **options
    )


def by_hand(problem, i, seed=3, **options):
    """Sample ``i`` as the problem of a model that was given its weights and seeds."""
    model = build()
    start = problem.sample(i).data["initial"]
    pairs = [
        *zip(model.trainable_variables, start.weights),
        *zip(model.non_trainable_variables, start.model_state),
    ]
    for variable, value in pairs:
        variable.assign(value)
    return problem_of(model, seed + i, **options)


@pytest.fixture(scope="module")
def averaged():
    keras.utils.set_random_seed(0)
    return problem_of(build(), average=3)


@pytest.fixture(scope="module")
def hand_made(averaged):
    return [by_hand(averaged, i) for i in range(3)]


@pytest.mark.parametrize(
    "method, tolerance",
    [(hg.Reverse(), 1e-12), (hg.Forward(), 1e-12), (hg.FiniteDifference(), 1e-12)],
    ids=["Reverse", "Forward", "FiniteDifference"],
)
def test_the_mean_of_problems_made_by_hand(averaged, hand_made, method, tolerance):
    h = hg.hypergradient(averaged, {RATE: 0.08}, method)
    each = [hg.hypergradient(p, {RATE: 0.08}, method) for p in hand_made]
    assert h.status.ok
    losses = [one.loss for one in each]
    assert len(set(losses)) == 3
    assert h.loss == pytest.approx(np.mean(losses), rel=1e-14)
    np.testing.assert_allclose(h.info["samples"]["loss"], losses, rtol=1e-14)
    for name in SPACE:
        gradients = [one.gradient[name] for one in each]
        assert h.gradient[name] == pytest.approx(np.mean(gradients), rel=tolerance)
        found = h.info["samples"]["gradient"][name]
        np.testing.assert_allclose(found, gradients, rtol=tolerance)
    assert h.metrics["mae"] == pytest.approx(np.mean([o.metrics["mae"] for o in each]))
    assert h.info["samples"]["metrics"][1] == pytest.approx(each[1].metrics)
    np.testing.assert_allclose(
        h.info["train_losses"], np.mean([o.info["train_losses"] for o in each], axis=0)
    )
    assert h.info["runs"] == pytest.approx(sum(one.info["runs"] for one in each))
    for found, wanted in zip(
        h.info["final_state"].weights, each[0].info["final_state"].weights
    ):
        np.testing.assert_array_equal(found, wanted)


@functools.lru_cache(maxsize=2)
def of_functions(rule_numbers):
    """A problem of functions with two samples, that differ in their start."""
    form = constant_rate() if rule_numbers else ridge()
    data = form.problem.data
    start = np.full(np.shape(data["start"]), 0.5)
    samples = {"data": data | {"start": start}}
    return form.problem.replace(num_steps=7, samples=lambda i: samples, average=2)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_averages(averaged, method):
    made = method.make()
    problem = of_functions(method.rule_numbers)
    if method.momentum_only:
        problem = averaged.replace(average=2)
    h = hg.hypergradient(problem, method=made)
    parts = [hg.hypergradient(problem.sample(i), method=made) for i in range(2)]
    assert h.status.ok
    assert len(set(h.info["samples"]["loss"])) == 2
    means = {n: np.mean([p.gradient[n] for p in parts], axis=0) for n in problem.space}
    for name, mean in means.items():
        np.testing.assert_allclose(h.gradient[name], mean, rtol=1e-12)
    # Each sample is swept before the next one is run,
    values, over = problem.values(), Averaged(made)
    for one in over.run(problem, values, sweep_follows=True).extra:
        assert one.tape.checkpoints is None and not one.tape.records
    # or all are run and then swept, as in a descent, from less as well.
    tape = over.run(problem, values)
    assert tape.loss == pytest.approx(h.loss, rel=1e-13)
    for given in (tape, tape._replace(records={})):
        found = over.sweep(problem, given)
        for name, mean in means.items():
            np.testing.assert_allclose(found.gradient[name], mean, rtol=1e-12)


def test_three_samples_compile_nothing_that_one_does_not():
    def traces(average):
        before = Traces.total
        problem = problem_of(build(), average=average)
        for method in (hg.Reverse(), hg.Forward(), hg.FiniteDifference(2)):
            hg.hypergradient(problem, method=method)
        hg.tune(problem, outer_steps=1, verbose=0)
        return Traces.total - before

    assert traces(3) == traces(1) > 5


def test_samples_differ_in_weights_random_states_and_batches(averaged):
    states = [averaged.sample(i).data["initial"] for i in range(3)]
    kernels = [np.asarray(s.weights[0]) for s in states]
    noise = [np.asarray(s.model_state[0]) for s in states]
    orders = [averaged.sample(i).batch(0) for i in range(3)]
    for kind in (kernels, noise, orders):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert not np.array_equal(kind[a], kind[b])
    own = averaged.keras.model.trainable_variables
    for a, b in zip(states[0].weights, own):
        np.testing.assert_array_equal(a, b.value)
    assert averaged.sample(2).average == 1
    with pytest.raises(ValueError, match="one of 0 … 2. Received: 3"):
        averaged.sample(3)


def test_the_same_samples_as_building_under_their_seed(averaged):
    keras.utils.set_random_seed(3 + 2)
    model = build()
    start = averaged.sample(2).data["initial"]
    for a, b in zip(start.weights, model.trainable_variables):
        np.testing.assert_array_equal(a, b.value)


def test_seeds_of_the_layers_stay_and_are_told():
    with pytest.warns(UserWarning, match="start from the same weights"):
        problem = problem_of(build(seed=1, noise_seed=2), average=2)
    h = hg.hypergradient(problem)
    assert len(set(h.info["samples"]["loss"])) == 2
    noise = [problem.sample(i).data["initial"].model_state[0] for i in range(2)]
    assert not np.array_equal(*noise)


def test_model_and_global_seeds_stay_bit_for_bit():
    from keras.src.random.seed_generator import global_seed_generator

    keras.utils.set_random_seed(7)
    model = build()
    problem_of(model)  # builds, as `fit` would
    keras.random.normal((1,))

    def seeds():
        state = np.random.get_state()
        return (
            random.getstate(),
            (state[1].tobytes(), *state[2:]),
            np.asarray(global_seed_generator().state.value).tobytes(),
            keras.src.utils.rng_utils.get_random_seed(),
        )

    before, seeds_before = everything_of(model), seeds()
    problem = problem_of(model, average=3)
    hg.hypergradient(problem)
    hg.tune(problem, outer_steps=1, screening=None, verbose=0)
    assert everything_of(model) == before
    assert seeds() == seeds_before


def everything_of(model):
    parts = [*model.variables, *model.optimizer.variables]
    return [(v.path, np.asarray(v.value).tobytes()) for v in parts]


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.5, use_ema=True),
        lambda: keras.optimizers.Adam(0.05, amsgrad=True),
        lambda: keras.optimizers.AdamW(0.05, clipnorm=1.0),
        lambda: keras.optimizers.Muon(0.05),
        lambda: keras.optimizers.Nadam(0.05),
    ],
)
def test_new_optimizers_are_those_of_a_new_model(make):
    """The state of a rule that starts afresh is that of an optimizer just built."""
    keras.utils.set_random_seed(0)
    problem = problem_of(build(make()), average=2, hyperparameters={RATE: SPACE[RATE]})
    model = build(make())
    start = problem.sample(1).data["initial"]
    for variable, value in zip(model.trainable_variables, start.weights):
        variable.assign(value)
    wanted = problem_of(model, 4, hyperparameters={RATE: SPACE[RATE]}).data["initial"]
    found, wanted = [s.optimizer_state for s in (start, wanted)]
    keras.tree.assert_same_structure(found, wanted)
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(wanted)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_is_not_trained_stays():
    model = build()
    model.layers[1].trainable = False
    model.compile("sgd", "mse", jit_compile=False)
    problem = problem_of(model, average=2, hyperparameters={RATE: SPACE[RATE]})
    states = [problem.sample(i).data["initial"] for i in range(2)]
    kernels = [
        [np.asarray(v) for v in s.model_state if np.shape(v) == (3, 3)] for s in states
    ]
    np.testing.assert_array_equal(*[k[0] for k in kernels])
    assert not np.array_equal(states[0].weights[0], states[1].weights[0])


def test_a_learned_start_is_the_start_of_all_samples():
    path = "initial.dense.kernel"
    start = np.full((3, 3), 0.25) + np.eye(3)
    space = {path: hg.Float(None, None, shape=(3, 3), default=start)}
    problem = problem_of(build(), average=2, hyperparameters=space)
    h = hg.hypergradient(problem)
    each = [
        hg.hypergradient(by_hand(problem, i, hyperparameters=space)) for i in range(2)
    ]
    mean = np.mean([one.gradient[path] for one in each], axis=0)
    np.testing.assert_allclose(h.gradient[path], mean, rtol=1e-11)
    for i in range(2):
        sample = problem.sample(i)
        bound = bind_values(sample, sample.values())
        state = sample.call_init(bound.shared, sample.data)
        np.testing.assert_allclose(state.weights[0], start)


def test_a_sample_that_diverges_is_named():
    def samples(i):
        data = quadratic().data
        return {"data": data | {"start": np.full(4, np.nan if i == 2 else 0.5)}}

    problem = constant_rate().problem.replace(samples=samples, average=3)
    h = hg.hypergradient(problem)
    assert not h.status.ok and h.status.step == 0
    assert h.status.reason.startswith("Sample 2: ")
    assert np.isnan(h.loss) and np.isnan(h.gradient["rate"])
    assert np.isfinite(h.info["samples"]["loss"]).tolist() == [True, True, False]
    assert [s.ok for s in h.info["samples"]["status"]] == [True, True, False]
    with pytest.raises(hg.NonFiniteError, match="Sample 2"):
        hg.hypergradient(problem, raise_on_failure=True)
    assert hg.hypergradient(problem.replace(average=2)).status.ok


def test_problems_of_functions():
    form = constant_rate()
    starts = [form.problem.data["start"], np.full(4, 0.5), np.full(4, -2.0)]

    def samples(i):
        return {"data": form.problem.data | {"start": starts[i]}}

    problem = form.problem.replace(samples=samples, average=3)
    h = hg.hypergradient(problem, form.values)
    gradients = []
    for start in starts:
        data = form.problem.data | {"start": start}
        one = hg.hypergradient(form.problem.replace(data=data), form.values)
        gradients.append(one.gradient["rate"])
    assert h.gradient["rate"] == pytest.approx(np.mean(gradients), rel=1e-13)
    other = form.problem.replace(
        samples=lambda i: {"batches": lambda t: np.int32(t + 100 * i)}, average=2
    )
    assert other.sample(1).batch(3) == 103 and other.sample(0).batch(3) == 3


@pytest.mark.parametrize(
    "average", [0, -1, 1.5, True, "2", None], ids=lambda value: repr(value)
)
def test_bad_numbers_of_samples(average, averaged):
    text = "`average` must be an integer of at least 1"
    with pytest.raises(ValueError, match=text):
        problem_of(build(), average=average)
    with pytest.raises(ValueError, match=text):
        averaged.replace(average=average)
    with pytest.raises(ValueError, match=text):
        constant_rate().problem.replace(average=average)


def test_functions_without_samples_are_refused():
    problem = constant_rate().problem
    with pytest.raises(ValueError, match="have no seed.*Pass `samples=`"):
        problem.replace(average=2)
    with pytest.raises(TypeError, match="`samples` must be a function"):
        problem.replace(samples=3)
    for returned, error, text in (
        ({}, ValueError, "must return a dict with 'data', 'batches'"),
        ({"init": 1}, ValueError, r"Received: \['init'\]"),
        ({"data": {"H": 1.0}}, ValueError, "data of the form of `data`"),
        ({"batches": 3}, TypeError, "a function of the step"),
    ):
        bad = problem.replace(samples=lambda i, given=returned: given, average=2)
        with pytest.raises(error, match=text):
            bad.sample(1)


class Opaque(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        raise NotImplementedError("no configuration")


def opaque():
    model = Opaque(1)
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    return model


def test_models_that_cannot_be_cloned_need_build_fn():
    options = {"hyperparameters": {RATE: SPACE[RATE]}, "average": 2}
    with pytest.raises(ValueError, match="cannot be cloned.*`build_fn=`"):
        problem_of(opaque(), **options)
    alone = problem_of(opaque(), **{**options, "average": 1})
    with pytest.raises(ValueError, match="cannot be cloned.*`build_fn=`"):
        alone.replace(average=2)
    h = hg.hypergradient(problem_of(opaque(), build_fn=opaque, **options))
    assert len(set(h.info["samples"]["loss"])) == 2
    with pytest.raises(ValueError, match="other variables than the model"):
        problem_of(opaque(), build_fn=build, **options)


def test_a_folder_of_one_sweep_is_refused(averaged, tmp_path):
    with pytest.raises(ValueError, match="`resume_dir` holds one run.*average=3"):
        hg.hypergradient(averaged, method=hg.Reverse(resume_dir=tmp_path))


OPTIONS = {
    "hyperparameters": SPACE,
    "steps": 5,
    "batch_size": 4,
    "verbose": 0,
    "average": 2,
}


def test_tune_descends_the_mean():
    x, y, validation_data = data()
    model = build()
    result = hg.tune(
        model, x, y, validation_data=validation_data, outer_steps=4, **OPTIONS
    )
    problem = problem_of(model, 0, average=2)
    assert result.loss < result.start["loss"]
    h = hg.hypergradient(problem, result.values)
    assert result.loss == pytest.approx(h.loss, rel=1e-12)
    assert result.history["runs"][0] == 2.0
    sweep = hg.Reverse().runs(problem) - 1.0
    kinds = result.history["kind"]
    swept = sum(np.isfinite(result.history[f"gradient_norm.{RATE}"]))
    assert result.runs == pytest.approx(2 * (len(kinds) + sweep * swept))
    for found, wanted in zip(
        result.model.trainable_variables, h.info["final_state"].weights
    ):
        np.testing.assert_allclose(found.value, wanted, rtol=1e-12)
    assert "mean over 2 samples" in result.summary()


def test_tune_goes_on_after_a_kill(tmp_path):
    keras.utils.set_random_seed(0)
    problem = problem_of(build(), average=2)
    options = {"outer_steps": 4, "verbose": 0, "screening": None}
    whole = hg.tune(problem, **options)

    class Kill(hg.callbacks.Callback):
        def on_outer_step_begin(self, step, logs=None):
            if step == 2:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        hg.tune(problem, directory=tmp_path, callbacks=[Kill()], **options)
    with pytest.raises(ValueError, match="average: 2 there, absent here"):
        hg.tune(problem.replace(average=1), directory=tmp_path, **options)
    resumed = hg.tune(problem, directory=tmp_path, **options)
    for name in (*SPACE, "val_loss", "runs", "kind"):
        assert resumed.history[name] == whole.history[name]
    assert hg.tune(problem, directory=tmp_path, **options).loss == whole.loss


def test_budgets_count_every_sample():
    keras.utils.set_random_seed(0)
    problem = problem_of(build(), average=2)
    found = hg.search(problem, "random", budget=7, verbose=0)
    assert found.runs == 6.0 and len(found.history["kind"]) == 3
    losses = hg.hypergradient(problem, found.values).info["samples"]["loss"]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-12)
    tuned = hg.tune(problem, budget=20, verbose=0)
    assert 12 < tuned.runs <= 20
    for verb in (hg.tune, hg.search):
        with pytest.raises(ValueError, match="each of the 2 samples.*Received: 1 runs"):
            verb(problem, budget=1, verbose=0)


def test_a_dataset_keeps_its_order():
    x, y, validation_data = data()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)]
    problem = hg.Problem.from_model(
        build(),
        (batch for batch in batches),
        validation_data=validation_data,
        steps=3,
        average=2,
        hyperparameters=SPACE,
    )
    np.testing.assert_array_equal(
        problem.sample(0).batch(1)["x"], problem.sample(1).batch(1)["x"]
    )
    assert len(set(hg.hypergradient(problem).info["samples"]["loss"])) == 2
