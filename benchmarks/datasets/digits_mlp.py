from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """64-64-64-10 on the digits of scikit-learn; Adam."""

    name = "digits-mlp"
    requirements = ["scikit-learn"]

    def task(self) -> Task:
        split = data.digits()
        return Task(self.name, models.digits_mlp, split, 100, 64, spaces.ADAM)
