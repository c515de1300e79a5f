"""What a rule is: the differentiable twin of a Keras optimizer."""

import abc
from collections.abc import Mapping
from typing import Any


class AbstractRule(abc.ABC):
    """One optimizer update as a pure function of gradients, state, weights and numbers.

    ``weights', state' = update(grads, state, weights, hparams)`` equals one
    ``optimizer.apply`` of Keras to rounding, step by step: clip, decay, update,
    constrain, count. It is traceable on both backends and differentiable twice
    with respect to every inexact argument.

    A state is a dict: ``"iterations"`` is an integer scalar, every other entry a list
    of arrays. Slots have the shape and the dtype of their variable where its rule does
    not say otherwise, as in Keras.

    Attributes:
        hyperparameters: dict attribute name -> float: every number of the compiled
            optimizer that an update reads. It is what ``update`` needs as ``hparams``
            when nothing is tuned. ``"learning_rate"`` is absent where a schedule gives
            it; without it in ``hparams``, ``update`` evaluates that schedule at
            ``state["iterations"]``. ``"weight_decay"`` is 0.0 where Keras has None.
    """

    hyperparameters: Mapping[str, float]

    @abc.abstractmethod
    def init(self, weights: list) -> dict:
        """The state before the first step.

        Args:
            weights: list of arrays, one a variable.

        Returns:
            State with zero iterations.
        """

    @abc.abstractmethod
    def read(self, optimizer: Any) -> dict:
        """The state that a (possibly already trained) Keras optimizer holds.

        A slot that the optimizer was built without (SGD's momentum of 0) is zero.
        """

    @abc.abstractmethod
    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        """Puts a state of concrete arrays into a built Keras optimizer.

        Raises:
            ValueError: the optimizer has no variables for a slot of the state.
        """

    @abc.abstractmethod
    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        """One step.

        Args:
            grads: list of arrays like ``weights``; None where the loss does not depend
                on a variable: that variable and its slots are left alone, as in Keras.
                Of the loss itself: a ``loss_scale_factor`` is not divided out.
            state: see the class.
            weights: list of arrays.
            hparams: dict attribute name -> Python float, scalar tensor or `Traced`;
                complete: ``{**rule.hyperparameters, **tuned}``. A Python float is used
                in double precision (``1 - beta`` is formed before rounding), as Keras
                does. A tensor of shape (number of variables,) has a number for each
                variable, in order; `FromKeras` takes scalars only.

        Returns:
            (weights, state) after the step.

        Raises:
            ValueError: a tensor of another shape, or one ``global_clipnorm`` for each
                variable.
            KeyError: there is no learning rate.
        """

    @abc.abstractmethod
    def final_weights(self, weights: list, state: Mapping[str, Any]) -> list:
        """What ``fit`` leaves in the model after its last epoch.

        With ``use_ema`` these are the moving averages that the state holds
        (``finalize_variable_values``), else the weights.
        """
