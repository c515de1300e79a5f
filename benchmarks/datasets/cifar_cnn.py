from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """Two convolutions on 2,000 images of CIFAR-10 at 16 × 16; ten numbers."""

    name = "cifar-cnn"

    def task(self) -> Task:
        return Task(self.name, models.cifar_cnn, data.cifar(), 100, 32, spaces.TEN)
