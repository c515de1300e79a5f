"""Training as a function of its hyperparameters."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad import problem_checks as checks
from hypergrad.bound import expanded
from hypergrad.data import AbstractBatches, form_of
from hypergrad.keras_checks import explained
from hypergrad.parts import Bound, PerExample, PerStep, TrainState, Validation
from hypergrad.space import Float, Schedule

__all__ = ["Bound", "PerExample", "PerStep", "Problem", "TrainState", "Validation"]

FUNCTIONS = ("init", "val_loss", "step", "train_loss", "update", "bind", "samples")
SHARING = ("num_steps", "space", "data", "batches", "average", "resample")
GRAPH_ONLY = "graph only"
"""Stands among the programs of a problem whose derivatives XLA cannot compile."""


class Problem:
    """A training run as pure functions, and the space of its hyperparameters.

    One step is a gradient and a rule: ``g = ∂L/∂weights`` of
    ``train_loss(weights, state, hparams, batch) -> (loss, aux)``, then
    ``update(g, state, hparams, aux) -> (state, info)``. An opaque
    ``step(state, hparams, batch) -> (state, info)`` may be given instead of the two.
    After ``num_steps`` of them, ``val_loss(state, hparams)`` is the objective E.

    `Problem.from_model` makes one of a compiled Keras model.

    Args:
        init: function, hparams → state; any tree of arrays. Where ``train_loss`` is
            given, ``state.weights`` is what it is differentiated by.
        val_loss: function (state, hparams) → scalar; differentiable.
        num_steps: int ≥ 1, T, the length of the unroll.
        space: dict, name → `Float`, or `Schedule` of one: a step then sees its own
            value, ``val_loss`` the last step's, ``init`` none.
        step: function (state, hparams, batch) → (state, info), or None.
        train_loss: function (weights, state, hparams, batch) → (loss, aux), or None.
        update: function (grads, state, hparams, aux) → (state, info), or None.
        batches: function t → tree of arrays for step t, pure; None gives the index t.
        data: tree of arrays that every function receives as a last argument. Large
            arrays belong here: what a function closes over is compiled into it.
        bind: pure, differentiable function, dict of hparams → what the other functions
            receive as hparams (a dict; values may be marked `PerStep` or
            `PerExample`). None: the identity.
        average: int ≥ 1, N: E is the mean over N samples of this training, and costs N
            runs. Sample 0 is the problem as it is, the others are what ``samples``
            says.
        samples: function, i ≥ 1 → dict with what sample i has in the place of ``data``
            (a tree of the same form), ``batches``, or both; pure, called before each
            run. What differs between samples, such as a start or a seed, belongs in
            ``data``, where ``init`` and ``step`` read it.
        resample: "fixed": every run trains the same samples. "each_step": each outer
            step of `tune` those of another `draw`, so that values are found that do not
            lean on one batch order and one start.

    Raises:
        ValueError, TypeError: contradictory or missing parts, each naming the fix.

    Example:
        >>> problem = hg.Problem(
        ...     init=lambda hparams: {"w": keras.ops.zeros(3)},
        ...     step=lambda s, hparams, t: (
        ...         {"w": s["w"] - hparams["rate"] * (s["w"] - 1.0)}, {}),
        ...     val_loss=lambda s, hparams: keras.ops.sum(s["w"] ** 2),
        ...     num_steps=5, space={"rate": hg.Float(0.0, 1.0, default=0.1)})
        >>> hg.hypergradient(problem).gradient["rate"]
    """

    def __init__(
        self,
        *,
        init: Callable,
        val_loss: Callable | None,
        num_steps: int,
        space: Mapping[str, Float | Schedule],
        step: Callable | None = None,
        train_loss: Callable | None = None,
        update: Callable | None = None,
        batches: Callable | None = None,
        data: Any = None,
        bind: Callable | None = None,
        average: int = 1,
        samples: Callable | None = None,
        resample: str = "fixed",
    ):
        self.init = init
        self.val_loss: Any = val_loss
        self.num_steps = checks.checked_num_steps(num_steps)
        self.space, self.bind = expanded(space, bind)
        checks.check_knots(space, self.num_steps)
        self.step: Any = step
        self.train_loss: Any = train_loss
        self.update: Any = update
        self.batches: Any = batches
        self.data: Any = _arrays(data)
        self.average = checks.checked_average(average)
        self.samples: Any = samples
        self.resample = checks.checked_resample(resample)
        self.first_sample = 0
        checks.check_functions(vars(self))
        checks.check_samples(self)
        self.xla: bool | None = None
        self.init_is_constant = False
        # Names whose values are rows of the examples as they are.
        self.rows: tuple[str, ...] = ()
        self.keras: Any = None  # the KerasParts of `from_model`
        self.validation: Validation | None = None
        self._programs: dict[Any, Any] = {}

    @staticmethod
    def from_model(
        model: Any,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation_data: Any = None,
        validation_split: float = 0.0,
        steps: int | None = None,
        epochs: int | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        drop_remainder: bool = False,
        class_weight: Mapping[int, float] | None = None,
        seed: int = 0,
        hyperparameters: Mapping[str, Any] | Sequence[str],
        bind: Callable | None = None,
        objective: Callable | None = None,
        build_fn: Callable | None = None,
        average: int = 1,
        folds: int | None = None,
        resample: str = "fixed",
    ) -> "Problem":
        """Makes a `Problem` of a compiled Keras model; arguments as in ``fit``.

        Everything that ``compile`` holds is honoured in the inner loss L: losses and
        their weights, losses added by layers, regularisation, sample and class weights.
        The objective E is the data loss at the compiled loss in inference mode, without
        penalties and weights, so that tuning cannot move the measuring stick. It is
        computed over all validation rows at once, or, for losses of Keras that are a
        mean over rows without a mask, in parts of at most 1024 rows (whose layers must
        treat rows separately in inference mode, as those of Keras do).

        Args:
            model: compiled ``keras.Model``; only read (built first, as ``fit`` would).
            x: array, or nested dict, tuple or list of arrays, a row for each example:
                NumPy arrays, tensors, pandas tables. Or a dataset that gives (x, y) or
                (x, y, sample_weight): ``tf.data.Dataset``, ``keras.utils.PyDataset``,
                grain, a generator. Its batches are the same for a step forwards,
                backwards and in every run: they are drawn once and kept in the memory
                of the host; a PyDataset that does nothing between epochs is indexed
                anew beyond 1 GiB. Arrays of more than 2 GiB and memory-mapped ones
                stay on the host, and the rows of a segment of steps are sent together.
            y: the same, or None where the model computes its own loss, or a dataset.
            sample_weight: array or nested arrays, or None.
            validation_data: tuple (x, y) or (x, y, sample_weight), or a dataset, of
                which one pass is drawn and joined.
            validation_split: float in (0, 1), the last fraction of the rows, instead.
            steps: int, T; a dataset that ends before is iterated again. Or
            epochs: int, that many passes over the data; by default 1.
            batch_size: int; the last, partial batch of an epoch is trained as it is.
            shuffle: bool, a permutation for each epoch from (seed, epoch): of the rows
                of arrays, of the batches of a PyDataset; others keep their own order.
            drop_remainder: bool, leaves a partial batch out.
            class_weight: dict, class → weight; not with generators and grain.
            seed: int, sets the batch order. Initial weights and dropout states are the
                model's own.
            hyperparameters: dict, path → `Float`, or a `Schedule`, `PerVariable` or
                `PerTarget` of one; or a list of paths, which get default ranges.
                `tunables` lists the paths.
            bind: function, dict of hparams → {path: value}, or None. A value may be
                `PerStep(values)`.
            objective: function (y, y_pred) → scalar or array, whose mean is E instead.
                A model with its own ``compute_loss`` has E = that function on
                validation data, in inference mode, its numbers as compiled.
            build_fn: function () → compiled model, for models that cannot be cloned.
            average: int ≥ 1, N: E is the mean over N samples of this training, and
                costs N runs. Sample 0 is the model as it is. Sample i > 0 has the seed
                ``seed + i``: a copy of the model (of ``build_fn`` where it is given)
                initialised anew under that global seed of Keras gives its trained
                variables; its batch order is that of the seed, its random layers start
                from other states, its optimizer is new. Variables that are not trained
                and the order of a dataset stay. All samples start from a learned
                ``initial.…``; ``scale.…`` multiplies the start that each one has.
            folds: int K ≥ 2, cross-validation in the place of validation data: the rows
                are parted in K folds of equal size at random, by ``seed`` (in order
                without ``shuffle``). Sample i trains on all rows but those of fold
                ``i % K`` and E is measured on these; ``average`` is K by default, else
                a multiple of it. Rows that are left over are always trained on.
            resample: "fixed", or "each_step": in `tune` outer step k trains the samples
                ``k · average``, … instead of the first ones.

        Raises:
            ValueError, TypeError: what cannot be trained or tuned; the message says
                why, and what to use instead. Nothing is trained before.

        Warns:
            UserWarning: a number that reaches neither training nor E, or a model that
                computes in bfloat16.

        Example:
            >>> problem = hg.Problem.from_model(
            ...     model, x, y, validation_data=(x_val, y_val), epochs=3,
            ...     hyperparameters=["optimizer.learning_rate", "optimizer.beta_1"])
        """
        given = dict(locals())
        from hypergrad.from_model import from_model

        return from_model(**given)

    def replace(self, **changes: Any) -> "Problem":
        """The same problem with other parts, checked as a new one would be.

        ``num_steps``, ``data``, ``batches``, ``average`` and ``space`` (same names)
        share compiled programs; another function starts afresh. A problem of
        `from_model` keeps its functions, the shapes of its data, and ranges that its
        code was traced for.

        Raises:
            ValueError, TypeError: parts that are unknown or do not fit the others.
        """
        checks.check_changes(changes, SHARING, FUNCTIONS, self.keras is not None)
        parts = {name: getattr(self, name) for name in (*SHARING, *FUNCTIONS)}
        parts |= changes
        of_a_model = self.keras is not None
        average, resample = parts["average"], checks.checked_resample(parts["resample"])
        if of_a_model:  # its samples are its own
            parts |= {"average": 1, "resample": "fixed"}
        new = Problem(**parts)
        fixed = None if self.keras is None else self.keras.fixed_ranges
        checks.check_replaced_space(self.space, new.space, fixed)
        if self.keras is not None:
            checks.check_rows_stay(changes, self.batches)
            checks.check_replaced_data(self.data, new.data)
        new.xla = self.xla
        new.init_is_constant = self.init_is_constant
        new.rows = self.rows
        new.keras = self.keras
        new.first_sample = self.first_sample
        if of_a_model:
            self.keras.samples.prepare(new, average, resample)
        new.validation = self.validation
        if not set(changes) - set(SHARING):
            new._programs = self._programs
        return new

    def sample(self, i: int) -> "Problem":
        """Sample ``i`` of ``average`` as a problem of its own; programs are shared.

        Raises:
            ValueError: there is no such sample.
        """
        checks.check_sample(i, self.average)
        new = copy.copy(self)
        new.average, new.first_sample = 1, 0
        number = self.first_sample + i
        if number == 0:
            return new
        if self.keras is not None:
            parts = self.keras.samples.parts(self, number)
        else:
            parts = checks.checked_sample(self.samples(number), self.data)
        for name, part in parts.items():
            setattr(new, name, _arrays(part) if name == "data" else part)
        return new

    def draw(self, number: int) -> "Problem":
        """The same problem of other samples, ``average · number`` and those after it.

        Programs are shared. Draw 0 is the problem itself.
        """
        if number == 0:
            return self
        new = copy.copy(self)
        new.first_sample += number * self.average
        return new if self.average > 1 else new.sample(0)

    # Values

    def values(self, values: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Completes values by the defaults and checks them against the space.

        Args:
            values: dict, name → number or array in user units; None: the defaults
                (`Float.start`: without one, the middle of the range).

        Raises:
            ValueError, TypeError: no dict, an unknown name, a value outside its range,
                one that jit, grad, vmap or a gradient tape follows.
        """
        values = {} if values is None else values
        checks.check_names(values, self.space)
        checks.check_untraced(values)
        return {
            name: float_.validate(name, values[name])
            if name in values
            else float_.start()
            for name, float_ in self.space.items()
        }

    # The pure functions, with `data` appended where there are any

    def call_init(self, hparams: dict, data: Any) -> Any:
        with self._explained("init"):
            state = self.init(hparams, *_last(data))
        return _arrays(state)

    def call_loss(
        self, weights: Any, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any]:
        """(loss, aux) of ``train_loss``."""
        with self._explained("train_loss"):
            result = self.train_loss(weights, state, hparams, batch, *_last(data))
        loss, aux = checks.pair("train_loss", "(loss, aux)", result)
        return checks.scalar("the loss of `train_loss`", loss), aux

    def call_gradient(
        self, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any, Any]:
        """(grads, aux, loss) of ``train_loss`` at ``state.weights``."""

        def train_loss(weights: Any) -> tuple[Any, Any]:
            return self.call_loss(weights, state, hparams, batch, data)

        (loss, aux), grads = backend.value_and_grad(train_loss, has_aux=True)(
            state.weights
        )
        return grads, aux, loss

    def call_update(
        self, grads: Any, state: Any, hparams: dict, aux: Any, data: Any
    ) -> Any:
        """The state after the rule."""
        with self._explained("update"):
            result = self.update(grads, state, hparams, aux, *_last(data))
        return checks.pair("update", "(state, info)", result)[0]

    def call_step(
        self, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any]:
        """(new state, training loss; NaN where an opaque step reports none)."""
        if self.step is not None:
            with self._explained("step"):
                result = self.step(state, hparams, batch, *_last(data))
            state, info = checks.pair("step", "(state, info)", result)
            loss = info.get("loss") if isinstance(info, Mapping) else None
            if loss is None:
                return state, np.nan
            return state, checks.scalar("the loss that `step` reports", loss)
        grads, aux, loss = self.call_gradient(state, hparams, batch, data)
        return self.call_update(grads, state, hparams, aux, data), loss

    def call_validation(
        self, state: Any, hparams: dict, chunk: Any, metric_state: Any, data: Any
    ) -> tuple[Any, Any]:
        """(E of one chunk, metric state)."""
        if self.validation is not None:
            return self.validation.loss(state, hparams, chunk, metric_state, data)
        with self._explained("val_loss"):
            loss = self.val_loss(state, hparams, *_last(data))
        return checks.scalar("val_loss", loss), metric_state

    def _explained(self, name: str) -> AbstractContextManager[None]:
        return explained(f"`{name}`") if self.keras is None else nullcontext()

    @property
    def validation_chunks(self) -> Iterable[tuple[float, Any]]:
        """(weight, chunk) for each part of the validation data, one at a time."""
        if self.validation is None:
            return [(1.0, ())]
        return zip(self.validation.weights, self.validation.chunks)

    def batch(self, step: int) -> Any:
        """The batch of one step, as NumPy arrays."""
        if self.batches is None:
            return np.int32(step)
        return tree.map_structure(checks.as_batch, self.batches(step))

    def form(self, step: int) -> tuple:
        """((shape, dtype) of each leaf) of the batch of one step."""
        if isinstance(self.batches, AbstractBatches):
            return self.batches.form(step)
        return form_of(self.batch(step))

    def longest_run(self, step: int) -> int | None:
        """How many batches of that step's form can follow each other; None: any."""
        if isinstance(self.batches, AbstractBatches):
            return self.batches.longest_run(step)
        return None

    @property
    def num_numbers(self) -> int:
        """How many numbers all hyperparameters are."""
        return sum(math.prod(float_.shape) for float_ in self.space.values())

    # Compiled programs

    @property
    def uses_xla(self) -> bool:
        """Whether TensorFlow compiles the programs of this problem with XLA."""
        return bool(self.xla) and GRAPH_ONLY not in self._programs

    def leave_xla(self, reason: Exception) -> None:
        """From now on graph mode, for every program: a run and its sweep must agree.

        Dropout draws other numbers under XLA, so that a sweep in the other mode would
        differentiate another run.
        """
        warnings.warn(
            "XLA cannot compile a derivative of this model, so TensorFlow runs it as a "
            f"graph: {reason} Random layers draw other numbers than in `fit` now. "
            "Compile the model with `jit_compile=False` for the same ones.",
            stacklevel=4,
        )
        self._programs.clear()
        self._programs[GRAPH_ONLY] = True

    def program(self, key: Any, build: Callable[[], Callable], **options: Any) -> Any:
        """The compiled function of that key, made once for all sharing problems."""
        if key not in self._programs:
            self._programs[key] = backend.jit(build(), xla=self.uses_xla, **options)
        return self._programs[key]

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """A decision kept beside the programs, so that another T does not change it."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]


def _last(data: Any) -> tuple:
    return () if data is None else (data,)


def _arrays(value: Any) -> Any:
    return tree.map_structure(checks.as_array, value)
