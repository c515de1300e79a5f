from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """The next character of tiny Shakespeare; a GRU of 32 units, Adam."""

    name = "shakespeare-gru"

    def task(self) -> Task:
        split = data.shakespeare()
        letters = 1 + max(int(x.max()) for x, _ in split[:3])
        return Task(
            self.name,
            lambda: models.character_gru(letters, data.WINDOW),
            split,
            steps=60,
            batch_size=32,
            space=spaces.ADAM_L2,
        )
