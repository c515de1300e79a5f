"""Arrays as `fit` takes them: tables, tensors, files; on the device or the host."""

import tracemalloc
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import hypergrad as hg
from datasets import BATCH, RATE, WEIGHTS, X_VAL, Y_VAL, X, Y, model_of
from hypergrad import unroll
from hypergrad.data import Batches, HostBatches, HostRows, arrays, as_arrays, take

VALIDATION = (X_VAL, Y_VAL)


def problem_of(x: Any, y: Any, validation_data: Any = VALIDATION, **arguments: Any):
    return hg.Problem.from_model(
        model_of(),
        x,
        y,
        validation_data=validation_data,
        **{
            "hyperparameters": [RATE],
            "epochs": 2,
            "batch_size": BATCH,
            "seed": 3,
            **arguments,
        },
    )


def same(problem: hg.Problem, expected: hg.Problem) -> hg.Problem:
    """The same numbers to the last bit."""
    a, b = hg.hypergradient(problem), hg.hypergradient(expected)
    assert a.loss == b.loss and a.metrics == b.metrics and a.gradient[RATE] != 0
    for name, value in b.gradient.items():
        np.testing.assert_array_equal(a.gradient[name], value, err_msg=name)
    return problem


@pytest.fixture(scope="module")
def from_arrays() -> hg.Problem:
    keras.utils.set_random_seed(0)
    return problem_of(X, Y, sample_weight=WEIGHTS)


# Tables and tensors


def test_pandas_tables(from_arrays: hg.Problem) -> None:
    x, y = pd.DataFrame(X, columns=list("abc")), pd.Series(Y[:, 0], index=range(5, 25))
    validation = pd.DataFrame(X_VAL), pd.Series(Y_VAL[:, 0])
    weights = pd.Series(WEIGHTS)
    problem = problem_of(x, y, validation, sample_weight=weights)
    same(problem, from_arrays)


def test_tables_are_the_arrays_that_fit_makes_of_them() -> None:
    from keras.src.trainers.data_adapters import ArrayDataAdapter

    mixed = pd.DataFrame(
        {"a": [1.5, 2.5], "b": np.array([1, 2], "int8"), "c": [True, False]}
    )
    for table in (
        mixed,
        mixed[["a", "b"]],
        mixed[["b"]],
        mixed["a"],
        mixed["b"],
    ):
        expected = next(iter(ArrayDataAdapter(table).get_numpy_iterator()))
        made = as_arrays(table, "`x`")
        np.testing.assert_array_equal(made, expected.astype(made.dtype))
        assert made.ndim == 2
        assert made.dtype == expected.dtype or expected.dtype.kind in "fO"


@pytest.mark.parametrize(
    ("column", "kind", "words"),
    [
        (["x", "y"], TypeError, ("column 'b' is of dtype", "Encode it as numbers")),
        (pd.Categorical(["x", "y"]), TypeError, ("column 'b' is of dtype category",)),
        (pd.to_datetime(["2020", "2021"]), TypeError, ("'b' is of dtype datetime",)),
        (pd.array([1, None], dtype="Int64"), ValueError, ("`x` must be finite", "NaN")),
        ([1.0, None], ValueError, ("`x` must be finite", "1 NaN")),
    ],
)
def test_columns_that_are_no_numbers(column: Any, kind: type, words: tuple) -> None:
    with pytest.raises(kind) as error:
        as_arrays(pd.DataFrame({"a": [1.0, 2.0], "b": column}), "`x`")
    for word in words:
        assert word in str(error.value)


def test_tensors_of_either_framework(from_arrays: hg.Problem) -> None:
    problem = problem_of(
        tf.constant(X),
        keras.ops.convert_to_tensor(Y),
        (keras.ops.convert_to_tensor(X_VAL), tf.constant(Y_VAL)),
        sample_weight=tf.constant(WEIGHTS),
    )
    same(problem, from_arrays)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (tf.sparse.eye(3), "tf.sparse.to_dense"),
        (tf.ragged.constant([[1.0], [2.0, 3.0]]), ".to_tensor()"),
    ],
)
def test_sparse_arrays_are_refused(value: Any, word: str) -> None:
    with pytest.raises(TypeError, match="`x` must hold dense arrays") as error:
        as_arrays(value, "`x`")
    assert word in str(error.value)


# Arrays that stay on the host


@pytest.fixture
def small_device(monkeypatch: Any) -> None:
    monkeypatch.setattr(arrays, "ON_DEVICE", 100)


def test_large_arrays_stay_on_the_host(
    small_device: None, from_arrays: hg.Problem
) -> None:
    problem = same(problem_of(X, Y, sample_weight=WEIGHTS), from_arrays)
    assert isinstance(problem.batches, HostBatches)
    assert problem.batch(0).keys() == {"x", "y", "sample_weight", "index"}
    for t in range(3):
        forms = [(v.shape, v.dtype.name) for v in problem.batch(t).values()]
        assert sorted(problem.form(t)) == sorted(forms)
    with pytest.raises(ValueError, match="measured part by part"):
        problem.val_loss(None, {}, problem.data)


def test_validation_rows_travel_in_chunks(
    small_device: None, from_arrays: hg.Problem, monkeypatch: Any
) -> None:
    import hypergrad.parts as room

    monkeypatch.setattr(room, "VALIDATION_ROWS", 5)
    problem = problem_of(X, Y, sample_weight=WEIGHTS)
    chunks = list(problem.validation_chunks)
    assert [len(chunk["x"]) for _, chunk in chunks] == [4, 4, 4]
    np.testing.assert_array_equal(
        np.concatenate([chunk["x"] for _, chunk in chunks]), X_VAL
    )
    h, whole = hg.hypergradient(problem), hg.hypergradient(from_arrays)
    assert h.loss == pytest.approx(whole.loss, rel=1e-12)
    assert h.gradient[RATE] == pytest.approx(whole.gradient[RATE], rel=1e-9)


def test_numbers_of_examples_with_arrays_on_the_host() -> None:
    x = X[:, 0].astype("float64")
    order = Batches(20, 8, seed=2)

    def hypergradient(batches: Any) -> Any:
        def step(state, hparams, batch, data):
            rows = take(data, batch) if batches is order else batch["x"]
            slope = keras.ops.mean(hparams["w"] * (state["m"] - rows))
            return {"m": state["m"] - slope}, {}

        problem = hg.Problem(
            init=lambda hparams, data: {"m": keras.ops.zeros(())},
            step=step,
            val_loss=lambda state, hparams, data: state["m"] ** 2,
            num_steps=5,
            space={"w": hg.Float(0.0, 1.0, shape=(20,), default=0.5)},
            batches=batches,
            data=x,
            bind=lambda hparams: {"w": hg.PerExample(hparams["w"])},
        )
        return hg.hypergradient(problem)

    plain = hypergradient(order)
    host = hypergradient(HostBatches(order, HostRows({"x": x})))
    np.testing.assert_array_equal(plain.gradient["w"], host.gradient["w"])
    assert np.all(plain.gradient["w"] != 0)


def test_weights_of_examples_are_tuned_with_arrays_on_the_host(
    monkeypatch: Any,
) -> None:
    named = {"data.sample_weight": hg.Float(0.0, 2.0)}
    plain = problem_of(X, Y, sample_weight=WEIGHTS, hyperparameters=named)
    monkeypatch.setattr(arrays, "ON_DEVICE", 100)
    host = problem_of(X, Y, sample_weight=WEIGHTS, hyperparameters=named)
    assert isinstance(host.batches, HostBatches)
    a, b = (hg.hypergradient(p).gradient["data.sample_weight"] for p in (plain, host))
    np.testing.assert_array_equal(a, b)
    assert np.all(a != 0)


def test_a_segment_is_as_long_as_its_batches_allow(
    small_device: None, monkeypatch: Any
) -> None:
    problem = problem_of(X, Y, epochs=None, steps=8, batch_size=10)
    size = 10 * (3 + 1) * np.dtype(keras.config.floatx()).itemsize + 10 * 4
    for limit, length in ((1, 1), (2 * size, 2), (2 * size - 1, 1), (2**28, 4)):
        monkeypatch.setattr(unroll, "TRAVELLING", limit)
        segments = unroll.plan(problem, 4)
        assert {s.capacity for s in segments} == {length}
        assert sum(s.length for s in segments) == 8


def mapped(path: Path, array: np.ndarray) -> np.memmap:
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def test_a_file_trains_as_the_arrays_in_it(
    tmp_path: Path, from_arrays: hg.Problem
) -> None:
    x = mapped(tmp_path / "x.npy", X.astype("float64"))
    problem = same(problem_of(x, Y, sample_weight=WEIGHTS), from_arrays)
    assert isinstance(problem.batches, HostBatches)
    text = problem.batches.fingerprint
    other = problem_of(mapped(tmp_path / "z.npy", X + 1), Y, sample_weight=WEIGHTS)
    assert problem_of(x, Y, sample_weight=WEIGHTS).batches.fingerprint == text
    assert other.batches.fingerprint != text


def test_a_file_is_never_copied_whole(tmp_path: Path) -> None:
    rows, width = 8000, 1000
    draw = np.random.default_rng(0)
    x = mapped(tmp_path / "x.npy", draw.normal(size=(rows, width)).astype("float16"))
    y = draw.normal(size=(rows, 1))
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    tracemalloc.start()
    problem = hg.Problem.from_model(
        model, x, y, validation_split=0.25, steps=8, hyperparameters=[RATE]
    )
    hg.Reverse().run(problem, problem.values())
    problem.batches.fingerprint
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * rows * width * np.dtype(keras.config.floatx()).itemsize


def test_numbers_of_a_file_are_checked(tmp_path: Path) -> None:
    x = X.copy()
    x[17, 1] = np.nan
    with pytest.raises(ValueError, match="`x` must be finite. Received 1 NaN"):
        problem_of(mapped(tmp_path / "x.npy", x), Y)
