from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """Logistic regression on 3,000 images of Fashion-MNIST; SGD and a penalty."""

    name = "fashion-logistic"

    def task(self) -> Task:
        return Task(self.name, models.logistic, data.fashion(), 300, 64, spaces.SGD_L2)
