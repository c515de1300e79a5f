"""An Optuna sampler for values that are already known. Imports Optuna."""

from collections.abc import Mapping
from typing import Any

from optuna.samplers import BaseSampler


class Given(BaseSampler):
    """Proposes what it is given: name of a parameter → value."""

    def __init__(self, values: Mapping[str, Any]):
        self.known = dict(values)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict:
        return {}

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: Any
    ) -> Any:
        return self.known[param_name]
