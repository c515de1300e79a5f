"""Tiny models that hold every layer of Keras, and what of them is tuned.

A case is a function from a tensor to the outputs of a few layers side by side, whose
sum of squares trains a `Dense` in front of them (the stem) and one behind (the head).
The derivative by the stem's penalty passes through both derivatives of every layer, so
that an error in one of them is not hidden by its neighbours.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import hypergrad as hg
import image_layers as images

BOTH = ("jax", "tensorflow")
BATCH, STEPS = 3, 3
L2 = 0.05

VECTOR, SEQUENCE, IMAGE, VOLUME = (3,), (4, 3), (4, 4, 3), (4, 4, 4, 2)


@dataclasses.dataclass(frozen=True)
class Case:
    """Layers side by side between a stem and a head.

    Attributes:
        layers: function, tensor → list of tensors.
        shape: of an example.
        integers: int, draws whole numbers below it instead of normal ones; no stem.
        raw: bool, whether the layers come before the stem: those that treat data.
        units: int, of the stem.
        rate: float, of learning.
        backends: those that can train the layers so; a comment says why not all.
        float64: those on which Keras can run them in float64.
        slow: bool.
    """

    layers: Callable[[Any], list]
    shape: tuple[int, ...]
    integers: int = 0
    raw: bool = False
    units: int = 3
    rate: float = 0.1
    backends: tuple[str, ...] = BOTH
    float64: tuple[str, ...] = BOTH
    slow: bool = False

    def model(self, only: int | None = None) -> keras.Model:
        dtype = "int32" if self.integers else None
        inputs = keras.Input(self.shape, dtype=dtype)
        stem = layers.Dense(
            self.units,
            "tanh",
            kernel_regularizer=keras.regularizers.L2(L2),
            name="stem",
        )
        x = inputs if self.raw or self.integers else stem(inputs)
        outputs = self.layers(x)
        if only is not None:
            outputs = outputs[only : only + 1]
        rows = [layers.Flatten()(y) if len(y.shape) != 2 else y for y in outputs]
        rows = rows[0] if len(rows) == 1 else layers.Concatenate()(rows)
        if self.raw or self.integers:
            rows = stem(rows)
        return keras.Model(inputs, layers.Dense(1, name="head")(rows))

    def data(self) -> tuple[Any, Any]:
        draw = np.random.default_rng(0)
        rows = 2 * BATCH + 3
        if self.integers:
            x: Any = draw.integers(0, self.integers, (rows, *self.shape))
        else:
            x = draw.normal(size=(rows, *self.shape))
        return x, draw.normal(size=(rows, 1))

    def problem(
        self, jit_compile: bool = False, only: int | None = None
    ) -> tuple[hg.Problem, dict[str, float]]:
        values = {
            "optimizer.learning_rate": self.rate,
            "optimizer.momentum": 0.5,
            "stem.kernel_regularizer.l2": L2,
        }
        model = self.model(only)
        optimizer = keras.optimizers.SGD(self.rate, momentum=0.5)
        model.compile(optimizer, "mse", jit_compile=jit_compile)
        x, y = self.data()
        problem = hg.Problem.from_model(
            model,
            x[: 2 * BATCH],
            y[: 2 * BATCH],
            validation_data=(x[2 * BATCH :], y[2 * BATCH :]),
            batch_size=BATCH,
            steps=STEPS,
            hyperparameters={
                k: hg.Float(0.5 * v, 1.5 * v, default=v) for k, v in values.items()
            },
        )
        return problem, values


def dense(x: Any) -> list:
    return [
        layers.Dense(2)(x),
        layers.EinsumDense("ab,bc->ac", output_shape=2, bias_axes="c")(x),
        layers.Identity()(x),
        layers.Lambda(lambda x: x * ops.exp(x))(x),
        layers.ActivityRegularization(l2=0.1)(x),
    ]


def conv_1d(x: Any) -> list:
    return [
        layers.Conv1D(2, 2)(x),
        layers.Conv1D(2, 2, padding="causal", dilation_rate=2)(x),
        layers.Conv1DTranspose(2, 2, strides=2)(x),
        layers.SeparableConv1D(2, 2)(x),
        layers.DepthwiseConv1D(2)(x),
    ]


def conv_2d(x: Any) -> list:
    return [
        layers.Conv2D(2, 2, strides=2)(x),
        layers.Conv2DTranspose(2, 2, strides=2)(x),
        layers.SeparableConv2D(2, 2)(x),
        layers.DepthwiseConv2D(2, depth_multiplier=2)(x),
    ]


def conv_3d(x: Any) -> list:
    return [
        layers.Conv3D(2, 2)(x),
        layers.Conv3DTranspose(1, 2, strides=2)(x),
    ]


def pooling_1d(x: Any) -> list:
    return [
        layers.MaxPooling1D(2)(x),
        layers.AveragePooling1D(2)(x),
        layers.GlobalMaxPooling1D()(x),
        layers.GlobalAveragePooling1D()(x),
        layers.AdaptiveMaxPooling1D(3)(x),
        layers.AdaptiveAveragePooling1D(3)(x),
    ]


def pooling_2d(x: Any) -> list:
    return [
        layers.MaxPooling2D(2)(x),
        layers.AveragePooling2D(2)(x),
        layers.GlobalMaxPooling2D()(x),
        layers.GlobalAveragePooling2D()(x),
        layers.AdaptiveMaxPooling2D(3)(x),
        layers.AdaptiveAveragePooling2D(3)(x),
    ]


def pooling_3d(x: Any) -> list:
    return [
        layers.MaxPooling3D(2)(x),
        layers.AveragePooling3D(2)(x),
        layers.AdaptiveMaxPooling3D(3)(x),
        layers.AdaptiveAveragePooling3D(3)(x),
    ]


def global_pooling_3d(x: Any) -> list:
    return [layers.GlobalMaxPooling3D()(x), layers.GlobalAveragePooling3D()(x)]


def normalizations(x: Any) -> list:
    return [
        layers.BatchNormalization(momentum=0.8)(x),
        layers.LayerNormalization(epsilon=0.01)(x),
        layers.GroupNormalization(1, epsilon=0.01)(x),
        layers.RMSNormalization(epsilon=0.01)(x),
        layers.UnitNormalization()(x),
    ]


def dropouts(x: Any) -> list:
    return [
        layers.Dropout(0.3, seed=1)(x),
        layers.AlphaDropout(0.3, seed=2)(x),
        layers.GaussianDropout(0.3, seed=3)(x),
        layers.GaussianNoise(0.3, seed=4)(x),
        layers.SpatialDropout1D(0.3, seed=5)(x),
    ]


def spatial_dropouts(x: Any) -> list:
    volume = layers.Reshape((2, 2, 4, 3))(x)
    return [
        layers.SpatialDropout2D(0.3, seed=1)(x),
        layers.SpatialDropout3D(0.3, seed=2)(volume),
    ]


def embedding(x: Any) -> list:
    tokens = layers.Embedding(6, 2, mask_zero=True)(x)
    tied = layers.ReversibleEmbedding(6, 2)
    return [
        layers.SimpleRNN(2)(tokens),
        layers.GlobalAveragePooling1D()(tokens),
        layers.Embedding(6, 2, embeddings_regularizer="l2")(x),
        tied(tied(x), reverse=True),
    ]


def masking(x: Any) -> list:
    masked = layers.Masking(mask_value=0.0)(layers.ReLU()(x))
    return [layers.LSTM(2)(masked), layers.GRU(2)(masked)]


def simple_rnn(x: Any) -> list:
    cells = [layers.SimpleRNNCell(2), layers.LSTMCell(2), layers.GRUCell(2)]
    return [
        layers.SimpleRNN(2, return_sequences=True)(x),
        layers.RNN(layers.StackedRNNCells(cells))(x),
        layers.TimeDistributed(layers.Dense(2))(x),
    ]


def lstm(x: Any) -> list:
    return [
        layers.LSTM(2, return_sequences=True)(x),
        layers.LSTM(2, dropout=0.2, recurrent_dropout=0.2, seed=1)(x),
    ]


def gru(x: Any) -> list:
    return [
        layers.GRU(2)(x),
        layers.GRU(2, reset_after=False, go_backwards=True)(x),
    ]


def bidirectional(x: Any) -> list:
    return [
        layers.Bidirectional(layers.LSTM(2))(x),
        layers.Bidirectional(layers.GRU(2), merge_mode="mul")(x),
    ]


def conv_lstm_1d(x: Any) -> list:
    return [layers.ConvLSTM1D(1, 2)(x)]


def conv_lstm_2d(x: Any) -> list:
    return [layers.ConvLSTM2D(1, 2)(x)]


def conv_lstm_3d(x: Any) -> list:
    return [layers.ConvLSTM3D(1, 2)(x)]


def attention(x: Any) -> list:
    return [
        layers.Attention(use_scale=True, dropout=0.2, seed=1)([x, x]),
        layers.AdditiveAttention()([x, x], use_causal_mask=True),
        layers.MultiHeadAttention(2, 2, dropout=0.2, seed=2)(x, x),
    ]


def fused_attention(x: Any) -> list:
    return [
        layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True),
        layers.GroupQueryAttention(2, 2, 1)(x, x),
    ]


def smooth_activations(x: Any) -> list:
    names = "celu elu exponential gelu hard_silu log_sigmoid log_softmax mish selu"
    names += " sigmoid silu softmax softplus softsign sparse_sigmoid squareplus"
    names += " tanh tanh_shrink linear"
    outputs = [layers.Activation(name)(x) for name in names.split()]
    return [*outputs, layers.Lambda(keras.activations.glu, output_shape=(2,))(x)]


def kinked_activations(x: Any) -> list:
    names = "hard_shrink hard_sigmoid hard_tanh leaky_relu relu relu6 soft_shrink"
    names += " sparse_plus sparsemax"
    outputs = [layers.Activation(name)(x) for name in names.split()]
    return [*outputs, layers.Lambda(lambda x: ops.threshold(x, 0.1, 0.2))(x)]


def activation_layers(x: Any) -> list:
    return [
        layers.ReLU(max_value=0.8, negative_slope=0.1, threshold=0.05)(x),
        layers.ReLU()(x),
        layers.LeakyReLU(0.2)(x),
        layers.PReLU("uniform")(x),
        layers.ELU(0.8)(x),
        layers.Softmax()(x),
    ]


def merging(x: Any) -> list:
    y = layers.Dense(3, "tanh")(x)
    return [
        layers.Add()([x, y]),
        layers.Average()([x, y]),
        layers.Concatenate()([x, y]),
        layers.Dot(-1)([x, y]),
        layers.Dot(-1, normalize=True)([x, y]),
        layers.Maximum()([x, y]),
        layers.Minimum()([x, y]),
        layers.Multiply()([x, y]),
        layers.Subtract()([x, y]),
    ]


def reshaping(x: Any) -> list:
    image = layers.Reshape((3, 2, 2))(x)
    volume = layers.Reshape((2, 2, 3, 1))(x)
    return [
        layers.Flatten()(x),
        layers.Permute((2, 1))(x),
        layers.RepeatVector(2)(layers.Flatten()(x)),
        layers.Cropping1D(1)(x),
        layers.Cropping2D(((1, 0), (0, 1)))(image),
        layers.Cropping3D(((1, 0), (0, 1), (1, 1)))(volume),
        layers.ZeroPadding1D(1)(x),
        layers.ZeroPadding2D(1)(image),
        layers.ZeroPadding3D(1)(volume),
        layers.UpSampling1D(2)(x),
        layers.UpSampling2D(2)(image),
        layers.UpSampling3D(2)(volume),
    ]


def upsampling(x: Any) -> list:
    kinds = ("bilinear", "bicubic", "lanczos3")
    return [layers.UpSampling2D(2, interpolation=kind)(x) for kind in kinds]


def resizing(x: Any) -> list:
    return [layers.Resizing(3, 5)(x), layers.CenterCrop(2, 2)(x)]


def numbers(x: Any) -> list:
    return [
        layers.Normalization(mean=0.5, variance=2.0)(x),
        layers.Rescaling(1.5, offset=0.25)(x),
        layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])(x),
    ]


def whole_numbers(x: Any) -> list:
    return [
        layers.CategoryEncoding(6, output_mode="multi_hot")(x),
    ]


def lookups(x: Any) -> list:
    return [
        layers.IntegerLookup(vocabulary=[1, 2, 4], output_mode="multi_hot")(x),
        layers.Hashing(4, output_mode="multi_hot")(x),
    ]


def spectrogram(x: Any) -> list:
    return [
        layers.STFTSpectrogram(
            mode="real", frame_length=4, frame_step=2, fft_length=4, expand_dims=False
        )(x)
    ]


def mel_spectrogram(x: Any) -> list:
    bands = layers.MelSpectrogram(
        fft_length=4,
        sequence_stride=2,
        sequence_length=4,
        sampling_rate=16,
        num_mel_bins=2,
        min_freq=1,
    )
    return [layers.Rescaling(0.01)(bands(layers.Reshape((16,))(x)))]


CASES = {
    "dense": Case(dense, VECTOR),
    "conv-1d": Case(conv_1d, SEQUENCE),
    "conv-2d": Case(conv_2d, IMAGE, units=2),
    "conv-3d": Case(conv_3d, VOLUME, units=2, slow=True),
    "pooling-1d": Case(pooling_1d, SEQUENCE),
    "pooling-2d": Case(pooling_2d, IMAGE, units=2),
    "pooling-3d": Case(
        pooling_3d, VOLUME, units=2, rate=0.01, float64=("jax",), slow=True
    ),
    "global-pooling-3d": Case(global_pooling_3d, VOLUME, units=2, slow=True),
    "normalizations": Case(normalizations, VECTOR),
    "dropouts": Case(dropouts, SEQUENCE),
    "spatial-dropouts": Case(spatial_dropouts, IMAGE, slow=True),
    "embedding": Case(embedding, (4,), integers=6),
    "masking": Case(masking, SEQUENCE, slow=True),
    "simple-rnn": Case(simple_rnn, SEQUENCE, slow=True),
    "lstm": Case(lstm, SEQUENCE),
    "gru": Case(gru, SEQUENCE, slow=True),
    "bidirectional": Case(bidirectional, SEQUENCE, slow=True),
    "conv-lstm-1d": Case(conv_lstm_1d, (2, 3, 2), units=2, slow=True),
    "conv-lstm-2d": Case(conv_lstm_2d, (2, 3, 3, 2), units=2, slow=True),
    "conv-lstm-3d": Case(conv_lstm_3d, (2, 2, 2, 2, 2), units=2, slow=True),
    "attention": Case(attention, SEQUENCE),
    "fused-attention": Case(fused_attention, SEQUENCE, slow=True),
    "smooth-activations": Case(smooth_activations, VECTOR, units=4),
    "kinked-activations": Case(kinked_activations, VECTOR, units=4, slow=True),
    "activation-layers": Case(activation_layers, VECTOR),
    "merging": Case(merging, VECTOR),
    "reshaping": Case(reshaping, SEQUENCE, slow=True),
    "upsampling": Case(upsampling, IMAGE, slow=True),
    "resizing": Case(resizing, IMAGE),
    "numbers": Case(numbers, VECTOR, raw=True),
    "whole-numbers": Case(whole_numbers, (4,), integers=6),
    # Both look up in tables of TensorFlow.
    "lookups": Case(lookups, (4,), integers=6, backends=("tensorflow",)),
    "spectrogram": Case(spectrogram, (16, 1), raw=True, slow=True),
    "mel-spectrogram": Case(
        mel_spectrogram, (16, 1), raw=True, float64=("jax",), slow=True
    ),
    "flips": Case(images.flips, IMAGE, slow=True),
    "mixes": Case(images.mixes, IMAGE, slow=True),
    "colours": Case(images.colours, IMAGE, rate=0.01, slow=True),
    # TensorFlow's gradient by such images is approximate, and refused; as a treatment
    # of data they run on both.
    "geometry": Case(images.geometry, IMAGE, backends=("jax",), slow=True),
    "geometry-of-data": Case(images.geometry, IMAGE, raw=True, slow=True),
    "rotation": Case(images.rotation, IMAGE, raw=True, float64=("jax",), slow=True),
    # TensorFlow knows no derivative by images in hue and saturation; refused.
    "hues": Case(images.hues, IMAGE, backends=("jax",), slow=True),
    "hues-of-data": Case(images.hues, IMAGE, raw=True, slow=True),
    # On JAX Keras cannot compile the two.
    "random-crop": Case(images.random_crop, IMAGE, backends=("tensorflow",), slow=True),
    "elastic": Case(images.elastic, IMAGE, backends=("tensorflow",), slow=True),
    "histograms": Case(images.histograms, IMAGE, raw=True, slow=True),
    # JAX passes too, after four minutes of compiling 256 bins of its histograms.
    "policies": Case(
        images.policies,
        IMAGE,
        raw=True,
        backends=("tensorflow",),
        float64=(),
        slow=True,
    ),
}
