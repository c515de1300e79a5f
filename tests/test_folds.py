"""Cross-validation: which rows are trained on, which measure, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg
from finite_differences import of_problem
from hypergrad.stacked import can_be_stacked, spread, stacked

ROWS, FOLDS = 17, 3
RATE = {"optimizer.learning_rate": hg.Float(1e-4, 1.0, sampling="log", default=0.05)}


def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    return x, x @ rng.normal(size=(2, 1)) + 0.1 * rng.normal(size=(ROWS, 1))


def build():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, "tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse")
    return model


def problem_of(**options):
    given = {"folds": FOLDS, "steps": 5, "batch_size": 4, "hyperparameters": RATE}
    return hg.Problem.from_model(build(), *arrays(), **(given | options))


@pytest.fixture(scope="module")
def problem():
    return problem_of()


def rows_of(sample, epochs=1):
    steps = epochs * sample.batches.steps_per_epoch
    return np.concatenate([sample.batch(t) for t in range(steps)])


def held_out(sample):
    """Which rows its validation data are."""
    x, _ = arrays()
    held = np.asarray(keras.ops.convert_to_numpy(sample.data["validation"]["x"]))
    return [int(np.argmin(np.abs(x - row).sum(axis=1))) for row in held]


def test_each_row_is_held_out_once_and_never_trained_on_then(problem):
    assert problem.average == FOLDS
    all_held = []
    for i in range(FOLDS):
        sample = problem.sample(i)
        trained, held = rows_of(sample), held_out(sample)
        assert len(trained) == len(set(trained)) == ROWS - ROWS // FOLDS
        assert len(held) == ROWS // FOLDS
        assert not set(trained) & set(held)
        assert set(trained) | set(held) == set(range(ROWS))
        all_held += held
    # 17 rows in three folds of five: two are always trained on.
    assert len(set(all_held)) == len(all_held) == 15
    assert all_held != sorted(all_held)  # at random
    ordered = problem_of(shuffle=False)
    assert [held_out(ordered.sample(i)) for i in range(3)] == [
        list(range(5)), list(range(5, 10)), list(range(10, 15))
    ]  # fmt: skip


def test_the_objective_is_the_mean_of_trainings_by_hand(problem):
    """Sample 0 is the model as it is; the others by a problem of plain arrays each."""
    x, y = arrays()
    values = problem.values({"optimizer.learning_rate": 0.1})
    losses = hg.evaluate(problem, values).info["samples"]["loss"]
    for i in range(FOLDS):
        sample = problem.sample(i)
        held = held_out(sample)
        model = build()
        initial = sample.data["initial"].weights
        for variable, value in zip(model.trainable_variables, initial):
            variable.assign(np.asarray(value))  # a copy
        model.optimizer.learning_rate = 0.1
        for step in range(5):
            rows = sample.batch(step)
            model.train_on_batch(x[rows], y[rows])
        assert model.evaluate(x[held], y[held], verbose=0) == pytest.approx(
            losses[i], rel=1e-5
        )
    assert hg.evaluate(problem, values).loss == pytest.approx(np.mean(losses))


def test_the_hypergradient_against_differences(problem):
    h = hg.hypergradient(problem)
    expected = of_problem(
        lambda values: float(hg.evaluate(problem, values).loss), problem.values()
    )
    difference = expected["optimizer.learning_rate"]
    assert h.gradient["optimizer.learning_rate"] == pytest.approx(
        difference.value, rel=1e-6, abs=3 * difference.error
    )


def test_weights_of_examples_have_the_numbers_of_all_rows():
    weights = hg.Float(0.0, None, shape=(ROWS,), default=1.0)
    problem = problem_of(
        hyperparameters={"data.sample_weight": weights}, batch_size=16, steps=1
    )
    gradient = hg.hypergradient(problem)
    of_samples = gradient.info["samples"]["gradient"]["data.sample_weight"]
    for i in range(FOLDS):
        held = held_out(problem.sample(i))
        assert np.all(of_samples[i][held] == 0.0)
        others = np.setdiff1d(np.arange(ROWS), held)
        assert np.all(of_samples[i][others] != 0.0)


def test_one_program_of_all_folds_gives_the_same(problem):
    assert can_be_stacked(problem)
    values = problem.values()
    whole = stacked(problem)
    tape = hg.Reverse().run(whole, spread(problem, values))
    losses = hg.evaluate(problem, values).info["samples"]["loss"]
    np.testing.assert_allclose(tape.metrics["loss"], losses, rtol=1e-6)


def test_implicit_solves_with_the_rows_that_were_trained_on():
    l2 = {"dense.kernel_regularizer.l2": hg.Float(1e-6, 1.0, sampling="log")}
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, kernel_regularizer=keras.regularizers.L2())]
    )
    model.compile(keras.optimizers.SGD(0.3), "mse")
    x, y = arrays()
    options = {"hyperparameters": l2, "steps": 200, "batch_size": 12, "shuffle": False}
    problem = hg.Problem.from_model(model, x, y, folds=3, **options).sample(1)
    trained = np.sort(rows_of(problem))
    plain = hg.Problem.from_model(
        model, x[trained], y[trained], validation_data=(x[5:10], y[5:10]), **options
    )
    plain = plain.replace(data={**plain.data, "initial": problem.data["initial"]})
    method = hg.Implicit()
    ours, theirs = (hg.hypergradient(p, method=method) for p in (problem, plain))
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    for name, gradient in theirs.gradient.items():
        assert ours.gradient[name] == pytest.approx(gradient, rel=1e-6)


def test_classes_are_weighed_in_training_alone():
    x, y = arrays()
    labels = (y > 0).astype("int32")
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    problem = hg.Problem.from_model(
        model, x, labels, folds=3, class_weight={0: 1.0, 1: 3.0},
        steps=2, batch_size=4, hyperparameters=RATE,
    )  # fmt: skip
    for i in range(3):
        sample = problem.sample(i)
        assert "sample_weight" in sample.data["train"]
        assert "sample_weight" not in sample.data["validation"]


def test_twice_the_folds_and_a_tune(tmp_path):
    twice = problem_of(average=6, resample="each_step")
    assert twice.average == 6
    assert held_out(twice.sample(4)) == held_out(twice.sample(1))
    first, second = (twice.sample(i).data["initial"].weights[0] for i in (1, 4))
    assert not np.allclose(first, second)
    drawn = twice.draw(1).sample(0)
    assert held_out(drawn) == held_out(twice)
    options = {"outer_steps": 1, "screening": None, "verbose": 0}
    result = hg.tune(problem_of(), directory=tmp_path, **options)
    assert result.model.count_params() == build().count_params()
    with pytest.raises(ValueError, match="batches"):
        hg.tune(problem_of(folds=4), directory=tmp_path, **options)


def test_a_tune_of_a_model_takes_folds():
    result = hg.tune(
        build(), *arrays(), folds=3, steps=2, batch_size=4, hyperparameters=RATE,
        outer_steps=1, screening=None, verbose=0,
    )  # fmt: skip
    assert result.runs % 1 == 0 or result.runs > 3
    assert any("mean over 3 samples" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"folds": 1}, "`folds` must be an integer from 2 to the number of rows, 17"),
        ({"folds": 18}, "`folds` must be an integer from 2 to the number of rows, 17"),
        ({"folds": 2.0}, "`folds` must be an integer from 2"),
        (
            {"validation_data": arrays()},
            "`folds` makes validation data of the training",
        ),
        ({"validation_split": 0.2}, "`folds` makes validation data of the training"),
        ({"average": 4}, "`average` must be a multiple of folds=3"),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(ValueError, match=text):
        problem_of(**options)


def test_what_has_no_rows_has_no_folds(tmp_path):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            x, y = arrays()
            return x[:4], y[:4]

    options = {"hyperparameters": RATE, "folds": 3}
    with pytest.raises(ValueError, match="`folds` splits arrays. Received: `x` is"):
        hg.Problem.from_model(build(), Data(), **options)
    x, y = arrays()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="`folds` needs arrays that fit on the device"):
        hg.Problem.from_model(build(), mapped, y, **options)
