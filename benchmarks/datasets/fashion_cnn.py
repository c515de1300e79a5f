from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """Two convolutions with batch normalisation, images of 14 × 14; Adam."""

    name = "fashion-cnn"

    def task(self) -> Task:
        split = data.with_channels(data.halved(data.fashion()))
        return Task(self.name, models.batch_norm_cnn, split, 100, 32, spaces.BATCH_NORM)
