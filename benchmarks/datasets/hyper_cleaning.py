from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """`mnist-mlp` with half of its labels wrong: a weight for each example.

    References: Franceschi et al. 2017, arXiv:1703.01785, section 5.1.
    """

    name = "hyper-cleaning"

    def task(self) -> Task:
        split = data.corrupted(data.mnist())
        space = spaces.example_weights(len(split.train[0]))
        return Task(self.name, models.image_mlp, split, 300, 64, space)
