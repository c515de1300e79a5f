"""Studies on a real PostgreSQL server, shared by workers without a common folder."""

import os
import subprocess
import sys

import pytest

import hypergrad as hg
import postgres
from test_gradient_tuner import training, tuner
from test_tuner import Branching

pytestmark = pytest.mark.skipif(
    not postgres.is_installed(), reason="needs a PostgreSQL server: Debian's postgresql"
)


@pytest.fixture(scope="module")
def url():
    with postgres.server() as running:
        yield running


def test_a_search_is_that_of_sqlite(tmp_path, url):
    found = []
    for name, storage in (("a", url), ("b", None)):
        one = Branching(
            max_trials=4, directory=tmp_path, project_name=name, seed=0, storage=storage
        )
        one.search(verbose=0)
        found.append([t.hyperparameters.values for t in one.oracle.trials.values()])
    assert found[0] == found[1]
    assert not (tmp_path / "a" / "study.db").exists()
    again = Branching(
        max_trials=5, directory=tmp_path, project_name="a", seed=0, storage=url
    )
    again.search(verbose=0)
    assert len(again.oracle.trials) == 5
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or postgres.PASSWORD.encode() not in path.read_bytes()
    fresh = Branching(
        max_trials=5, directory=tmp_path, project_name="a", storage=url, overwrite=True
    )
    assert len(fresh.oracle.trials) == 0


def test_a_wrong_password_is_not_told(tmp_path, url):
    wrong = url.replace(postgres.PASSWORD, "swordfish")
    with pytest.raises(
        ValueError, match="cannot be used.*password authentication"
    ) as e:
        Branching(directory=tmp_path, storage=wrong)
    assert "swordfish" not in str(e.value) and "***" in str(e.value)


SCRIPT = """
import sys, time
import hypergrad as hg

class Slow(hg.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        print("began", trial.trial_id, flush=True)
        time.sleep(float(sys.argv[3]))
        return x

tuner = Slow(
    max_trials=4, directory=sys.argv[1], project_name="k", seed=0, storage=sys.argv[2]
)
tuner.search(verbose=0)
"""


def worker(folder, url, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), url, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_workers_on_several_machines_lose_no_trial(tmp_path, url):
    """Folders of their own stand for machines of their own."""
    first = worker(tmp_path / "1", url, 60)
    assert first.stdout.readline() == "began 0000\n"
    first.kill()
    first.communicate()
    others = [worker(tmp_path / str(i), url, 0.3) for i in (2, 3)]
    outputs = [process.communicate(timeout=120)[0] for process in others]
    began = [line for out in outputs for line in out.splitlines() if "began" in line]
    assert sorted(began) == [f"began 000{i}" for i in range(4)]


def test_a_descent_goes_on_without_its_folder(tmp_path, url):
    class Stop(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            if row == 3:
                raise KeyboardInterrupt

    class Count(hg.callbacks.Callback):
        rows = ()

        def on_run_end(self, row, logs=None):
            self.rows = (*self.rows, row)

    args, kwargs = training()
    one = tuner(tmp_path / "1", max_trials=1, pruner=None, storage=url)
    one.tune_options["callbacks"] = [Stop()]
    with pytest.raises(KeyboardInterrupt):
        one.search(*args, **kwargs, verbose=0)
    other = tuner(tmp_path / "2", max_trials=1, pruner=None, storage=url)
    count = Count()
    other.tune_options["callbacks"] = [count]
    other.search(*args, **kwargs, verbose=0)
    assert 0 < count.rows[0] <= 3
    whole = tuner(tmp_path / "3", max_trials=1, pruner=None)
    whole.search(*args, **kwargs, verbose=0)
    trials = [t.oracle.get_trial("0000") for t in (other, whole)]
    assert trials[0].hyperparameters.values == trials[1].hyperparameters.values
    assert trials[0].score == trials[1].score
    with pytest.raises(FileNotFoundError, match="stay on the machine that trained"):
        one.get_best_models()
    rows = other.oracle.store.study.get_trials()
    assert rows[-1].user_attrs["state"] is None
