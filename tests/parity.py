"""A rule beside the Keras optimizer it is the twin of, step by step.

Values are ones that float32 holds exactly: Keras on TensorFlow rounds some Python
floats through float32, and on that backend nothing else could agree to 1e-12.
"""

import itertools

import keras
import numpy as np
from keras import ops

from hypergrad import backend
from registry import OWN, RULES

STEPS = 4
SHAPES = ((3, 2), (2,), (2, 3))
NAMES = ("kernel", "bias", "kernel")
CLIPS = {"clipnorm": 0.5, "global_clipnorm": 1.0, "clipvalue": 0.25}
AVERAGES = {"use_ema": True, "ema_momentum": 0.75}
SHARED = {
    "weight_decay": {"weight_decay": 0.0625},
    "exclude": {"weight_decay": 0.0625},  # and see `make`
    "schedule": {},
    "constraint": {},
    "ema": AVERAGES,
    "overwriting": {**AVERAGES, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 2},
    "loss_scale": {"loss_scale_factor": 1024.0},
    **{name: {name: value} for name, value in CLIPS.items()},
}
EXCLUSIVE = ({*CLIPS}, {"ema", "overwriting"}, {"weight_decay", "exclude"})


@keras.saving.register_keras_serializable("tests")
class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """Half the rate every other step, in ``floatx``.

    (Keras' own schedules are float32 on TensorFlow, which its Muon refuses to multiply
    with a float64 gradient.)
    """

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        half = ops.cast(0.5, keras.config.floatx())
        return self.start * ops.power(half, ops.cast(step // 2, half.dtype))

    def get_config(self):
        return {"start": self.start}


def richest(kind: str) -> str:
    """The variant of a rule with most of its own options."""
    return list(RULES[kind].variants)[-1]


def single(kind: str) -> list[tuple[str, ...]]:
    """Each variant of a rule alone, then with the richest each shared option alone."""
    return [
        *((variant,) for variant in RULES[kind].variants),
        *((richest(kind), option) for option in SHARED),
    ]


def together(kind: str) -> list[tuple[str, ...]]:
    """Everything at once, with each of the clippings; accumulation with the first."""
    rest = [o for o in SHARED if o not in (*CLIPS, "ema", "weight_decay")]
    without = [o for o in rest if o != "accumulation"]
    first, *others = CLIPS
    return [
        (richest(kind), *rest, first),
        *((richest(kind), *without, clip) for clip in others),
    ]


def pairs(kind: str) -> list[tuple[str, ...]]:
    """Each variant with each shared option, and all pairs of shared options."""
    variants = list(RULES[kind].variants)[:-1]
    return [
        *itertools.product(variants, SHARED),
        *(
            (richest(kind), *pair)
            for pair in itertools.combinations(SHARED, 2)
            if not any(set(pair) <= group for group in EXCLUSIVE)
        ),
    ]


def cases(options) -> list[tuple[str, tuple[str, ...]]]:
    """(rule, chosen) for all of our own rules."""
    return [(kind, chosen) for kind in OWN for chosen in options(kind)]


def identify(value) -> str:
    return value if isinstance(value, str) else "+".join(value)


def make(kind: str, chosen: tuple[str, ...] = ()):
    """(optimizer, variables), built: a variant, then names of shared options."""
    declared = RULES[kind]
    variant, *options = chosen or (richest(kind),)
    arguments = {**declared.numbers, **declared.variants[variant]}
    for option in options:
        arguments.update(SHARED[option])
    if "schedule" in options:
        arguments["learning_rate"] = Halving(arguments["learning_rate"])
    optimizer = declared.optimizer(**arguments)
    variables = make_variables("constraint" in options)
    if "exclude" in options:
        optimizer.exclude_from_weight_decay(var_list=variables[:1], var_names=["bias"])
    optimizer.build(variables)
    return optimizer, variables


def make_variables(constrained: bool = False) -> list[keras.Variable]:
    draw = np.random.default_rng(1)
    variables = [
        keras.Variable(draw.normal(size=shape), name=name, dtype=keras.config.floatx())
        for shape, name in zip(SHAPES, NAMES)
    ]
    if constrained:
        variables[0].constraint = keras.constraints.MaxNorm(0.75)
        variables[1].constraint = keras.constraints.NonNeg()
        variables[2].constraint = keras.constraints.MinMaxNorm(0.5, 1.0, rate=0.5)
    return variables


def make_gradients(steps: int = STEPS) -> list[list]:
    draw = np.random.default_rng(2)
    steps_of_grads = []
    for step in range(steps):
        grads = [draw.normal(size=shape) / 2 for shape in SHAPES]
        grads[0][0, 0] = 0.0  # a weight that never has a gradient
        if step == 1:
            grads[1][:] = 0.0
        dtype = keras.config.floatx()
        steps_of_grads.append([backend.convert(g, dtype) for g in grads])
    return steps_of_grads


def snapshot(variables: list) -> list:
    return [backend.snapshot(v) for v in variables]


def error(a, b) -> float:
    """Largest difference, relative to the largest entry; both sides finite."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    # Python's max() would drop a NaN, and with it the failure.
    assert np.all(np.isfinite(a)) and np.all(np.isfinite(b))
    return float(np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b)), 1e-3))


def worst_error(optimizer, variables, rule, update=None) -> float:
    """Steps with the rule, then with Keras; compares weights and slots each step."""
    weights, state = snapshot(variables), rule.read(optimizer)
    scale = optimizer.loss_scale_factor or 1.0
    worst = 0.0
    for grads in make_gradients():
        weights, state = (update or rule.update)(
            grads, state, weights, rule.hyperparameters
        )
        optimizer.apply([g * scale for g in grads])
        expected_state = rule.read(optimizer)
        assert set(state) == set(expected_state)
        assert int(state["iterations"]) == int(expected_state["iterations"])
        pairs = [(weights, [v.value for v in variables])]
        pairs += [(state[k], expected_state[k]) for k in state if k != "iterations"]
        for ours, theirs in pairs:
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs):
                worst = max(worst, error(a, b))
    return worst


def changed(rule, new_hparams=None, new_weights=None):
    """The rule's update with other numbers, or with its weights changed."""

    def update(grads, state, weights, hparams):
        weights, state = rule.update(
            grads, state, weights, {**hparams, **(new_hparams or {})}
        )
        return [(new_weights or (lambda w: w))(w) for w in weights], state

    return update
