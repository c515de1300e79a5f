"""The exact method that is fastest: what is chosen, why, and that it stays chosen."""

import json

import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.backend import Traces
from hypergrad.callbacks import Callback
from hypergrad.methods.room import held
from hypergrad.methods.work import Clock
from problems import heavy_ball_update, on_quadratic, quadratic

SPACE = {
    "rate": hg.Float(0.0, 1.0, default=0.2),
    "momentum": hg.Float(0.0, 1.0, default=0.6),
}


def make(num_steps=200, space=SPACE, **parts):
    return on_quadratic(
        quadratic(),
        num_steps=num_steps,
        update=heavy_ball_update,
        space=space,
        **parts,
    )


def timed(problem, **seconds):
    """Lets a problem know what a step of each phase takes; calls take nothing."""
    clock = problem.remember("clock", Clock)
    phases = ("validation", "to disk", "from disk", "start of 1 tangents")
    for name in (*phases, "start of 2 tangents"):
        clock._known[name] = (1e-9, 0.0)
    names = {"tangents": "steps with 2 tangents", "tangent": "steps with 1 tangents"}
    for name, of_step in seconds.items():
        clock._known[names.get(name, name)] = (0.0, of_step)
    return problem


SWEEPING = {"steps": 1.0, "records": 1.0, "sweep": 3.0, "tangents": 9.0, "tangent": 5.0}
CARRYING = {**SWEEPING, "tangents": 2.0}


def bytes_of(problem, method):
    return held(method.work(problem, problem.values()))


def test_the_fastest_is_taken_and_says_why():
    for seconds, expected in ((SWEEPING, hg.Reverse("all")), (CARRYING, hg.Forward())):
        problem = timed(make(), **seconds)
        h = hg.hypergradient(problem, method=hg.Auto(1e9))
        assert h.info["method"] == expected
        for name in ("Reverse(checkpoints='all')", "Reverse(checkpoints='sqrt')"):
            assert name in h.info["why"]
        assert "of 1 GB and takes about" in h.info["why"]
        # 200 steps, by hand: all records once and one sweep; sqrt nearly all twice
        fastest = 200 * 4.0 if expected == hg.Reverse("all") else 200 * 2.0
        assert f"takes about {fastest:.2g} s" in h.info["why"]
        exact = hg.hypergradient(problem, method=hg.Reverse())
        assert h.info["runs"] == expected.runs(problem)
        for name, value in exact.gradient.items():
            np.testing.assert_allclose(h.gradient[name], value, rtol=1e-12)


def test_memory_decides():
    problem = timed(make(), **SWEEPING)
    sizes = {m: bytes_of(problem, m) for m in (hg.Reverse("all"), hg.Reverse("sqrt"))}
    chosen = [
        hg.hypergradient(problem, method=hg.Auto(memory)).info
        for memory in (
            sizes[hg.Reverse("all")],
            sizes[hg.Reverse("all")] - 1,
            sizes[hg.Reverse("sqrt")] - 1,
        )
    ]
    assert chosen[0]["method"] == hg.Reverse("all")
    assert chosen[1]["method"] == hg.Reverse("sqrt")
    assert "Reverse(checkpoints='all')" in chosen[1]["why"]
    assert "does not fit" in chosen[1]["why"] and "does not fit" not in chosen[0]["why"]
    assert chosen[2]["method"] == hg.Reverse("log")


def test_where_no_states_fit_files_or_tangents_do():
    problem = timed(make(), **SWEEPING)
    in_files = hg.Reverse("sqrt", offload="disk")
    memory = bytes_of(problem, hg.Reverse("log")) - 1
    assert memory >= bytes_of(problem, in_files)
    h = hg.hypergradient(problem, method=hg.Auto(memory))
    assert h.info["method"] == in_files and "on disk" in h.info["why"]
    exact = hg.hypergradient(problem)
    assert h.gradient["rate"] == pytest.approx(exact.gradient["rate"], rel=1e-12)
    one = bytes_of(problem, hg.Forward(1))
    h = hg.hypergradient(problem, method=hg.Auto(one))
    assert h.info["method"] == hg.Forward(1)
    assert h.gradient["rate"] == pytest.approx(exact.gradient["rate"], rel=1e-12)


def test_nothing_fits():
    problem = make()
    with pytest.raises(ValueError, match=r"at least \d+ B, by Forward\(chunk=1\)"):
        hg.hypergradient(problem, method=hg.Auto(memory=10))
    with pytest.raises(ValueError, match="Received: 10 B. Free some memory"):
        hg.tune(problem, method=hg.Auto(memory=10), outer_steps=1, verbose=0)


def test_what_is_free_is_asked_for(monkeypatch):
    problem = timed(make(), **SWEEPING)
    free = bytes_of(problem, hg.Reverse("all")) / 0.79
    monkeypatch.setattr(backend, "free_memory", lambda: (None, free))
    h = hg.hypergradient(problem, method=hg.Auto())
    assert h.info["method"] == hg.Reverse("all")
    other = timed(make(), **SWEEPING)
    monkeypatch.setattr(backend, "free_memory", lambda: (None, free * 0.7))
    h = hg.hypergradient(other, method=hg.Auto())
    assert h.info["method"] == hg.Reverse("sqrt")


def test_an_accelerator_keeps_states_on_its_host(monkeypatch):
    problem = timed(make(), **SWEEPING)
    problem.remember("clock", Clock)._known |= dict.fromkeys(
        ("to host", "from host"), (1e-9, 0.0)
    )
    on_host = hg.Reverse("sqrt", offload="host")
    work = on_host.work(problem, problem.values())
    free = sum(work.device.values())
    assert free < bytes_of(problem, hg.Reverse("log"))
    monkeypatch.setattr(backend, "free_memory", lambda: (free / 0.8 + 1, 1e9))
    h = hg.hypergradient(problem, method=hg.Auto())
    assert h.info["method"] == on_host
    # A number of bytes is of the device.
    h = hg.hypergradient(problem, method=hg.Auto(free - 1))
    assert h.info["method"] == hg.Reverse("log", offload="disk")


def test_many_numbers_are_not_timed_forwards():
    space = {"rate": hg.Float(0.0, 1.0, shape=(60,), default=0.2)}
    problem = on_quadratic(
        quadratic(),
        num_steps=60,
        space=space,
        bind=lambda hparams: {"rate": hg.PerStep(hparams["rate"])},
    )
    h = hg.hypergradient(problem, method=hg.Auto())
    assert isinstance(h.info["method"], hg.Reverse)
    assert "plain trainings" in h.info["why"]
    known = problem.remember("clock", Clock)._known
    assert "sweep" in known and not any("tangents" in name for name in known)


def test_it_is_chosen_once_by_timings_that_stay():
    problem = make()
    first = hg.hypergradient(problem, method=hg.Auto())
    before = dict(problem.remember("clock", Clock)._known)
    assert before and all(sum(pair) > 0 for pair in before.values())
    traces = Traces.total
    again = hg.hypergradient(problem, {"rate": 0.1}, method=hg.Auto())
    assert again.info["why"] is first.info["why"]
    longer = problem.replace(num_steps=230)
    h = hg.hypergradient(longer, method=hg.Auto())
    assert h.info["why"] != first.info["why"]
    assert Traces.total == traces
    assert problem.remember("clock", Clock)._known == before


def test_a_hypergradient_is_that_of_the_method():
    problem = timed(make(), **CARRYING)
    h = hg.hypergradient(problem, method=hg.Auto())
    same = hg.hypergradient(problem, method=h.info["method"])
    for name in SPACE:
        assert h.gradient[name] == same.gradient[name]
    estimated = hg.estimate(problem, hg.Auto())
    assert estimated.bytes == bytes_of(problem, hg.Forward())
    assert "Auto()" in str(estimated) and "tangents" in str(estimated)


@pytest.mark.parametrize("memory", [0, -1, float("nan"), "1 GB", True, [1]])
def test_memory_is_a_number_of_bytes(memory):
    with pytest.raises(ValueError, match=r"bytes above 0.*Auto\(memory=2e9\)"):
        hg.Auto(memory)


# In a directory


class Killed(Exception):
    pass


class Kill(Callback):
    def on_outer_step_begin(self, step, logs=None):
        if step == 2:
            raise Killed


def tune(problem, **options):
    given = {"outer_steps": 4, "screening": None, "verbose": 0, "method": hg.Auto()}
    return hg.tune(problem, **given | options)


AUTO = hg.Auto()


def chosen(problem, method=AUTO):
    return method.choice(problem, problem.values()).method


def test_a_resumed_tune_does_not_choose_again(tmp_path):
    first = timed(make(20), **CARRYING)
    with pytest.raises(Killed):
        tune(first, directory=tmp_path, callbacks=[Kill()])
    assert chosen(first) == hg.Forward()
    stored = json.loads((tmp_path / "tune.json").read_text())["content"]["choice"]
    assert stored["name"] == "Forward" and "takes about" in stored["why"]
    # What is timed now would say otherwise.
    resumed = timed(make(20), **SWEEPING)
    assert chosen(timed(make(20), **SWEEPING)) == hg.Reverse("all")
    result = tune(resumed, directory=tmp_path)
    assert chosen(resumed) == hg.Forward()
    (note,) = [note for note in result.notes if "takes about" in note]
    assert note == stored["why"]
    whole = tune(timed(make(20), **CARRYING))
    for column in ("rate", "momentum", "val_loss", "runs"):
        np.testing.assert_array_equal(result.history[column], whole.history[column])


def test_settings_of_a_stored_method_come_back(tmp_path):
    problem = timed(make(20), **SWEEPING)
    memory = bytes_of(problem, hg.Reverse("sqrt"))
    method = hg.Auto(memory)
    options = {"directory": tmp_path, "method": method}
    with pytest.raises(Killed):
        tune(problem, callbacks=[Kill()], **options)
    assert chosen(problem, method) == hg.Reverse("sqrt")
    resumed = timed(make(20), **CARRYING)
    tune(resumed, **options)
    assert chosen(resumed, method) == hg.Reverse("sqrt")
    with pytest.raises(ValueError, match="Received: method: "):
        tune(make(20), directory=tmp_path, method=hg.Auto(2 * memory))


def test_other_methods_store_no_choice(tmp_path):
    tune(make(5), directory=tmp_path, method=hg.Reverse("all"), outer_steps=1)
    assert json.loads((tmp_path / "tune.json").read_text())["content"]["choice"] is None
