"""A Problem of functions: what it takes, what it refuses, what `replace` changes."""

import inspect
import re
from collections import namedtuple
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg

RATE = hg.Float(0.0, 1.0, default=0.25)
State = namedtuple("State", "weights")


def opaque(**parts: Any) -> hg.Problem:
    """w ← w − rate w from 2, three times: E = Σ w²."""
    given: dict[str, Any] = {
        "init": lambda h: {"w": ops.full((3,), 2.0)},
        "step": lambda s, h, t: ({"w": s["w"] - h["rate"] * s["w"]}, {}),
        "val_loss": lambda s, h: ops.sum(s["w"] ** 2),
        "num_steps": 3,
        "space": {"rate": RATE},
    }
    return hg.Problem(**given | parts)


def with_rule(aux: Any = None, info: Any = None, **parts: Any) -> hg.Problem:
    """The same by a gradient and a rule."""
    given: dict[str, Any] = {
        "init": lambda h: State(ops.full((3,), 2.0)),
        "train_loss": lambda w, s, h, t: (0.5 * ops.sum(w**2), aux),
        "update": lambda g, s, h, aux: (State(s.weights - h["rate"] * g), info),
        "val_loss": lambda s, h: ops.sum(s.weights**2),
        "num_steps": 3,
        "space": {"rate": RATE},
    }
    return hg.Problem(**given | parts)


EXPECTED = 12.0 * 0.75**6
SLOPE = -12.0 * 6 * 0.75**5


def agrees(problem: hg.Problem, *methods: Any) -> None:
    for method in methods or (hg.Reverse(),):
        h = hg.hypergradient(problem, method=method)
        assert h.loss == pytest.approx(EXPECTED, rel=1e-6)
        assert h.gradient["rate"] == pytest.approx(SLOPE, rel=1e-6)


def says(error: Any, *words: str) -> None:
    text = re.sub(r"\s+", " ", str(error.value))
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"


def refused(kind: type[Exception], *words: str, call: Any) -> None:
    with pytest.raises(kind) as error:
        call()
    says(error, *words)


# What users may write


def test_none_for_an_aux_and_in_a_state() -> None:
    agrees(with_rule(), hg.Reverse(), hg.Reverse("all"))

    def step(s: Any, h: Any, t: Any) -> Any:
        return {"w": s["w"] - h["rate"] * s["w"], "slot": None}, None

    start = {"w": np.full(3, 2.0), "slot": None}
    agrees(opaque(init=lambda h: start, step=step), hg.Reverse(), hg.Reverse("all"))


def test_python_numbers_for_a_start_trace_once() -> None:
    problem = opaque(
        init=lambda h: {"w": 2.0, "n": 0},
        step=lambda s, h, t: ({"w": s["w"] - h["rate"] * s["w"], "n": s["n"] + 1}, {}),
        val_loss=lambda s, h: 3.0 * s["w"] ** 2,
        num_steps=3,
    )
    agrees(problem)
    counts = [p.traces for p in problem._programs.values() if hasattr(p, "traces")]
    assert set(counts) == {1}


@pytest.mark.float32
def test_float64_arrays_become_floatx() -> None:
    goal = np.zeros(3)  # float64
    problem = opaque(
        init=lambda h, d: {"w": ops.full((3,), 2.0)},
        step=lambda s, h, b, d: ({"w": s["w"] - h["rate"] * (s["w"] - b - d)}, {}),
        val_loss=lambda s, h, d: ops.sum(s["w"] ** 2),
        data=goal,
        batches=lambda t: goal * t,
    )
    agrees(problem)
    assert problem.batch(0).dtype == "float32"


@pytest.mark.float32
def test_values_stay_inside_their_range_in_float32() -> None:
    seen = opaque(
        space={"rate": hg.Float(0.0, 0.1, default=0.1)},
        val_loss=lambda s, h: h["rate"] + 0.0 * ops.sum(s["w"]),
    )
    assert float(np.float64(hg.hypergradient(seen).loss)) <= 0.1


def test_training_losses_of_opaque_steps() -> None:
    assert np.isnan(hg.hypergradient(opaque()).info["train_losses"]).all()
    told = opaque(
        step=lambda s, h, t: (
            {"w": s["w"] - h["rate"] * s["w"]},
            {"loss": ops.sum(s["w"])},
        )
    )
    losses = hg.hypergradient(told).info["train_losses"]
    assert losses == pytest.approx([6.0, 4.5, 3.375])


def test_the_signature_of_from_model() -> None:
    parameters = inspect.signature(hg.Problem.from_model).parameters
    assert {"x", "validation_data", "hyperparameters", "bind"} <= set(parameters)
    room = inspect.signature(hg.Problem.from_model.__globals__["Problem"].from_model)
    assert list(room.parameters) == list(parameters)
    assert "validation_split" in (hg.Problem.from_model.__doc__ or "")


# What is refused


def test_functions_that_return_something_else() -> None:
    good = opaque()
    for kind, problem, words in (
        (
            TypeError,
            opaque(step=lambda s, h, t: s),
            ("`step` must return a tuple (state, info)", "Received: dict of 1"),
        ),
        (
            ValueError,
            opaque(val_loss=lambda s, h: s["w"]),
            ("`val_loss` must be a scalar", "shape (3,)", "keras.ops.mean"),
        ),
        (
            TypeError,
            opaque(val_loss=lambda s, h: (ops.sum(s["w"]), {})),
            ("`val_loss` must be a scalar", "tuple of 2"),
        ),
        (
            TypeError,
            with_rule(train_loss=lambda w, s, h, t: ops.sum(w)),
            ("`train_loss` must return a tuple (loss, aux)",),
        ),
        (
            TypeError,
            with_rule(update=lambda g, s, h, aux: s),
            ("`update` must return a tuple (state, info)", "State of 1"),
        ),
        (
            TypeError,
            opaque(bind=lambda h: {"rate": np.sqrt(np.asarray(h["rate"]))}),
            ("part of `bind`", "calls NumPy", "`keras.ops`"),
        ),
        (
            TypeError,
            opaque(val_loss=lambda s, h: np.mean(np.asarray(s["w"]))),
            ("part of `val_loss`", "calls NumPy"),
        ),
    ):
        refused(kind, *words, call=lambda p=problem: hg.hypergradient(p))
    refused(
        TypeError,
        "`values` must be a dict",
        "Received: [0.1]",
        call=lambda: hg.hypergradient(good, [0.1]),
    )


@pytest.mark.parametrize("length", [2, 4])
def test_a_schedule_of_another_length(length: int) -> None:
    problem = opaque(bind=lambda h: {"rate": hg.PerStep(h["rate"] * ops.ones(length))})
    refused(
        ValueError,
        "`PerStep` of 'rate'",
        "each of the 3 steps",
        f"shape ({length},)",
        call=lambda: hg.hypergradient(problem),
    )


def test_values_for_examples_need_batches_of_indices() -> None:
    problem = opaque(
        bind=lambda h: {"rate": hg.PerExample(h["rate"] * ops.ones(4))},
        batches=lambda t: {"rows": np.arange(2)},
    )
    refused(
        ValueError,
        "`PerExample` of 'rate'",
        "Received: dict",
        call=lambda: hg.hypergradient(problem),
    )


# replace


def test_replaced_parts_are_checked_and_used() -> None:
    problem = opaque()
    agrees(problem)
    doubled = problem.replace(val_loss=lambda s, h: 2.0 * ops.sum(s["w"] ** 2))
    assert hg.hypergradient(doubled).loss == pytest.approx(2 * EXPECTED)
    assert doubled._programs is not problem._programs
    from_rate = problem.replace(init=lambda h: {"w": 8.0 * h["rate"] * ops.ones(3)})
    h = hg.hypergradient(from_rate)
    assert h.loss == pytest.approx(EXPECTED)
    # d/dr of 3 (8 r (1 − r)³)² at 1/4
    assert h.gradient["rate"] == pytest.approx(SLOPE + 2 * EXPECTED / 0.25)
    rule = with_rule()
    for kind, changes, words in (
        (TypeError, {"val_loss": 3}, ("`val_loss` must be a function", "3")),
        (TypeError, {"batches": 3}, ("`batches` must be a function",)),
        (TypeError, {"steps": 3}, ("parts of a Problem", "num_steps", "['steps']")),
        (ValueError, {"num_steps": 0}, ("`num_steps`",)),
        (
            ValueError,
            {"train_loss": rule.train_loss, "update": rule.update},
            ("either `step`, or", "`step=None`"),
        ),
        (ValueError, {"space": {"other": RATE}}, ("keep the names ['rate']",)),
        (
            ValueError,
            {"space": {"rate": RATE, "more": RATE}},
            ("keep the names", "['more', 'rate']"),
        ),
    ):
        refused(kind, *words, call=lambda c=changes: problem.replace(**c))
    by_rule = problem.replace(
        step=None,
        init=rule.init,
        train_loss=rule.train_loss,
        update=rule.update,
        val_loss=rule.val_loss,
    )
    agrees(by_rule)


class Gate(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.g = 0.5

    def call(self, x: Any) -> Any:
        return x * self.g if self.g > 0.2 else 0.0 * x


def test_a_problem_of_a_model_keeps_what_comes_from_it() -> None:
    x = np.linspace(-1.0, 1.0, 24).reshape(8, 3)
    model = keras.Sequential([keras.Input((3,)), Gate(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    problem = hg.Problem.from_model(
        model,
        x,
        x[:, :1],
        validation_data=(x, x[:, :1]),
        batch_size=4,
        hyperparameters={"gate.g": hg.Float(0.3, 1.0)},
    )
    for name in ("init", "val_loss", "train_loss", "update", "step", "bind"):
        refused(
            ValueError,
            "come from the model",
            name,
            "from_model",
            call=lambda n=name: problem.replace(**{n: lambda *a: a[0]}),
        )
    for name in ("train", "validation"):
        fewer = {**problem.data, name: {"x": x[:4], "y": x[:4, :1]}}
        refused(
            ValueError,
            "keep the names and shapes",
            f"'{name}.x': ((8, 3), (4, 3))",
            call=lambda d=fewer: problem.replace(data=d),
        )
    wider = {"gate.g": hg.Float(0.1, 1.0, default=0.5)}
    refused(
        ValueError,
        "decided an `if`",
        "[0.3, 1]",
        "(0.1, 1.0)".replace("(", "[").replace(")", "]"),
        call=lambda: problem.replace(space=wider),
    )
    narrow = problem.replace(space={"gate.g": hg.Float(0.4, 0.9, default=0.5)})
    assert narrow._programs is problem._programs
    refused(
        ValueError,
        "keep the shape ()",
        call=lambda: problem.replace(space={"gate.g": hg.Float(0.4, 0.9, shape=(2,))}),
    )
