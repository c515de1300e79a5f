"""The training that every library differentiates, as NumPy arrays."""

import dataclasses

import numpy as np

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7
NAMES = ("learning_rate", "beta_1", "beta_2")
HYPER = (RATE, BETA_1, BETA_2)


@dataclasses.dataclass(frozen=True)
class Case:
    """Adam on a dense network with ReLU and cross-entropy.

    Args:
        sizes: widths from input to output.
        steps: int, T.
        batch: int, rows of a step.
        rows: int, of the training data; batches follow one another in their order.
        dtype: "float32" or "float64".
        dead: whether a hidden unit is negative before its ReLU for any input, so that
            the gradients and second moments of its weights are 0 in every step. False:
            small kernels and biases of 1 keep all units alive in the default case.
    """

    sizes: tuple[int, ...] = (8, 16, 16, 3)
    steps: int = 20
    batch: int = 16
    rows: int = 64
    dtype: str = "float64"
    dead: bool = False

    def weights(self) -> list[np.ndarray]:
        """Kernel (in, out), bias (out,), kernel, …: small uniform ones, biases 1."""
        random, found = np.random.RandomState(0), []
        for n, m in zip(self.sizes, self.sizes[1:]):
            limit = 0.3 * np.sqrt(6.0 / (n + m))
            found.append(random.uniform(-limit, limit, (n, m)).astype(self.dtype))
            found.append(np.ones(m, self.dtype))
        if self.dead:
            found[1][0] = -1000.0
        return found

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x in 0..1, and integers that follow from it."""
        random = np.random.RandomState(1)
        x = random.rand(self.rows, self.sizes[0])
        y = (x @ random.randn(self.sizes[0], self.sizes[-1])).argmax(axis=1)
        return x.astype(self.dtype), y.astype("int64")

    def order(self) -> np.ndarray:
        """int array (T, batch): the rows of each step."""
        numbers = np.arange(self.steps * self.batch) % self.rows
        return numbers.reshape(self.steps, self.batch)

    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """The first half of the training rows."""
        x, y = self.data()
        return x[: self.rows // 2], y[: self.rows // 2]


TIMED = {
    "large": Case((784, 256, 256, 10), 200, 128, 2560, "float32"),
    "small": Case((64, 32, 10), 200, 32, 1280, "float32"),
}
"""What is timed: products of matrices in one, the cost of each call in the other."""
