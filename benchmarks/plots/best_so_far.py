import json

import numpy as np
from benchopt import BasePlot


class Plot(BasePlot):
    """The best validation loss against the runs spent: median over the seeds."""

    name = "Best so far"
    type = "scatter"
    options = {"dataset": ..., "objective": ...}

    def plot(self, df, dataset, objective):
        df = df.query("dataset_name == @dataset and objective_name == @objective")
        traces = []
        for solver, rows in df[df["objective_status"] == "done"].groupby("solver_name"):
            runs = np.arange(1.0, 1.0 + np.ceil(rows["objective_runs"].max() - 1e-6))
            curves = [at(json.loads(c), runs) for c in rows["objective_curve"]]
            middle = np.median(curves, axis=0)
            known = np.isfinite(middle)
            style = self.get_style(solver)
            x, y = runs[known].tolist(), middle[known].tolist()
            traces.append({"x": x, "y": y, "label": solver, **style})
        return traces

    def get_metadata(self, df, dataset, objective):
        return {
            "title": f"{objective}\nProblem: {dataset}",
            "xlabel": "runs spent",
            "ylabel": "best validation loss",
        }


def at(curve: dict, runs: np.ndarray) -> np.ndarray:
    """The best loss known when so many runs were spent; infinite before the first."""
    best = np.array([np.inf, *(np.inf if b is None else b for b in curve["best"])])
    return best[np.searchsorted(curve["runs"], runs + 1e-9, side="right")]
