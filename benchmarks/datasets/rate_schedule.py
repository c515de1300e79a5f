from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """`mnist-mlp` with a learning rate of 100 knots."""

    name = "rate-schedule"

    def task(self) -> Task:
        space = spaces.RATE_SCHEDULE
        return Task(self.name, models.image_mlp, data.mnist(), 300, 64, space)
