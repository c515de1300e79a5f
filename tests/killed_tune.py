"""A tune that kills itself where it is told to; run by `test_faults.py`.

    python killed_tune.py DIRECTORY [replace:N | sweep:N | run:N | prepare:1]

SIGKILL before the N-th rename of a file, sweep, run, or before what is compiled first.
Without the second argument it goes to its end and prints its history in JSON.
"""

import json
import os
import signal
import sys

import numpy as np
from keras import ops

import hypergrad as hg
from hypergrad import files
from hypergrad.outer.study import Study

BUDGET = 40


def problem() -> hg.Problem:
    """w ← w (1 − rate_t) + shift from 1; 20 knots, so that both phases have work."""
    return hg.Problem(
        init=lambda hparams: {"w": ops.ones(3)},
        step=lambda s, hparams, t: (
            {"w": s["w"] * (1.0 - hparams["rate"]) + hparams["shift"]},
            {},
        ),
        val_loss=lambda s, hparams: ops.sum((s["w"] - 0.3) ** 2),
        num_steps=40,
        space={
            "rate": hg.Schedule(
                hg.Float(1e-3, 0.5, sampling="log", default=0.01), knots=20
            ),
            "shift": hg.Float(-0.1, 0.1, default=0.05),
        },
    )


def dies_at(owner: object, name: str, number: int) -> None:
    """Puts a function in place of another that ends the process before a call."""
    function, calls = getattr(owner, name), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, counted)


def main() -> None:
    directory, *where = sys.argv[1:]
    if where:
        point, number = where[0].split(":")
        owner = files.os if point == "replace" else Study
        dies_at(owner, point, int(number))
    result = hg.tune(problem(), budget=BUDGET, directory=directory, verbose=0)
    history = {
        name: [np.asarray(v).tolist() for v in column]
        for name, column in result.history.items()
        if name not in ("seconds", "train_loss") and not name.startswith("gradient")
    }
    print(json.dumps({"history": history, "runs": result.runs}))


if __name__ == "__main__":
    main()
