from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """An LSTM over the rows of images of 14 × 14; Adam with its epsilon."""

    name = "mnist-lstm"

    def task(self) -> Task:
        split, space = data.halved(data.mnist()), spaces.ADAM_EPSILON_L2
        return Task(self.name, models.row_lstm, split, 60, 32, space)
