from benchmark_utils import data, models, spaces
from benchmark_utils.dataset import AbstractTask
from benchmark_utils.task import Task


class Dataset(AbstractTask):
    """Sentences of rt-polarity: the mean of word vectors, one hidden layer.

    References: Pang & Lee 2005 (the sentences).
    """

    name = "reviews-embedding"

    def task(self) -> Task:
        return Task(
            self.name,
            lambda: models.sentence_model(data.WORDS, data.LENGTH),
            data.reviews(),
            steps=200,
            batch_size=64,
            space=spaces.EMBEDDING,
        )
