"""The backend wall: the only folder that imports JAX or TensorFlow.

``from hypergrad import backend`` gives the functions that ``contract.py`` lists, for
the backend that Keras runs on. Arithmetic is not here: it is ``keras.ops``.
"""

import keras

from hypergrad.backend.contract import (
    NAMES,
    Compiled,
    CotangentPair,
    Traces,
    XlaRefused,
)

name: str = keras.backend.backend()

if name == "jax":
    from hypergrad.backend.jax import *  # noqa: F403
elif name == "tensorflow":
    from hypergrad.backend.tensorflow import *  # noqa: F403
else:
    raise ImportError(
        "hypergrad differentiates through training and needs Keras' JAX or TensorFlow "
        f"backend. Received: KERAS_BACKEND={name!r}. Set the environment variable "
        'KERAS_BACKEND="jax" or KERAS_BACKEND="tensorflow" before importing keras.'
    )

__all__ = ["Compiled", "CotangentPair", "Traces", "XlaRefused", "name", *NAMES]  # noqa: PLE0604
