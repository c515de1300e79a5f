from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """The UCI table kin8nm, 50 hidden units; Adam, a penalty for each kernel.

    References: rows and model of Clarke et al. 2022, arXiv:2110.10461.
    """

    name = "uci-kin8nm"

    def task(self) -> Task:
        return Task(
            self.name,
            lambda: models.regression_mlp(8),
            data.uci("kin8nm"),
            steps=300,
            batch_size=64,
            space=spaces.ADAM_L2_EACH,
            score="rmse",
        )
