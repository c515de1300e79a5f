from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """784-64-10 on 3,000 images of Fashion-MNIST; the twin of `mnist-mlp`."""

    name = "fashion-mlp"

    def task(self) -> Task:
        split = data.fashion()
        return Task(self.name, models.image_mlp, split, 300, 64, spaces.ADAM_L2)
