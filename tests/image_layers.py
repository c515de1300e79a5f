"""Layers of Keras that augment images, side by side: for `layer_cases`."""

from typing import Any

from keras import layers

UNIT = {"value_range": (0, 1)}


def flips(x: Any) -> list:
    return [
        layers.RandomFlip(seed=1)(x),
        layers.Pipeline([layers.RandomFlip(seed=5), layers.Rescaling(0.5)])(x),
    ]


def mixes(x: Any) -> list:
    return [
        layers.RandomErasing(value_range=(0, 1), seed=9)(x),
        layers.MixUp(seed=4)(x),
        layers.CutMix(seed=3)(x),
    ]


def random_crop(x: Any) -> list:
    # In inference mode it leaves the size as it is.
    return [layers.GlobalAveragePooling2D()(layers.RandomCrop(3, 3, seed=5)(x))]


def geometry(x: Any) -> list:
    return [
        layers.RandomZoom(0.3, seed=3)(x),
        layers.RandomTranslation(0.3, 0.3, seed=4)(x),
        layers.RandomShear(0.3, 0.3, seed=6)(x),
        layers.RandomPerspective(scale=0.3, seed=7)(x),
    ]


def rotation(x: Any) -> list:
    return [layers.RandomRotation(0.3, seed=2)(x)]


def elastic(x: Any) -> list:
    return [layers.RandomElasticTransform(seed=8)(x)]


def colours(x: Any) -> list:
    return [
        layers.RandomBrightness(0.3, seed=1, **UNIT)(x),
        layers.RandomContrast(0.3, seed=2, **UNIT)(x),
        layers.RandomSharpness(0.3, seed=4, **UNIT)(x),
        layers.RandomColorDegeneration(0.3, seed=6, **UNIT)(x),
        layers.RandomColorJitter(seed=7, **UNIT)(x),
        layers.RandomGrayscale(seed=8)(x),
        layers.RandomInvert(seed=9, **UNIT)(x),
        layers.RandomGaussianBlur(seed=11, **UNIT)(x),
        layers.Solarization(seed=12, **UNIT)(x),
        layers.AutoContrast(**UNIT)(x),
    ]


def hues(x: Any) -> list:
    return [
        layers.RandomSaturation(0.3, seed=3, **UNIT)(x),
        layers.RandomHue(0.3, seed=5, **UNIT)(x),
    ]


def histograms(x: Any) -> list:
    return [
        layers.RandomPosterization(4, seed=10, **UNIT)(x),
        layers.ContrastLimitedAdaptiveHistogramEqualization(**UNIT)(x),
    ]


def policies(x: Any) -> list:
    return [layers.RandAugment(seed=2, **UNIT)(x)]
