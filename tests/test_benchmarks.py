"""Accounts and judgement of the comparison in `benchmarks`, without benchopt."""

import json
import math

import keras
import numpy as np
import pytest

import hypergrad as hg
from benchmark_utils import data
from benchmark_utils.runs import Runs, Spent
from benchmark_utils.version import digest, version
from report import run as report_run
from report import summary
from report.absent import declared, not_installed, without_results
from report.matrix import matrix
from report.results import Row, of_one_version, read
from report.significance import holm, interval, paired_test, runs_to_reach
from report.table import not_compared, table

STEPS = 40


def descent() -> hg.Problem:
    """w ← w − r w from 1, E = w²: (1 − r)^(2T), which overflows for r = 1e4."""
    return hg.Problem(
        init=lambda hparams: {"w": keras.ops.ones(())},
        step=lambda state, hparams, t: ({"w": state["w"] * (1.0 - hparams["r"])}, {}),
        val_loss=lambda state, hparams: keras.ops.square(state["w"]),
        num_steps=STEPS,
        space={"r": hg.Float(1e-3, 1e8, sampling="log", default=0.01)},
    )


def row(method: str, seed: int, loss: float, **changes) -> Row:
    curve = {"runs": [1.0, 2.0], "seconds": [0.1, 0.2], "best": [2 * loss, loss]}
    content = {
        "problem": "p",
        "method": method,
        "seed": seed,
        "budget": 64,
        "version": "1-new",
        "commit": "c",
        "spaces": "s",
        "status": "done",
        "reason": "",
        "loss": loss,
        "test_loss": loss,
        "test_score": 0.5,
        "score": "accuracy",
        "runs": 2.0,
        "seconds": 0.2,
        "seconds_with_compilation": 1.0,
        "diverged": 0,
        "numbers": 3,
        "curve": curve,
        "date": "2026-01-01",
        "machine": "m",
    }
    return Row(**(content | changes))


# Accounts


def test_a_run_is_charged_and_the_best_is_kept():
    runs = Runs(descent(), budget=2)
    first, second = runs({"r": 0.02}), runs({"r": 0.01})
    np.testing.assert_allclose([first, second], [0.98**80, 0.99**80], rtol=1e-4)
    assert (runs.spent, runs.loss, runs.values) == (2.0, first, {"r": 0.02})
    with pytest.raises(Spent, match="1 of a run was asked for with 0 left of 2"):
        runs({})
    assert runs.spent == 2.0


def test_parts_of_runs_add_up_to_the_budget_and_do_not_rank():
    problem = descent()
    runs = Runs(problem, budget=2)
    third = problem.replace(num_steps=STEPS // 3)
    for _ in range(6):  # in floating point, a third six times is below two
        runs({}, 1 / 3, third)
    assert not runs.affords(0.01)
    assert runs.outcome().status == "diverged"  # no run of full length
    assert runs.outcome().curve["runs"] == []


def test_a_run_that_diverges_costs_a_run_and_scores_as_divergent():
    runs = Runs(descent(), budget=3)
    assert runs({"r": 1e8}) == math.inf
    outcome = runs.outcome()
    assert (outcome.status, outcome.runs, outcome.diverged) == ("diverged", 1.0, 1)
    assert math.isnan(outcome.loss)
    assert json.loads(json.dumps(outcome.curve))["best"] == [None]
    runs({"r": 0.01})
    outcome = runs.outcome()
    assert (outcome.status, outcome.runs, outcome.diverged) == ("done", 2.0, 1)
    assert outcome.curve["runs"] == [1.0, 2.0]


def test_a_search_of_hypergrad_is_charged_what_it_says():
    runs = Runs(descent(), budget=8)
    runs({})
    runs.adopt(hg.search(runs.problem, "random", budget=7, seed=0, verbose=0))
    assert runs.spent == 8.0
    assert runs.outcome().curve["runs"] == [float(i) for i in range(1, 9)]
    assert runs.diverged > 0  # most of this space diverges
    assert not runs.affords()


def test_a_hypergradient_is_charged_more_than_the_run_it_begins_with():
    runs = Runs(descent(), budget=20)
    few = hg.outer.Screening(2)
    runs.adopt(hg.tune(runs.problem, budget=20, seed=0, verbose=0, screening=few))
    outcome = runs.outcome()
    assert len(outcome.curve["runs"]) < outcome.runs <= 20.0
    assert outcome.curve["best"][-1] == outcome.loss < 0.99**80


# Judgement


def test_the_paired_test_against_closed_values():
    # All of n differences of one sign: 1/2^n. None: 1.
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.2, 3.3, 4.4, 5.5]
    assert paired_test(low, high) == 1 / 32
    assert paired_test(high, low) == 1.0
    assert paired_test(low, low) == 1.0
    # Ranks 1, 2, 3 with 1 on the wrong side: sums 0 and 1 of 8 sets of signs.
    assert paired_test([0, 0, 2], [2, 3, 1]) == 2 / 8
    with pytest.raises(ValueError, match="the same seeds of both"):
        paired_test([1.0], [1.0, 2.0])


def test_the_paired_test_is_scipys_where_that_is_exact():
    from scipy.stats import wilcoxon

    generator = np.random.default_rng(0)
    a, b = generator.random((2, 12))
    expected = wilcoxon(a, b, alternative="less", method="exact").pvalue
    np.testing.assert_allclose(paired_test(a, b), expected)


def test_a_divergent_result_is_worse_than_any_loss():
    assert paired_test([1.0, 1.0, 1.0], [math.nan, math.inf, 1e30]) == 1 / 8
    assert paired_test([math.nan], [math.inf]) == 1.0


def test_holms_correction_against_its_definition():
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9})
    assert list(found) == ["a", "b", "c", "d"]


def test_the_interval_is_students():
    # n = 2: s = √2/2 · |x₁ − x₂| and t = 12.7062.
    found = interval([1.0, 3.0])
    assert found.mean == 2.0
    assert found.half == pytest.approx(12.7062, rel=1e-5)
    assert math.isnan(interval([1.0, math.nan]).half)


def test_runs_to_reach():
    curve = {"runs": [1.0, 5.5, 6.5], "best": [None, 2.0, 1.0]}
    assert runs_to_reach(curve, 2.0) == 5.5
    assert runs_to_reach(curve, 0.5) == math.inf


def test_verdicts_count_in_both_directions():
    rows = []
    for seed in range(8):
        rows += [
            row("random", seed, 1.0 + seed / 100),
            row("good", seed, 0.5 + seed / 90),
            row("bad", seed, math.nan, status="diverged"),
        ]
    tests = summary.tested(rows)
    assert tests["good"].verdict("p") == "better"
    assert tests["bad"].verdict("p") == "worse"
    lines = {
        line.split(" | ")[0][2:]: line for line in summary.summary(rows).splitlines()
    }
    assert lines["good"] == "| good | 1 | 1 | 0 | 0 | 0 | 2 |"
    assert lines["bad"] == "| bad | 1 | 0 | 1 | 0 | 0 | never |"
    assert "8 of 8 diverged" in table(rows)


def test_the_matrix_holds_the_means_and_marks_what_is_significant():
    rows = []
    for seed in range(8):
        rows += [
            row("random", seed, 1.0 + seed / 100),
            row("good", seed, 0.5 + seed / 90),
            row("bad", seed, 2.0 + seed / 90),
            row("even", seed, 1.0 + (7 - seed) / 100),
            row("random", seed, 3.0, problem="q"),
            row("good", seed, 4.0, problem="q", status="refused"),
        ]
    lines = matrix(rows).splitlines()
    assert lines[0] == "| problem | numbers | random |"  # the others met on one of two
    here = [r for r in rows if r.problem == "p"]
    lines = matrix(here).splitlines()
    assert lines[0] == "| problem | numbers | random | bad | even | good |"
    assert lines[2] == "| p | 3 | 1.035 | 2.039 − | 1.035 | **0.5389** + |"


# The page


def test_results_stand_between_the_marks_of_a_page():
    begin, end = report_run.BEGIN, report_run.END
    page = f"a\n{begin}\nold\n{end}\nb\n"
    assert report_run.inserted(page, "new") == f"a\n{begin}\nnew\n{end}\nb\n"
    with pytest.raises(ValueError, match="must hold <!-- comparison:begin"):
        report_run.inserted("a page", "new")


def test_the_page_is_that_of_the_stored_results():
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install '.[bench]'")
    stored = (report_run.FOLDER / "outputs").glob("full-*.parquet")
    rows, others = of_one_version(read(list(stored)))
    page = report_run.PAGE.read_text("utf-8")
    made = report_run.inserted(page, report_run.results(rows, others))
    assert page == made, "Run `make bench-table`, and commit docs/benchmarks.md."


# What is not there


def test_results_of_other_code_or_of_another_budget_are_not_mixed():
    old = [row("tune", s, 1.0, version="1-old") for s in range(3)]
    small = [row("tune", s, 1.0, budget=8) for s in range(2)]
    new = [row("tune", s, 2.0) for s in range(4)]
    same, others = of_one_version([*old, *small, *new])
    assert same == new
    assert sorted(others) == sorted([*old, *small])
    assert of_one_version([]) == ([], [])


def test_the_version_changes_with_the_code(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("a = 1")
    before = digest([file])
    assert digest([file]) == before
    file.write_text("a = 2")
    assert digest([file]) != before
    assert keras.backend.backend() in version()


def test_a_missing_file_is_named_with_its_source(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERGRAD_DATA", str(tmp_path))
    with pytest.raises(data.MissingData, match="tinyshakespeare.*HYPERGRAD_DATA"):
        data.shakespeare()
    with pytest.raises(data.MissingData, match="kin8nm.npz is missing: looked for"):
        data.uci("kin8nm")


def test_images_that_cannot_be_downloaded_are_named_with_the_reason():
    def download():
        raise OSError("no route to host")

    with pytest.raises(data.MissingData, match="MNIST.*no route to host.*KERAS_HOME"):
        data.images("MNIST", download)


def test_a_method_without_its_package_is_listed(tmp_path):
    for name, package in (("here", "numpy"), ("gone", "no-such-package")):
        (tmp_path / f"{name}.py").write_text(
            f"import nothing_of_that_name\n\n\nclass Solver:\n    name = '{name}'\n"
            f"    requirements = ['{package}']\n"
        )
    files = declared(tmp_path)
    assert [file.name for file in files] == ["gone", "here"]
    assert list(not_installed(files)) == ["gone"]
    assert "no-such-package" in not_installed(files)["gone"]
    assert list(without_results(files, ["here[a]"])) == ["gone"]


def test_refusals_and_gaps_are_listed():
    rows = [
        row("random", 0, 1.0),
        row("random", 0, 1.0, problem="q"),
        row("pbt", 0, math.nan, status="refused", reason="It has no knots."),
    ]
    lines = not_compared(rows, {"gp": "needs torch"}).splitlines()
    assert lines == [
        "- `gp`: needs torch",
        "- `pbt` refused p: It has no knots.",
        "- not run, or failed, on q: `pbt`.",
    ]
    assert "pbt" not in table(rows)
