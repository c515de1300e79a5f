"""Every layer of Keras: hypergradients of short runs equal finite differences."""

import inspect
from typing import Any, NamedTuple

import keras
import pytest
from keras import layers

import hypergrad as hg
import layer_cases
from finite_differences import central
from hypergrad import backend
from layer_cases import CASES, Case

pytestmark = pytest.mark.filterwarnings("ignore:.* while a training run is diff")

NOT_TRAINED_THROUGH = {
    "Layer": "abstract",
    "Wrapper": "abstract",
    "InputSpec": "no layer",
    "TextVectorization": "strings",
    "StringLookup": "strings",
    "HashedCrossing": "strings or pairs, outside of the model",
    "MaxNumBoundingBoxes": "boxes, outside of the model",
    "SpectralNormalization": "refused, see test_bad_input.py",
    "AugMix": "refused, see below",
    "TorchModuleWrapper": "torch",
    "FlaxLayer": "needs flax",
    "JaxLayer": "JAX alone",
    "TFSMLayer": "a saved inference function without trainable weights",
}
"""Public layers that are in no case, each with the reason."""


class Judge(NamedTuple):
    """How well differences can know a derivative in a precision."""

    step: float
    levels: int
    relative: float


JUDGES = {"float64": Judge(0.02, 11, 1e-6), "float32": Judge(0.2, 4, 0.02)}


def check(problem: hg.Problem, values: dict[str, float]) -> float:
    """The largest relative error of the hypergradient; fails where it is too large.

    Within 1e-6 relative + 3 × the error of the differences, itself at most 1e-6; in
    float32, where the differences know less, 2e-2 instead.
    """
    judge = JUDGES[keras.config.floatx()]
    method = hg.Reverse("all")
    h = hg.hypergradient(problem, values, method)
    assert h.status.ok, h.status
    wrong, errors = [], []
    for name, value in values.items():

        def along(x: float, name: str = name) -> float:
            return float(method.run(problem, problem.values({**values, name: x})).loss)

        expected = central(along, value, judge.step * value, judge.levels)
        found = float(h.gradient[name])
        error, size = abs(found - expected.value), abs(expected.value)
        # A derivative of 0 would agree with a layer that cuts it.
        known = expected.relative_error <= judge.relative and size > 1e-8
        if not known or not error <= judge.relative * size + 3 * expected.error:
            wrong.append(f"{name}: {found!r} where differences say {expected}")
        errors.append(error / max(size, 1e-300))
    assert not wrong, "\n".join(wrong)
    return max(errors)


def cells() -> list:
    found = []
    for name, case in CASES.items():
        if backend.name in case.backends:
            marks = [pytest.mark.slow] if case.slow else []
            if backend.name not in case.float64:
                marks.append(pytest.mark.float32)
            found.append(pytest.param(case, id=name, marks=marks))
    return found


@pytest.mark.parametrize("case", cells())
def test_hypergradients_equal_differences(case: Case, record_property: Any) -> None:
    error = check(*case.problem())
    record_property("relative_error", error)


@pytest.mark.skipif(backend.name != "tensorflow", reason="JAX compiles always")
@pytest.mark.parametrize(
    "name",
    ["upsampling", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm", "gru"))],
)
def test_under_xla(name: str, record_property: Any) -> None:
    problem, values = CASES[name].problem(jit_compile=True)
    record_property("relative_error", check(problem, values))
    assert problem.uses_xla


def test_every_public_layer_is_in_a_case_or_has_a_reason() -> None:
    public = {
        value
        for value in vars(layers).values()
        if inspect.isclass(value) and value.__module__.startswith("keras.")
    }
    held = {type(part) for case in CASES.values() for part in _parts(case.model())}
    reasons = {getattr(layers, name) for name in NOT_TRAINED_THROUGH}
    missing = public - held - reasons
    assert not missing, sorted(layer.__name__ for layer in missing)
    needless = held & reasons
    assert not needless, sorted(layer.__name__ for layer in needless)


def _parts(model: keras.Model) -> list:
    """The layers of a model and those inside of them, cells included."""
    return list(model._flatten_layers())


def refused_model(*parts: keras.Layer) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(layer_cases.IMAGE),
            layers.Dense(3),
            *parts,
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    return model


def problem_of(model: keras.Model) -> hg.Problem:
    x, y = CASES["conv-2d"].data()
    return hg.Problem.from_model(
        model,
        x[:6],
        y[:6],
        validation_data=(x[6:], y[6:]),
        batch_size=3,
        hyperparameters={"optimizer.learning_rate": hg.Float(0.01, 0.5, default=0.1)},
    )


def test_a_layer_that_draws_in_python_is_refused() -> None:
    model = refused_model(layers.AugMix(value_range=(0, 1)))
    with pytest.raises(ValueError, match="Python's `random`.*`RandAugment`"):
        problem_of(model)


def test_a_quantized_layer_is_refused() -> None:
    quantized = layers.Dense(2)
    model = refused_model(quantized)
    quantized.quantize("int8")
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    with pytest.raises(ValueError, match="is quantized.*before `quantize`"):
        problem_of(model)


@pytest.mark.skipif(backend.name != "tensorflow", reason="JAX' gradients are exact")
@pytest.mark.parametrize("kind", [layers.RandomZoom, layers.RandomHue])
def test_an_inexact_gradient_by_an_image_is_refused(kind: type) -> None:
    problem = problem_of(refused_model(kind(0.3, seed=1)))
    with pytest.raises(NotImplementedError, match="before the first trained layer"):
        hg.hypergradient(problem)
