"""A dataset trains as `fit` trains on it, and as arrays of the same rows do."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import hypergrad as hg
from datasets import (
    BATCH,
    KINDS,
    ONCE,
    RATE,
    ROWS,
    WEIGHTS,
    X_VAL,
    Y_VAL,
    Noisy,
    Reshuffled,
    Rows,
    X,
    Y,
    endless_generator,
    generator,
    model_of,
    tf_dataset,
)
from hypergrad.backend.contract import Traces
from hypergrad.data import AbstractBatches, Stream, stream
from hypergrad.data.batches import permutation
from hypergrad.data_checks import Passes, checked_training_data

VALIDATION = (X_VAL, Y_VAL)
BOTH = [RATE, "optimizer.momentum"]
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}

# JAX' threads warn where grain or TensorFlow fork; nothing forks here while it counts.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning"),
    # Of `fit`, where it finds the end of a dataset of unknown length.
    pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning"),
]


def problem_of(x: Any, y: Any = None, model: Any = None, **arguments: Any) -> Any:
    return hg.Problem.from_model(
        model_of() if model is None else model,
        x,
        y,
        **{
            "validation_data": VALIDATION,
            "hyperparameters": BOTH,
            "shuffle": False,
            **arguments,
        },
    )


def batches_of(x: Any, y: Any = None, weights: Any = None, **how: Any) -> Any:
    """The batches that training is given."""
    class_weight = how.pop("class_weight", None)
    passes = Passes(**{"shuffle": False, **how})
    data, _ = checked_training_data(x, y, weights, class_weight, 0.0, None, passes)
    return data.batches


def same_rows(
    batches: AbstractBatches, expected: AbstractBatches, *arrays: Any
) -> None:
    """The rows of ``arrays`` (x, y, …) that ``expected`` has the indices of."""
    names = ("x", "y", "sample_weight")
    assert isinstance(batches, Stream)
    for t in range(len(batches)):
        batch, index = batches(t), expected(t)
        assert batch.keys() == set(names[: len(arrays)])
        for name, array in zip(names, arrays):
            np.testing.assert_array_equal(batch[name], array[index])
            assert batch[name].dtype == keras.config.floatx()


def run(problem: hg.Problem) -> Any:
    return hg.Reverse().run(problem, problem.values())


def same(problem: hg.Problem, expected: hg.Problem) -> None:
    """The same numbers to the last bit."""
    a, b = hg.hypergradient(problem), hg.hypergradient(expected)
    assert problem.num_steps == expected.num_steps
    assert a.status.ok and a.loss == b.loss
    assert a.metrics == b.metrics
    for name, value in b.gradient.items():
        np.testing.assert_array_equal(a.gradient[name], value, err_msg=name)
        assert np.all(value != 0)
    np.testing.assert_array_equal(a.info["train_losses"], b.info["train_losses"])


def agrees_with_fit(problem: hg.Problem, model: keras.Model, *data: Any, **how: Any):
    """The weights after a run are those after ``model.fit``."""
    model.fit(*data, verbose=0, **how)
    tolerance = TOLERANCE[keras.config.floatx()]
    for ours, theirs in zip(
        run(problem).final.weights, model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def made(kind: str, *arrays: Any, epochs: int = 1) -> tuple[Any, dict]:
    """(dataset that lasts for so many epochs, arguments that say how many)."""
    if kind in ONCE:
        return generator(*arrays, epochs=epochs), {}
    return KINDS[kind](*arrays), {"epochs": epochs}


@pytest.fixture(scope="module")
def arrays() -> hg.Problem:
    keras.utils.set_random_seed(0)
    return problem_of(X, Y, batch_size=BATCH, epochs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_gives_the_batches_of_arrays(kind: str) -> None:
    dataset, epochs = made(kind, X, Y, WEIGHTS, epochs=2)
    batches = batches_of(dataset, **epochs)
    assert len(batches) == 6
    order = batches_of(X, Y, batch_size=BATCH)
    same_rows(batches, order, X, Y, WEIGHTS)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "generator"])
def test_a_dataset_gives_the_numbers_of_arrays(kind: str, arrays: hg.Problem) -> None:
    dataset, epochs = made(kind, X, Y, epochs=2)
    validation, _ = made(kind, *VALIDATION)
    same(problem_of(dataset, validation_data=validation, **epochs), arrays)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "grain IterDataset"])
def test_a_dataset_trains_as_in_fit(kind: str) -> None:
    dataset, epochs = made(kind, X, Y, WEIGHTS, epochs=2)
    problem = problem_of(dataset, **epochs)
    dataset, epochs = made(kind, X, Y, WEIGHTS, epochs=2)
    agrees_with_fit(problem, model_of(), dataset, shuffle=False, **epochs)


@pytest.mark.float32
def test_a_dataset_of_float32_numbers() -> None:
    problem = problem_of(tf_dataset(X, Y), epochs=2)
    same(problem, problem_of(X, Y, batch_size=BATCH, epochs=2))
    agrees_with_fit(problem, model_of(), tf_dataset(X, Y), shuffle=False, epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_class_weights_of_a_dataset_are_those_of_fit(kind: str) -> None:
    from keras.src.trainers import data_adapters

    weights = {0: 0.5, 2: 2.0}
    for classes in (np.arange(ROWS) % 3, np.eye(3)[np.arange(ROWS) % 3]):
        batches = batches_of(KINDS[kind](X, classes), class_weight=weights)
        adapter = data_adapters.get_data_adapter(
            KINDS[kind](X, classes), class_weight=weights
        )
        for t, batch in enumerate(adapter.get_numpy_iterator()):
            np.testing.assert_array_equal(batches(t)["sample_weight"], batch[2])
        assert t == len(batches) - 1 == 2


def test_steps_of_a_dataset_cross_its_end() -> None:
    order = batches_of(X, Y, batch_size=BATCH)
    for dataset in (
        tf_dataset(X, Y),
        tf_dataset(X, Y).repeat(),
        endless_generator(X, Y),
        Rows(X, Y),
    ):
        batches = batches_of(dataset, steps=5)
        assert len(batches) == 5
        same_rows(batches, order, X, Y)


def test_a_dict_of_inputs() -> None:
    def model() -> keras.Model:
        inputs = {name: keras.Input((3,), name=name) for name in "ab"}
        dense = layers.Dense(1, kernel_initializer="ones")
        model = keras.Model(inputs, dense(inputs["a"] - 2.0 * inputs["b"]))
        model.compile(keras.optimizers.SGD(0.0625, momentum=0.5), "mse")
        return model

    both = {"a": X, "b": X[::-1].copy()}
    validation = ({"a": X_VAL, "b": X_VAL}, Y_VAL)
    dataset = tf.data.Dataset.from_tensor_slices((both, Y)).batch(BATCH)
    same(
        problem_of(dataset, model=model(), validation_data=validation),
        problem_of(both, Y, model(), batch_size=BATCH, validation_data=validation),
    )


# The same batch for the same step


def test_a_dataset_that_shuffles_is_drawn_once() -> None:
    dataset = tf_dataset(X, Y).unbatch().shuffle(ROWS).batch(BATCH)
    batches = batches_of(dataset, epochs=2)
    steps = [batches(t)["x"] for t in range(6)]
    assert not np.array_equal(steps[0], steps[3])  # another order for each epoch
    for t, rows in enumerate(steps):
        np.testing.assert_array_equal(rows, batches(t)["x"])
    epochs = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(X, axis=0))


def test_equal_batches_are_kept_once() -> None:
    batches = batches_of(tf_dataset(X, Y), epochs=4)
    assert len(batches) == 12
    assert len({id(batches(t)) for t in range(12)}) == 3


@pytest.mark.parametrize(("kept", "drawn_again"), [(0, 12), (300, 8), (2**30, 0)])
def test_a_py_dataset_is_indexed_anew(
    kept: int, drawn_again: int, monkeypatch: Any
) -> None:
    """256, 256 and 128 bytes: what does not fit into the room is drawn again."""
    monkeypatch.setattr(stream, "KEPT", kept)
    dataset = Rows(X, Y)
    batches = batches_of(dataset, epochs=2)
    assert dataset.asked == 5  # the first batch twice to compare, and each once
    for _ in range(2):
        same_rows(batches, batches_of(X, Y, batch_size=BATCH), X, Y)
    assert dataset.asked == 5 + drawn_again


def test_the_batches_of_a_py_dataset_are_shuffled_by_the_seed() -> None:
    batches = batches_of(Rows(X, Y), epochs=3, shuffle=True, seed=4)
    order = [permutation(3, True, 4, epoch) for epoch in range(3)]
    for t, i in enumerate(np.concatenate(order)):
        rows = X[i * BATCH : (i + 1) * BATCH]
        np.testing.assert_array_equal(batches(t)["x"], rows)
    assert len({tuple(o) for o in order}) > 1


def test_a_py_dataset_that_changes_between_epochs_does_so_as_in_fit() -> None:
    mine, theirs = Reshuffled(X, Y), Reshuffled(X, Y)
    problem = problem_of(mine, epochs=3)
    before = Traces.total
    agrees_with_fit(problem, model_of(), theirs, epochs=3, shuffle=False)
    run(problem)
    assert Traces.total == before + 3, "forward for each shape, and validation"
    assert mine.begun == 4  # `fit` looks at a batch before its first epoch
    np.testing.assert_array_equal(mine.arrays[0], theirs.arrays[0])


def test_a_py_dataset_that_draws_random_numbers_is_drawn_once() -> None:
    dataset = Noisy(X, Y)
    batches = batches_of(dataset, epochs=2)
    asked = dataset.asked
    np.testing.assert_array_equal(batches(1)["x"], batches(1)["x"])
    assert not np.array_equal(batches(0)["x"], batches(3)["x"])
    assert dataset.asked == asked


def test_a_py_dataset_that_changes_later_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "KEPT", 0)
    dataset = Rows(X, Y)
    batches = batches_of(dataset)
    dataset.arrays = (X + 1.0, Y)
    with pytest.raises(ValueError, match="Batch 0 of a PyDataset .* must be the same"):
        batches(0)


def test_a_later_step_than_was_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="`x`, a tf.data.*3 steps.*step 3.*`steps`"):
        batches_of(tf_dataset(X, Y))(3)


# Lengths that differ


def bucketed() -> list[tuple]:
    """Sequences of two lengths."""
    draw = np.random.default_rng(7)
    lengths = (5, 2, 5, 5, 2, 2)  # on TensorFlow `fit` learns from the first two
    return [(draw.normal(size=(4, n, 3)), draw.normal(size=(4, 1))) for n in lengths]


def over_sequences() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Dense(4, "tanh", kernel_initializer="ones"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.0625, momentum=0.5)
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def test_batches_of_several_lengths() -> None:
    problem = problem_of(
        (batch for batch in bucketed()),
        model=over_sequences(),
        validation_data=(batch for batch in bucketed()),
    )
    assert isinstance(problem.batches, Stream) and problem.batches.varies
    model = over_sequences()
    agrees_with_fit(problem, model, (b for b in bucketed()), shuffle=False)
    h = hg.hypergradient(problem)
    evaluated = model.evaluate((b for b in bucketed()), verbose=0, return_dict=True)
    tolerance = TOLERANCE[keras.config.floatx()]
    assert h.loss == pytest.approx(evaluated["loss"], rel=tolerance)
    assert h.metrics["mae"] == pytest.approx(evaluated["mae"], rel=tolerance)
    assert h.gradient[RATE] != 0


# Compilation, directories, results


def tuned(scale: float = 1.0, directory: Any = None, **arguments: Any) -> hg.Result:
    keras.utils.set_random_seed(1)
    dataset = tf_dataset(scale * X, Y).unbatch().shuffle(ROWS, seed=3).batch(BATCH)
    return hg.tune(
        model_of(),
        dataset,
        validation_data=tf_dataset(*VALIDATION),
        test_data=Rows(*VALIDATION),
        hyperparameters=[RATE],
        directory=directory,
        screening=None,
        outer_steps=3,
        verbose=0,
        **arguments,
    )


class Interrupting(hg.callbacks.Callback):
    def on_outer_step_end(self, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_tune_on_a_dataset_goes_on_to_the_same_numbers(
    tmp_path: Any,
) -> None:
    whole = tuned()
    part = tuned(1.0, tmp_path, callbacks=[Interrupting()])
    assert len(part.history["val_loss"]) < len(whole.history["val_loss"])
    again = tuned(1.0, tmp_path)
    assert again.history["val_loss"] == whole.history["val_loss"]
    assert again.values == whole.values
    assert again.test["tuned"]["loss"] == pytest.approx(again.loss, rel=1e-12)
    assert again.model.predict(X_VAL, verbose=0).shape == (12, 1)
    with pytest.raises(ValueError, match="batches: .*seed its shuffling"):
        tuned(2.0, tmp_path)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="about JAX")
def test_a_dataset_does_not_import_tensorflow_on_jax() -> None:
    code = """
import sys
import keras
import numpy as np
import hypergrad as hg

class Rows(keras.utils.PyDataset):
    def __len__(self): return 2
    def __getitem__(self, i): return np.ones((4, 3)) * i, np.ones((4, 1))

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
problem = hg.Problem.from_model(
    model, Rows(), validation_data=((np.ones((4, 3)), np.ones((4, 1))) for _ in "a"),
    hyperparameters=["optimizer.learning_rate"])
assert hg.hypergradient(problem).status.ok
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_other_data_for_a_dataset_are_refused() -> None:
    problem = problem_of(tf_dataset(X, Y))
    with pytest.raises(ValueError, match=r"`replace\(data=\)` is for arrays.*dataset"):
        problem.replace(data=problem.data)
