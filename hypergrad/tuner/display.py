"""What a search prints while it goes."""

import datetime
import time
from typing import Any

from hypergrad.tuner.trial import Trial

WIDTH = 18


class Display:
    """Prints trials as they begin and end, in KerasTuner's form.

    Args:
        oracle: `Oracle`.
        verbose: whether anything is printed.
    """

    def __init__(self, oracle: Any, verbose: bool = True):
        self.oracle = oracle
        self.verbose = verbose
        self.began = time.time()
        self.trial_began = self.began

    def on_trial_begin(self, trial: Trial, going_on: bool) -> None:
        self.trial_began = time.time()
        if not self.verbose:
            return
        number = int(trial.trial_id) + 1
        print(f"\nSearch: {'Going on with' if going_on else 'Running'} Trial #{number}")
        print()
        self._table(trial)
        print()

    def on_trial_end(self, trial: Trial) -> None:
        if not self.verbose:
            return
        number = int(trial.trial_id) + 1
        ended = {"COMPLETED": "Complete", "PRUNED": "Pruned"}
        word = ended.get(trial.status, trial.status.capitalize())
        print(f"\nTrial {number} {word} [{duration(time.time() - self.trial_began)}]")
        name = self.oracle.objective.name
        if trial.score is not None:
            print(f"{name}: {trial.score}")
        if trial.message is not None and trial.status in ("FAILED", "INVALID"):
            print(trial.message.strip().splitlines()[-1])
        best = self.oracle.get_best_trials(1)
        print(f"\nBest {name} So Far: {best[0].score if best else None}")
        print(f"Total elapsed time: {duration(time.time() - self.began)}")

    def _table(self, trial: Trial) -> None:
        values = trial.hyperparameters.values
        if not values:
            print("default configuration")
            return
        best = self.oracle.get_best_trials(1)
        known = best[0].hyperparameters.values if best else {}
        rows = [("Value", "Best Value So Far", "Hyperparameter")]
        rows += [
            (shown(value), shown(known[name]) if name in known else "?", name)
            for name, value in values.items()
        ]
        for left, middle, name in rows:
            print(f"{left:{WIDTH}}|{middle:{WIDTH}}|{name}")


def shown(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def duration(seconds: float) -> str:
    """``00h 01m 23s``, with days before it where there are some."""
    whole = datetime.timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    text = f"{hours:02d}h {rest // 60:02d}m {rest % 60:02d}s"
    return f"{whole.days}d {text}" if whole.days else text
