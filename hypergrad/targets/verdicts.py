"""Which numbers of Keras' own classes carry a derivative, and how they are written.

One line a number. ``tests/test_targets.py`` and ``tests/test_verdicts.py`` compare each
line with central differences on both backends, and fail where a class of Keras has a
number that is not decided here. What is not in the table is refused for Keras' own
classes, and tried for a user's.
"""

import re
from typing import Any, NamedTuple

from keras import layers, losses, regularizers

from hypergrad.targets.target import Form
from hypergrad.targets.twins import twin_of

TUNER = "It belongs to the tuner"
STRUCTURE = f"changes the structure of the model. {TUNER}."
INTEGER = f"an integer has no derivative. {TUNER}."
CHOICE = f"a choice has no derivative. {TUNER}."
RANDOM_THRESHOLD = (
    "sets a random threshold: the masks that it flips have no derivative. Use "
    "GaussianDropout or the tuner."
)
AUGMENTATION = (
    f"draws a random transformation of the input, without a sound derivative. {TUNER}."
)
JUMP = f"the output jumps where it moves, without a derivative there. {TUNER}."
NO_SEED = (
    "the layer was built with 0 and has no seed generator. Rebuild the model with a "
    "value above 0."
)
PREPROCESSING = (
    "it belongs to preprocessing, whose code in Keras is not differentiable on every "
    "backend. Compute the features before training."
)
NO_SECOND = (
    "the loss has no finite second derivative in Keras (a logarithm of a sum with "
    "-inf), so that no hypergradient through it is finite. Use another loss."
)
RENORM = "its layer stops gradients inside. Build it with `renorm=False`."
UNVERIFIED = "not in the table of numbers verified to be differentiable."
FROZEN_STATISTICS = "the layer is frozen, and its moving averages do not move."


class Verdict(NamedTuple):
    form: Form
    reason: str | None = None
    idle: bool = False


def _refused(reason: str, idle: bool = False) -> Verdict:
    return Verdict("tensor", reason, idle)


_COPIED = {
    name: _refused(
        f"has no effect once the layer exists. Use `activity_regularizer.{name}`.", True
    )
    for name in ("l1", "l2")
}
_TENSOR, _TRACED, _TWIN = Verdict("tensor"), Verdict("traced"), Verdict("twin")

TABLE: dict[tuple[type, str], Verdict] = {
    # L1L2 asks `if self.l1 != 0.0`.
    (regularizers.L1L2, "l1"): _TRACED,
    (regularizers.L1L2, "l2"): _TRACED,
    (regularizers.L1, "l1"): _TENSOR,
    (regularizers.L2, "l2"): _TENSOR,
    (regularizers.OrthogonalRegularizer, "factor"): _TENSOR,
    (layers.GaussianNoise, "stddev"): _TRACED,  # asks `stddev > 0`
    (layers.GaussianDropout, "rate"): _TWIN,
    (layers.LeakyReLU, "negative_slope"): _TWIN,
    (layers.ELU, "alpha"): _TWIN,
    (layers.ReLU, "negative_slope"): _TWIN,
    (layers.ReLU, "max_value"): _TWIN,
    (layers.ReLU, "threshold"): _refused(JUMP),
    (layers.Masking, "mask_value"): _refused(JUMP),
    (layers.Discretization, "bin_boundaries"): _refused(JUMP),
    (layers.Discretization, "epsilon"): _refused(JUMP),
    (layers.BatchNormalization, "momentum"): _TENSOR,
    (layers.BatchNormalization, "epsilon"): _TENSOR,
    (layers.BatchNormalization, "renorm_momentum"): _refused(RENORM, True),
    (layers.LayerNormalization, "epsilon"): _TENSOR,
    (layers.GroupNormalization, "epsilon"): _TENSOR,
    (layers.RMSNormalization, "epsilon"): _TENSOR,
    (layers.Normalization, "mean"): _TENSOR,
    (layers.Normalization, "variance"): _TWIN,  # no derivative where it is 0
    (layers.Rescaling, "scale"): _TENSOR,
    (layers.Rescaling, "offset"): _TENSOR,
    (layers.Dropout, "rate"): _refused(RANDOM_THRESHOLD),
    (layers.SpatialDropout1D, "rate"): _refused(RANDOM_THRESHOLD),
    (layers.SpatialDropout2D, "rate"): _refused(RANDOM_THRESHOLD),
    (layers.SpatialDropout3D, "rate"): _refused(RANDOM_THRESHOLD),
    (layers.AlphaDropout, "rate"): _refused(RANDOM_THRESHOLD),
    (layers.Attention, "dropout"): _refused(RANDOM_THRESHOLD),
    (layers.AdditiveAttention, "dropout"): _refused(RANDOM_THRESHOLD),
    (layers.MultiHeadAttention, "dropout"): _refused(RANDOM_THRESHOLD),
    (layers.GroupQueryAttention, "dropout"): _refused(RANDOM_THRESHOLD),
    **{
        (layer, attribute): _refused(RANDOM_THRESHOLD)
        for layer in (layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell)
        for attribute in ("dropout", "recurrent_dropout")
    },
    # Each fails on a backend, or in one precision.
    (layers.Resizing, "fill_value"): _refused(PREPROCESSING),
    **{
        (layers.MelSpectrogram, attribute): _refused(PREPROCESSING)
        for attribute in ("min_freq", "max_freq", "top_db", "mag_exp", "min_power")
    },
    (layers.MelSpectrogram, "ref_power"): _refused(PREPROCESSING),
    # The numbers reached training when the constructor copied them elsewhere.
    (layers.ActivityRegularization, "l1"): _COPIED["l1"],
    (layers.ActivityRegularization, "l2"): _COPIED["l2"],
    # Losses hold their numbers in a dict. `if label_smoothing:` needs one that answers.
    (losses.BinaryCrossentropy, "label_smoothing"): _TRACED,
    (losses.BinaryFocalCrossentropy, "label_smoothing"): _TRACED,
    (losses.BinaryFocalCrossentropy, "alpha"): _TRACED,
    (losses.BinaryFocalCrossentropy, "gamma"): _TRACED,
    (losses.CategoricalCrossentropy, "label_smoothing"): _TRACED,
    (losses.CategoricalFocalCrossentropy, "label_smoothing"): _TRACED,
    (losses.CategoricalFocalCrossentropy, "alpha"): _TRACED,
    (losses.CategoricalFocalCrossentropy, "gamma"): _TRACED,
    (losses.CategoricalGeneralizedCrossEntropy, "q"): _TRACED,
    (losses.Circle, "gamma"): _refused(NO_SECOND),
    (losses.Circle, "margin"): _refused(NO_SECOND),
    (losses.Huber, "delta"): _TRACED,
    (losses.Tversky, "alpha"): _TRACED,
    (losses.Tversky, "beta"): _TRACED,
}

_THRESHOLD_NAMES = re.compile(r".*(drop_?out|drop_path|drop_prob|drop_rate|survival).*")
_NOISE_LAYERS = (layers.GaussianNoise, layers.GaussianDropout)


def verdict(owner: Any, attribute: str) -> Verdict:
    """How a float attribute is written, or why it cannot be tuned."""
    known = _from_table(owner, attribute)
    if known is not None:
        return known
    if _is_augmentation(owner):
        return _refused(AUGMENTATION)
    if _THRESHOLD_NAMES.fullmatch(attribute):
        return _refused(RANDOM_THRESHOLD)
    if is_from_keras(type(owner)):
        return _refused(UNVERIFIED)
    return Verdict("unknown")


def is_from_keras(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "keras"


def _from_table(owner: Any, attribute: str) -> Verdict | None:
    for cls in type(owner).__mro__:
        found = TABLE.get((cls, attribute))
        if found is None:
            continue
        if found.reason is None and isinstance(owner, _NOISE_LAYERS):
            if "seed_generator" not in vars(owner):
                return _refused(NO_SEED)
        if (cls, attribute) == (layers.BatchNormalization, "momentum"):
            if not owner.trainable:
                return _refused(FROZEN_STATISTICS, idle=True)
        if found.form == "twin" and twin_of(owner) is None:
            return Verdict("unknown")
        return found
    return None


def _is_augmentation(owner: Any) -> bool:
    names = {cls.__name__ for cls in type(owner).__mro__ if is_from_keras(cls)}
    return "BaseImagePreprocessingLayer" in names
