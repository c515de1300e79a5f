"""A tuned schedule as an ordinary Keras object."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable("hypergrad")
class TunedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step of a training; the last one stays after it.

    A model that holds one is saved with it, and loads where ``hypergrad`` is imported.

    Args:
        rates: sequence of T floats.
    """

    def __init__(self, rates: Sequence[float]):
        self.rates = [float(rate) for rate in rates]
        if not self.rates:
            raise ValueError("`rates` must hold at least one number. Received none.")

    def __call__(self, step: Any) -> Any:
        rates = keras.ops.convert_to_tensor(self.rates, keras.config.floatx())
        last = len(self.rates) - 1
        return keras.ops.take(rates, keras.ops.minimum(step, last))

    def get_config(self) -> dict[str, Any]:
        return {"rates": self.rates}
