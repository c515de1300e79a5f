"""Bytes and seconds of a method, before it runs: counted, and not believed."""

import functools
import time
from collections import Counter

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.methods.work import nbytes
from nets import NETS, optimizer_of, problem_of
from problems import heavy_ball_update, on_quadratic, quadratic
from registry import METHODS, RULES

UNIT = hg.Float(0.0, 1.0, default=0.2)
REVERSE = {
    "all": hg.Reverse("all"),
    "sqrt": hg.Reverse("sqrt"),
    "log": hg.Reverse("log"),
    "3": hg.Reverse(3),
    "disk": hg.Reverse("log", offload="disk"),
    "host": hg.Reverse("sqrt", offload="host"),
    "truncated": hg.Truncated(6),
}


def momentum(rows=7, steps=17):
    """With a partial batch in each epoch."""
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", "bare")
    return problem_of(NETS["tanh"], optimizer, tuned, rows=rows, steps=steps)


def functional(num_steps=40):
    return on_quadratic(
        quadratic(),
        num_steps=num_steps,
        update=heavy_ball_update,
        space={"rate": UNIT, "momentum": UNIT},
    )


@pytest.fixture(scope="module", params=["keras", "functional"])
def problem(request):
    return momentum()[0] if request.param == "keras" else functional()


def work_of(problem, method):
    return method.work(problem, problem.values())


# Bytes


def kept(storage):
    """Bytes of the states that a storage holds."""
    if hasattr(storage, "directory"):
        return sum(path.stat().st_size for path in storage.directory.iterdir())
    return sum(nbytes(state) for state in storage._states.values())


@pytest.mark.parametrize("name", REVERSE)
def test_bytes_are_those_that_are_kept(problem, name):
    method = REVERSE[name]
    for key in [key for key in problem._programs if key[0] == "rooms"]:
        del problem._programs[key]
    tape = method.run(problem, problem.values())
    work = work_of(problem, method)
    states = work.device["states"] + work.host.get("states", 0) + work.disk
    assert states == kept(tape.checkpoints._storage)
    if backend.name != "jax":
        return  # TensorFlow's lists of tensors do not say how large they are
    stores_all = len(tape.records) > 1
    method.sweep(problem, tape)
    # The memory of records is used again, and the problem has it meanwhile.
    rooms = [v for k, v in problem._programs.items() if k[0] == "rooms"]
    inside = [len(unit) - 1 for unit in tape.units[-len(tape.checkpoints.units) :]]
    starts = sum(inside) if stores_all else max(inside)
    found = nbytes(rooms) + starts * nbytes(tape.start)
    assert 0 < found == work.device["records"]


def test_bytes_of_tangents_are_those_that_a_run_carries(problem):
    method = hg.Forward()
    tape = method.run(problem, problem.values(), sweep_follows=True)
    Z, directions = tape.extra
    found = 2 * nbytes(Z) + nbytes(directions.shared)
    assert found <= work_of(problem, method).device["tangents"] <= 1.25 * found


def test_bytes_of_lost_digits_are_about_those_that_are_kept():
    problem, _ = momentum(steps=100)
    work = work_of(problem, hg.Reversible())
    found = hg.hypergradient(problem, method=hg.Reversible()).info["kept_bytes"]
    estimated = work.device["lost"] + work.host["passed"]
    assert found / 1.5 <= estimated <= 1.5 * found


def test_bytes_of_values_for_each_step_and_example_are_counted():
    x, y = np.zeros((8, 3)), np.zeros((8, 1))
    model = NETS["tanh"].build()
    model.compile("sgd", "mse", jit_compile=False)
    problem = hg.Problem.from_model(
        model,
        x,
        y,
        validation_data=(x, y),
        steps=5,
        batch_size=4,
        hyperparameters={
            "data.sample_weight": hg.Float(0.0, 1.0, shape=(8,), default=0.5),
            "optimizer.learning_rate": hg.Schedule(
                hg.Float(0.0, 1.0, default=0.1), knots=2
            ),
        },
    )
    size = np.dtype(keras.config.floatx()).itemsize
    assert work_of(problem, hg.Reverse()).host["gradient"] == (8 + 5) * size


# Seconds: how often each program is called, and for how many steps

PROGRAMS = {"forward": "steps", "record": "records", "tangents": "tangents"}


def counted(problem, monkeypatch):
    """(calls, steps) of each program that is called from now on, by phase."""
    calls, steps = Counter(), Counter()

    def counting(name, program):
        def call(*args):
            length = next(a.length for a in args if hasattr(a, "per_example"))
            calls[name] += 1
            steps[name] += int(length)
            return program(*args)

        return call

    for key, program in list(problem._programs.items()):
        kind = key[0] if isinstance(key, tuple) else key
        if kind in ("sweep", "fused"):
            program = counting("sweep", program)
        elif kind in PROGRAMS:
            program = counting(PROGRAMS[kind], program)
        monkeypatch.setitem(problem._programs, key, program)
    return calls, steps


COUNTED = {**REVERSE, "forward": hg.Forward(), "forward, 1": hg.Forward(1)} | {
    "es": hg.EvolutionStrategies(2),
    "pes": hg.PersistentES(2, truncation=5),
}


@pytest.mark.parametrize("name", COUNTED)
def test_the_plan_is_what_is_run(problem, name, monkeypatch):
    method = COUNTED[name]
    hg.hypergradient(problem, method=method)
    phases = work_of(problem, method).phases
    calls, steps = counted(problem, monkeypatch)
    h = hg.hypergradient(problem, method=method)
    assert h.status.ok
    for phase, times in phases.items():
        kind = "tangents" if phase.startswith("steps with") else phase
        if phase != "steps" and kind not in calls:
            continue
        assert (calls[kind], steps[kind]) == (times.calls, times.steps), phase
    assert set(calls) <= {
        "tangents" if p.startswith("steps with") else p for p in phases
    }


@functools.cache
def small(rule_numbers):
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", "bare")
    return problem_of(NETS["tanh"], optimizer, tuned if rule_numbers else {})[0]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_has_an_estimate(method):
    problem = small(method.rule_numbers)
    before = [np.array(v) for v in problem.keras.model.variables]
    found = hg.estimate(problem, method.make())
    parts = found.parts
    assert found.seconds == sum(parts["seconds"].values()) > 0
    assert found.bytes == sum(parts["device"].values()) + sum(parts["host"].values())
    assert all(amount >= 0 for part in parts.values() for amount in part.values())
    for old, variable in zip(before, problem.keras.model.variables):
        np.testing.assert_array_equal(old, np.array(variable))
    text = str(found)
    assert type(method.make()).__name__ in text and "validation" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [hg.Reverse("all"), hg.Reverse("sqrt"), hg.Forward()], ids=str
)
def test_seconds_are_about_those_that_are_measured(method):
    problem, _ = momentum(rows=8, steps=400)
    hg.hypergradient(problem, method=method)
    estimated, measured = [], []
    for _ in range(5):  # in turns: another process slows both
        estimated.append(hg.estimate(problem, method).seconds)
        start = time.perf_counter()
        hg.hypergradient(problem, method=method)
        measured.append(time.perf_counter() - start)
    ratio = np.median(estimated) / np.median(measured)
    assert 1 / 3 <= ratio <= 3


# What is refused


def test_an_estimate_needs_a_problem_and_a_method(problem):
    with pytest.raises(TypeError, match="needs a hypergrad.Problem. Received: dict"):
        hg.estimate({})
    with pytest.raises(TypeError, match=r"must be a method such as hg.Reverse\(\)"):
        hg.estimate(problem, "Reverse")
    with pytest.raises(TypeError, match="Received: <class .*Reverse'>"):
        hg.estimate(problem, hg.Reverse)
    with pytest.raises(ValueError, match="must not exceed the"):
        hg.estimate(problem, hg.Reverse(10**6))


def test_a_method_beyond_the_free_memory_is_refused_with_those_that_fit(monkeypatch):
    problem = functional(num_steps=200)
    work = work_of(problem, hg.Reverse("all"))
    free = sum(work.device.values()) - 1
    monkeypatch.setattr(backend, "free_memory", lambda: (None, free))
    message = r"Reverse\(checkpoints='all'\) needs about .* T = 200\. Received: .*"
    with pytest.raises(ValueError, match=message + r"Reverse\(checkpoints='sqrt'\)"):
        hg.hypergradient(problem, method=hg.Reverse("all"))
    with pytest.raises(ValueError, match=message + r"Forward\(\) needs about"):
        hg.tune(problem, method=hg.Reverse("all"), outer_steps=1, verbose=0)
    assert hg.hypergradient(problem, method=hg.Reverse("sqrt")).status.ok
    monkeypatch.setattr(backend, "free_memory", lambda: (None, 10))
    with pytest.raises(ValueError, match="No exact method fits"):
        hg.hypergradient(problem, method=hg.Reverse("all"))
    # What an accelerator holds is its own; the host has room.
    monkeypatch.setattr(backend, "free_memory", lambda: (free, 10.0**12))
    with pytest.raises(ValueError, match="offload='host'"):
        hg.hypergradient(problem, method=hg.Reverse("all"))
    # Where nobody knows, nothing is refused.
    monkeypatch.setattr(backend, "free_memory", lambda: (None, np.inf))
    assert hg.hypergradient(problem, method=hg.Reverse("all")).status.ok
