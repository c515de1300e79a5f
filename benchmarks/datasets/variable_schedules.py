from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """`mnist-mlp`, schedules for each variable: 1204 numbers.

    References: the kind of space of Micaelli & Storkey 2021, arXiv:2007.07869, and of
    Clarke et al. 2022, arXiv:2110.10461, together.
    """

    name = "variable-schedules"

    def task(self) -> Task:
        return Task(
            self.name,
            lambda: models.image_mlp(bias=True),
            data.mnist(),
            steps=300,
            batch_size=64,
            space=spaces.SCHEDULES_OF_VARIABLES,
        )
