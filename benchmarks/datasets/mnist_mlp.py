from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """784-64-10 on 3,000 images of MNIST; Adam and a penalty."""

    name = "mnist-mlp"

    def task(self) -> Task:
        return Task(self.name, models.image_mlp, data.mnist(), 300, 64, spaces.ADAM_L2)
