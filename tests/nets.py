"""Small compiled models, and what of them is tuned: where derivatives are compared.

10-40 weights, six steps of training, smooth where the name does not say otherwise.
Everything is deterministic given the seed that ``conftest.py`` sets for each test.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

import hypergrad as hg
from registry import Rule

NUM_STEPS = 6
BATCH = 4
CLIPS = {"clipnorm": 0.25, "clipvalue": 0.05, "global_clipnorm": 0.35}


def penalty() -> keras.regularizers.Regularizer:
    return keras.regularizers.L1L2(l1=0.02, l2=0.03)


def tanh() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, "tanh", kernel_regularizer=penalty()),
            layers.Dense(1),
        ]
    )


def relu() -> keras.Model:
    """Dead units beside live ones, and a layer all of whose units are dead."""
    x = keras.Input((3,))
    live = layers.Dense(
        4,
        "relu",
        kernel_regularizer=penalty(),
        bias_initializer=keras.initializers.Constant([0.5, -50.0, 0.5, -50.0]),
    )(x)
    dead = layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-50.0))
    both = layers.Concatenate()([live, dead(x)])
    return keras.Model(x, layers.Dense(1)(both))


def cnn(use_bias: bool = True) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 2, use_bias=use_bias, kernel_regularizer=penalty()),
            layers.BatchNormalization(momentum=0.8),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )


def layer_norm() -> keras.Model:
    return _normalised(layers.LayerNormalization(epsilon=0.01))


def group_norm() -> keras.Model:
    return _normalised(layers.GroupNormalization(2, epsilon=0.01))


def _normalised(norm: keras.Layer) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_regularizer=penalty()),
            norm,
            layers.Activation("tanh"),
            layers.Dense(1),
        ]
    )


def noisy() -> keras.Model:
    """Every other number of a layer that a derivative can be taken by."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Rescaling(1.5, offset=0.25),
            layers.GaussianNoise(0.2, seed=1),
            layers.Dense(3, activity_regularizer=penalty()),
            layers.LeakyReLU(0.2),
            layers.GaussianDropout(0.2, seed=2),
            layers.Dense(3),
            layers.ELU(0.8),
            layers.Dense(1),
        ]
    )


@dataclasses.dataclass(frozen=True)
class Net:
    """``numbers``: path → value of what is tuned beside the optimizer."""

    build: Callable[[], keras.Model]
    numbers: Mapping[str, float]
    loss: Any = "mse"
    images: bool = False
    dead: bool = False


L1L2 = {"kernel_regularizer.l1": 0.02, "kernel_regularizer.l2": 0.03}
DENSE = {f"dense.{name}": value for name, value in L1L2.items()}

NETS = {
    "tanh": Net(tanh, DENSE),
    "relu-dead": Net(relu, DENSE, dead=True),
    "cnn-batchnorm": Net(
        cnn,
        {f"conv2d.{name}": value for name, value in L1L2.items()}
        | {"batch_normalization.momentum": 0.8, "batch_normalization.epsilon": 1e-3},
        loss="sparse_categorical_crossentropy",
        images=True,
    ),
    "layernorm": Net(layer_norm, DENSE | {"layer_normalization.epsilon": 0.01}),
    "groupnorm": Net(group_norm, DENSE | {"group_normalization.epsilon": 0.01}),
}

NOISY = Net(
    noisy,
    {
        "rescaling.scale": 1.5,
        "rescaling.offset": 0.25,
        "gaussian_noise.stddev": 0.2,
        "dense.activity_regularizer.l1": 0.02,
        "dense.activity_regularizer.l2": 0.03,
        "leaky_re_lu.negative_slope": 0.2,
        "gaussian_dropout.rate": 0.2,
        "elu.alpha": 0.8,
    },
)


def optimizer_of(
    rule: Rule, variant: str, option: str, **numbers: float
) -> tuple[keras.optimizers.Optimizer, dict[str, float]]:
    """A Keras optimizer, and attribute → value of what is tuned of it.

    ``option``: "bare", "decay", or the name of a clipping (with decay).
    """
    arguments: dict[str, Any] = {**rule.numbers, **rule.variants[variant], **numbers}
    if option != "bare":
        arguments["weight_decay"] = arguments.get("weight_decay", 0.05)
    if option in CLIPS:
        arguments[option] = CLIPS[option]
    tuned = {k: v for k, v in arguments.items() if type(v) is float}
    if not rule.clips:
        tuned = {k: v for k, v in tuned.items() if k not in CLIPS}
    return rule.optimizer(**arguments), tuned


def data_of(net: Net, rows: int = 2 * BATCH, seed: int = 0) -> tuple:
    """(x, y, x_val, y_val)."""
    draw = np.random.default_rng(seed)
    shape = (4, 4, 1) if net.images else (3,)
    x = draw.normal(size=(rows + 6, *shape))
    if net.loss == "sparse_categorical_crossentropy":
        y = draw.integers(0, 3, rows + 6)
    else:
        y = draw.normal(size=(rows + 6, 1))
    return x[:rows], y[:rows], x[rows:], y[rows:]


def range_around(name: str, value: float) -> hg.Float:
    """A range that leaves room for finite differences on both sides."""
    low, high = value - 0.5 * (abs(value) or 0.5), value + 0.5 * (abs(value) or 0.5)
    if name.rpartition(".")[2] in ("beta_1", "beta_2", "rho", "momentum"):
        high = min(high, 0.5 * (1.0 + value))
    return hg.Float(low, high, default=value)


def problem_of(
    net: Net,
    optimizer: keras.optimizers.Optimizer,
    tuned: Mapping[str, float],
    *,
    rows: int = 2 * BATCH,
    jit_compile: bool = False,
    loss: Any = None,
    prepare: Callable[[keras.Model], None] = lambda model: None,
    **arguments: Any,
) -> tuple[hg.Problem, dict[str, float]]:
    """(problem, values) with all those numbers tuned at once, at their values."""
    model = net.build()
    prepare(model)
    model.compile(optimizer, loss or net.loss, jit_compile=jit_compile)
    values = {f"optimizer.{name}": value for name, value in tuned.items()}
    values |= net.numbers
    x, y, x_val, y_val = data_of(net, rows)
    problem = hg.Problem.from_model(
        model,
        x,
        y,
        validation_data=(x_val, y_val),
        batch_size=BATCH,
        **{"steps": NUM_STEPS, **arguments},
        hyperparameters={k: range_around(k, v) for k, v in values.items()},
    )
    return problem, values
