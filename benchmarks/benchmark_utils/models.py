"""The models: small, ordinary, compiled Keras models with Keras' own defaults.

Regularizers are there with factor 0, so that a factor can be tuned.
"""

import keras
from keras import layers, regularizers


def none() -> regularizers.L2:
    """No penalty, whose factor may become one."""
    return regularizers.L2(0.0)


def dense(
    units: int, activation: str | None = None, bias: bool = False
) -> layers.Dense:
    return layers.Dense(
        units,
        activation=activation,
        kernel_regularizer=none(),
        bias_regularizer=none() if bias else None,
    )


def classifier(inner: list, shape: tuple, optimizer: str = "adam") -> keras.Model:
    """Layers and a last one with 10 classes, compiled for labels that are integers."""
    model = keras.Sequential([keras.Input(shape), *inner])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def digits_mlp() -> keras.Model:
    return classifier([dense(64, "relu"), dense(64, "relu"), dense(10)], (64,))


def image_mlp(bias: bool = False) -> keras.Model:
    """784-64-10."""
    inner = [layers.Flatten(), dense(64, "relu", bias), dense(10, None, bias)]
    return classifier(inner, (28, 28))


def logistic() -> keras.Model:
    return classifier([layers.Flatten(), dense(10)], (28, 28), "sgd")


def batch_norm_cnn() -> keras.Model:
    inner: list = []
    for filters in (8, 16):
        inner += [
            layers.Conv2D(
                filters, 3, strides=2, use_bias=False, kernel_regularizer=none()
            ),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    return classifier([*inner, layers.GlobalAveragePooling2D(), dense(10)], (14, 14, 1))


def row_lstm() -> keras.Model:
    lstm = layers.LSTM(24, kernel_regularizer=none(), use_cudnn=False)
    return classifier([lstm, dense(10)], (14, 14))


def regression_mlp(inputs: int) -> keras.Model:
    """One hidden layer of 50 ReLU units, as in Clarke et al. 2022."""
    model = keras.Sequential([keras.Input((inputs,)), dense(50, "relu"), dense(1)])
    rmse = keras.metrics.RootMeanSquaredError(name="rmse")
    model.compile(optimizer="adam", loss="mse", metrics=[rmse])
    return model


def sentence_model(words: int, length: int) -> keras.Model:
    """The mean of word vectors, and one hidden layer."""
    vectors = layers.Embedding(words, 16, embeddings_regularizer=none())
    inner = [
        vectors,
        layers.GlobalAveragePooling1D(),
        dense(16, "relu"),
        dense(1, "sigmoid"),
    ]
    model = keras.Sequential([keras.Input((length,), dtype="int32"), *inner])
    model.compile(
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
    )
    return model


def character_gru(letters: int, length: int) -> keras.Model:
    """Predicts the next character after each of a window."""
    gru = layers.GRU(32, return_sequences=True, use_cudnn=False)
    inner = [layers.Embedding(letters, 16), gru, dense(letters)]
    model = keras.Sequential([keras.Input((length,), dtype="int32"), *inner])
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def cifar_cnn() -> keras.Model:
    inner: list = []
    for filters in (8, 16):
        inner.append(
            layers.Conv2D(
                filters, 3, strides=2, activation="relu", kernel_regularizer=none()
            )
        )
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), *inner, layers.Flatten(), dense(10)]
    )
    model.compile(
        optimizer="adam",
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model
