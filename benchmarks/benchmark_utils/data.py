"""The data sets, as training, validation and test parts.

A part is (x, y), NumPy arrays ready for a model. Splits are fixed; nothing here
depends on a method or on its seed.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmark_utils.home import data_folder

Part = tuple[np.ndarray, np.ndarray]


class Split(NamedTuple):
    """Three parts; ``scale`` turns an error of ``y`` into the units of the table."""

    train: Part
    validation: Part
    test: Part
    scale: float = 1.0


class MissingData(FileNotFoundError):
    """A data set that is neither here nor downloaded; says how to get it."""


def missing(what: str, looked: Any, how: str) -> MissingData:
    return MissingData(
        f"The data set {what} is missing: looked for {looked}. {how} Or point "
        "HYPERGRAD_DATA to a folder that holds it."
    )


def parts(x: np.ndarray, y: np.ndarray, sizes: tuple[int, int, int]) -> Split:
    """The first rows for training, then validation, then test."""
    ends = np.cumsum((0, *sizes))
    return Split(*((x[a:b], y[a:b]) for a, b in zip(ends, ends[1:])))


def shuffled(x: np.ndarray, y: np.ndarray) -> Part:
    order = np.random.RandomState(0).permutation(len(x))
    return x[order], y[order]


@cache
def digits() -> Split:
    """1797 images of 8 × 8 pixels, from scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing("digits", "scikit-learn", "pip install scikit-learn.") from error
    x, y = load_digits(return_X_y=True)
    x, y = shuffled((x / 16.0).astype("float32"), y.astype("int32"))
    return parts(x, y, (1077, 360, 360))


def mnist() -> Split:
    """The first 5,000 training images, permuted: 3,000, 1,000 and 1,000."""
    return images("MNIST", keras.datasets.mnist.load_data)


def fashion() -> Split:
    """The same part of Fashion-MNIST."""
    return images("Fashion-MNIST", keras.datasets.fashion_mnist.load_data)


@cache
def images(name: str, load: Callable) -> Split:
    try:
        (x, y), _ = load()
    except Exception as error:  # what a download raises differs from host to host
        raise missing(
            name,
            f"$KERAS_HOME/datasets and a download ({error})",
            "Run `keras.datasets` once where there is a network, and set KERAS_HOME.",
        ) from error
    x, y = shuffled(x[:5000].astype("float32") / 255.0, y[:5000].astype("int32"))
    return parts(x, y, (3000, 1000, 1000))


def halved(split: Split) -> Split:
    """Images at half their width and height: means over 2 × 2 pixels."""

    def half(part: Part) -> Part:
        x, y = part
        n, h, w = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4)), y

    return Split(half(split.train), half(split.validation), half(split.test))


def with_channels(split: Split) -> Split:
    train, validation, test = ((x[..., None], y) for x, y in split[:3])
    return Split(train, validation, test)


def corrupted(split: Split) -> Split:
    """Half of the training labels replaced by another, uniformly drawn class.

    References: Franceschi et al. 2017, arXiv:1703.01785, section 5.1.
    """
    random = np.random.RandomState(0)
    x, y = split.train
    wrong = random.permutation(len(y))[: len(y) // 2]
    y = y.copy()
    y[wrong] = (y[wrong] + random.randint(1, 10, len(wrong))) % 10
    return split._replace(train=(x, y.astype("int32")))


UCI_ROWS = {
    "energy": (614, 78, 76),
    "kin8nm": (5898, 1475, 819),
    "power": (6889, 1722, 957),
}


@cache
def uci(name: str) -> Split:
    """A regression table in the published order, normalised.

    Rows and normalisation (mean and deviation of training and validation rows
    together) of Clarke, Oldewage & Hernández-Lobato 2022, arXiv:2110.10461.
    """
    file = _file(
        f"uci/{name}.npz",
        "an npz with x, y and clarke_order: the UCI table and "
        "data/UCI_*/permutation_indices.txt of "
        "github.com/rmclarke/OptimisingWeightUpdateHyperparameters",
    )
    content = np.load(file)
    order, sizes = content["clarke_order"], UCI_ROWS[name]
    x, y = content["x"][order], content["y"][order]
    known = sizes[0] + sizes[1]
    scale = float(y[:known].std())
    x = (x - x[:known].mean(axis=0)) / x[:known].std(axis=0)
    y = (y - y[:known].mean()) / scale
    split = parts(x.astype("float32"), y[:, None].astype("float32"), sizes)
    return split._replace(scale=scale)


WORDS, LENGTH = 2000, 32


@cache
def reviews() -> Split:
    """rt-polarity: sentences as numbers of words, 0 where there is none, 1 for rare."""
    source = "cs.cornell.edu/people/pabo/movie-review-data (rt-polaritydata)"
    files = [_file(f"text/rt_polarity/rt-polarity.{end}", source) for end in _ENDS]
    lines = [f.read_text("utf-8").splitlines() for f in files]
    y = np.repeat([1, 0], [len(part) for part in lines]).astype("int32")
    texts, y = shuffled(np.array([*lines[0], *lines[1]], dtype=object), y)
    sizes = (8530, 1066, 1066)
    counts: dict[str, int] = {}
    for text in texts[: sizes[0]]:
        for word in text.split():
            counts[word] = counts.get(word, 0) + 1
    frequent = sorted(counts, key=lambda w: (-counts[w], w))[: WORDS - 2]
    number = {word: i + 2 for i, word in enumerate(frequent)}
    x = np.zeros((len(texts), LENGTH), "int32")
    for row, text in zip(x, texts):
        ids = [number.get(word, 1) for word in text.split()[:LENGTH]]
        row[: len(ids)] = ids
    return parts(x, y[:, None].astype("float32"), sizes)


_ENDS = ("pos", "neg")
WINDOW = 16


@cache
def shakespeare() -> Split:
    """Windows of 16 characters, and the character after each of them.

    The usual split: the first 90 % of the text train; the rest is halved.
    """
    source = "github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt"
    text = _file("text/tinyshakespeare/input.txt", source).read_text("ascii")
    letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
    ids = np.array([letters[letter] for letter in text], "int32")
    first, second = int(0.9 * len(ids)), int(0.95 * len(ids))
    random = np.random.RandomState(0)

    def windows(ids: np.ndarray, number: int) -> Part:
        starts = random.choice(len(ids) - WINDOW, number, replace=False)
        at = starts[:, None] + np.arange(WINDOW + 1)
        return ids[at[:, :-1]], ids[at[:, 1:]]

    return Split(
        windows(ids[:first], 4000),
        windows(ids[first:second], 500),
        windows(ids[second:], 500),
    )


@cache
def cifar() -> Split:
    """2,000, 1,000 and 1,000 images of CIFAR-10, 16 × 16; one-hot labels."""
    how = "The first training batch and 1,000 test images of keras.datasets.cifar10"
    file = data_folder() / "cifar10_subset" / "cifar10_subset.npz"
    if file.exists():
        content = np.load(file)
        x, y = content["x_train"], content["y_train"]
        x_test, y_test = content["x_test"], content["y_test"]
    else:
        try:
            (x, y), (x_test, y_test) = keras.datasets.cifar10.load_data()
        except Exception as error:
            raise missing("CIFAR-10", f"{file} and a download ({error})", how) from None
    x = np.concatenate([x[:3000], x_test[:1000]]).astype("float32") / 255.0
    x = x.reshape(len(x), 16, 2, 16, 2, 3).mean(axis=(2, 4)) - 0.5
    y = np.eye(10, dtype="float32")[np.concatenate([y[:3000], y_test[:1000]]).ravel()]
    return parts(x, y, (2000, 1000, 1000))


def _file(path: str, source: str) -> Path:
    file = data_folder() / path
    if not file.exists():
        raise missing(Path(path).name, file, f"It comes from {source}.")
    return file
