"""Pages that are made from tests are those of the sources at hand."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_example_of_how_to_choose_runs(capsys):
    page = (DOCS / "how-to-choose.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "how-to-choose.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "takes about" in printed and "validation" in printed


def test_the_example_of_tuning_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "tuning.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(compile(code, "tuning.md", "exec"), names)
    assert "start → tuned" in capsys.readouterr().out
    result, plain = names["result"], names["plain"]
    assert result.loss < result.start["loss"] and result.runs <= 30
    assert int(plain.optimizer.iterations.value) == 5 * 8
    rates = result.schedules["optimizer.learning_rate"]
    assert float(plain.optimizer.learning_rate) == pytest.approx(rates[-1], rel=1e-6)


def test_the_example_of_the_tuner_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "from-keras-tuner.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(compile(code, "from-keras-tuner.md", "exec"), names)
    out = capsys.readouterr().out
    assert "one_less_momentum: optimizer.momentum = 1 + -1 v" in out
    assert "dropout: dropout.rate: sets a random threshold" in out
    assert (tmp_path / "my_dir" / "demo" / "study.db").exists()
    scores = [t.score for t in names["tuner"].oracle.get_best_trials(3)]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.5


def test_the_table_of_verified_combinations_is_not_stale():
    spec = importlib.util.spec_from_file_location("s", DOCS / "make_support.py")
    assert spec is not None and spec.loader is not None
    make_support = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_support)
    page = (DOCS / "support.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- sources: (\w+) -->", page)
    assert found is not None
    assert found.group(1) == make_support.sources_hash(), (
        "docs/support.md was made from other sources of rules, backends, or cases. Run "
        "`make tables` and commit the page."
    )
