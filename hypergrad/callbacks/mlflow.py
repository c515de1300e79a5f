"""MLflow, for those who keep their runs there."""

import math
from typing import Any

from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.callbacks.columns import MEASURES, numbers_of


class MLflow(Callback):
    """Logs losses, cost and values of each run to an MLflow run.

    Metrics are those of `TensorBoard`, by row of the history; the tuned values are
    params at the end. Inside of ``mlflow.start_run()`` that run is used.

    Args:
        experiment: str, name of the experiment; None: the active one.
        run_name: str, or None.
        tracking_uri: str, or None: as MLflow is set up.

    Raises:
        ImportError: mlflow is not installed.

    Example:
        >>> hg.tune(problem, callbacks=[hg.callbacks.MLflow(experiment="digits")])
    """

    def __init__(
        self,
        experiment: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
    ):
        try:
            import mlflow
        except ImportError as error:
            raise ImportError(
                "The MLflow callback needs mlflow, which is not installed. Install it "
                'with `pip install mlflow`, or "keras-hypergrad[mlflow]".'
            ) from error
        self.experiment = experiment
        self.run_name = run_name
        self.tracking_uri = tracking_uri
        self._mlflow: Any = mlflow
        self._owns = False

    def on_tune_begin(self, logs: Logs = None) -> None:
        if self.tracking_uri is not None:
            self._mlflow.set_tracking_uri(self.tracking_uri)
        if self.experiment is not None:
            self._mlflow.set_experiment(self.experiment)
        self._owns = self._mlflow.active_run() is None
        if self._owns:
            self._mlflow.start_run(run_name=self.run_name)

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        assert logs is not None
        metrics = {f"tune/{name}": float(logs[name]) for name in MEASURES}
        numbers = numbers_of(logs["values"]).items()
        metrics |= {f"values/{_plain(name)}": value for name, value in numbers}
        finite = {
            name: value for name, value in metrics.items() if math.isfinite(value)
        }
        self._mlflow.log_metrics(finite, step=row)

    def on_tune_end(self, logs: Logs = None) -> None:
        result = (logs or {}).get("result")
        if result is not None:
            params = {_plain(n): v for n, v in numbers_of(result.values).items()}
            self._mlflow.log_params(params)
        if self._owns:
            self._mlflow.end_run()


def _plain(name: str) -> str:
    """MLflow takes no ``*`` in names."""
    return name.replace("*", "_")
