"""The container that ``build_model(hp)`` gets, side by side with KerasTuner's."""

import json
import random

import keras_tuner
import pytest

from hypergrad.tuner.hyperparameters import (
    Boolean,
    Choice,
    Fixed,
    Float,
    HyperParameters,
    Int,
    own_hyperparameters,
)

BOTH = pytest.mark.parametrize(
    "make", [HyperParameters, keras_tuner.HyperParameters], ids=["ours", "theirs"]
)

NUMBERS = [
    ("Int", ("n", 6, 12), {}),
    ("Int", ("n", 6, 13), {"step": 3}),
    ("Int", ("n", 2, 32), {"step": 2, "sampling": "log"}),
    ("Int", ("n", 3, 900), {"sampling": "log"}),
    ("Int", ("n", 3, 900), {"sampling": "reverse_log", "default": 5}),
    ("Int", ("n", 4, 4), {}),
    ("Float", ("f", 0, 1), {}),
    ("Float", ("f", 0, 2), {"step": 0.25, "default": 0.5}),
    ("Float", ("f", 0.001, 10), {"step": 10, "sampling": "log"}),
    ("Float", ("f", 1e-4, 1e-1), {"sampling": "log"}),
    ("Float", ("f", 1e-4, 1e-1), {"sampling": "reverse_log"}),
    ("Float", ("f", 1, 16), {"step": 2, "sampling": "reverse_log"}),
    ("Choice", ("c", ["a", "b", "c"]), {"default": "b"}),
    ("Choice", ("c", [1, 2, 3]), {"ordered": False}),
    ("Choice", ("c", [0.1, 0.2]), {}),
    ("Boolean", ("b",), {}),
    ("Boolean", ("b",), {"default": True}),
    ("Fixed", ("x", 3), {}),
    ("Fixed", ("x", "text"), {}),
]


@pytest.mark.parametrize("kind, args, given", NUMBERS, ids=str)
def test_every_kind_has_the_values_of_kerastuner(kind, args, given):
    ours, theirs = HyperParameters(), keras_tuner.HyperParameters()
    value = getattr(ours, kind)(*args, **given)
    assert value == getattr(theirs, kind)(*args, **given)
    assert type(value) is type(theirs.values[args[0]])
    mine, other = ours.space[0], theirs.space[0]
    assert mine.default == other.default
    if kind in ("Int", "Float"):
        assert list(mine.values) == pytest.approx(
            sorted(set(other.values), key=mine.value_to_prob), rel=1e-12
        )
    else:
        assert list(mine.values) == list(other.values)
    for i in range(40):
        prob = (i + 0.5) / 40.0  # off the borders, where rounding decides
        wanted = other.prob_to_value(prob)
        assert mine.prob_to_value(prob) == wanted
        assert mine.value_to_prob(wanted) == pytest.approx(other.value_to_prob(wanted))
    for seed in range(10):
        assert mine.random_sample(seed) == other.random_sample(seed)
    assert own_hyperparameters(theirs).get_config() == ours.get_config()


def test_steps_that_are_not_binary_fractions_reach_the_end():
    """KerasTuner leaves 1.0 out here, against its own documentation."""
    entry = Float("f", 0, 1, step=0.2)
    assert entry.values == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert entry.prob_to_value(0.999) == pytest.approx(1.0)
    for value in entry.values:
        assert entry.prob_to_value(entry.value_to_prob(value)) == value


def describe(hp):
    with hp.name_scope("a"):
        hp.Boolean("on", default=True)
        with hp.name_scope("b"):
            hp.Int("n", 1, 4)
        return [hp.get("on"), "b/n" in hp, hp["b/n"], hp.Fixed("c", 1)]


def test_name_scopes_are_kerastuners():
    ours, theirs = HyperParameters(), keras_tuner.HyperParameters()
    assert describe(ours) == describe(theirs)
    assert ours.values == theirs.values
    assert list(ours.values) == ["a/on", "a/b/n", "a/c"]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("dropout", [False, True])
def test_conditions_are_kerastuners(model, dropout):
    def flat(hp):
        result = [hp.Choice("model", ["mlp", "cnn"])]
        with hp.conditional_scope("model", ["mlp"]):
            result.append(hp.Int("layers", 1, 3))
        with hp.conditional_scope("model", ["cnn"]):
            result += [hp.Int("filters", 8, 64), hp.Int("layers", 5, 9)]
        result.append(hp.Boolean("dropout"))
        with hp.conditional_scope("dropout", True):
            result.append(hp.Float("rate", 0.1, 0.5))
        return result

    ours, theirs = HyperParameters(), keras_tuner.HyperParameters()
    for hp in (ours, theirs):
        hp.values |= {"model": model, "dropout": dropout}
    assert flat(ours) == flat(theirs)
    assert ours.values == theirs.values
    assert [e.name for e in ours.space] == [e.name for e in theirs.space]
    for mine, other in zip(ours.space, theirs.space):
        assert ours.is_active(mine) == theirs.is_active(other)
        assert [(c.name, list(c.values)) for c in mine.conditions] == [
            (c.name, c.values) for c in other.conditions
        ]
    assert [len(s) for s in (ours.active_scopes, ours.inactive_scopes)] == [
        len(s) for s in (theirs.active_scopes, theirs.inactive_scopes)
    ]
    assert own_hyperparameters(theirs).get_config() == ours.get_config()
    assert ours.is_active("filters") == (model == "cnn")


@BOTH
def test_what_is_not_active_has_no_value(make):
    hp = make()
    hp.Choice("model", ["mlp", "cnn"])
    assert hp.Int("filters", 8, 64, parent_name="model", parent_values=["cnn"]) is None
    assert "filters" not in hp.values
    with pytest.raises(ValueError, match="filters is currently inactive"):
        hp.get("filters")
    with pytest.raises(KeyError, match="other does not exist"):
        hp.get("other")
    with pytest.raises(ValueError, match="other"):
        hp.Int("n", 1, 2, parent_name="other", parent_values=[1])
    with pytest.raises(ValueError, match="same name|another name"):
        with hp.conditional_scope("model", "mlp"):
            hp.Choice("model", ["a"])


@BOTH
def test_what_is_in_the_container_wins(make):
    hp = make()
    hp.Fixed("rate", 0.25)
    hp.Int("units", 1, 4, default=3)
    hp = hp.copy()
    assert hp.Float("rate", 0.0, 1.0) == 0.25
    assert hp.Int("units", 32, 512) == 3
    assert [entry.name for entry in hp.space] == ["rate", "units"]


@BOTH
def test_active_values_are_completed(make):
    random.seed(1)
    hp = make()
    hp.Choice("model", ["mlp", "cnn"])
    hp.Int("filters", 8, 64, parent_name="model", parent_values=["cnn"])
    hp.Int("units", 8, 64, parent_name="model", parent_values=["mlp"])
    hp.values["model"] = "cnn"
    hp.ensure_active_values()
    assert set(hp.values) == {"model", "filters"}
    assert 8 <= hp.values["filters"] <= 64


def test_a_merge_replaces_entries_and_their_values():
    hp, other = HyperParameters(), HyperParameters()
    hp.Int("n", 1, 9)
    hp.Boolean("kept", default=True)
    other.Int("n", 5, 7)
    kept = hp.copy()
    kept.merge(other, overwrite=False)
    assert kept.values == {"n": 1, "kept": True}
    hp.merge(other)
    assert hp.values == {"n": 5, "kept": True}
    assert [(e.name, e.default) for e in hp.space] == [("n", 5), ("kept", True)]


def test_a_container_survives_json():
    hp = HyperParameters()
    hp.Choice("model", ["mlp", "cnn"])
    hp.Float("f", 1e-4, 1, sampling="log", parent_name="model", parent_values="mlp")
    hp.Fixed("x", True)
    again = HyperParameters.from_config(json.loads(json.dumps(hp.get_config())))
    assert again.space == hp.space
    assert again.values == hp.values
    assert repr(again.space[1]) == (
        "Float(name: 'f', min_value: 0.0001, max_value: 1.0, step: None, "
        "sampling: 'log', default: 0.0001)"
    )
    changed = HyperParameters()
    changed.Float("f", 1e-4, 1, sampling="log")
    assert changed.space[0] != again.space[1]  # other conditions


def test_one_name_with_two_meanings_is_refused():
    hp = HyperParameters()
    hp.Int("units", 8, 64)
    assert hp.Int("units", 8, 64) == 8
    with pytest.raises(
        ValueError, match="'units' is asked for twice.*8.*16.*two names"
    ):
        hp.Int("units", 16, 64)
    with pytest.raises(ValueError, match="asked for twice"):
        hp.Choice("units", [8, 16])


@pytest.mark.parametrize(
    "kind, args, error, text",
    [
        (
            Float,
            ("f", 2, 1),
            ValueError,
            r"hp.Float\('f'\): `min_value` must be at most",
        ),
        (Float, ("f", 0, 1, None, "log"), ValueError, "needs `min_value` above 0"),
        (Float, ("f", 1, 9, 1, "log"), ValueError, "`step` must be above 1"),
        (Float, ("f", 0, 1, -0.5), ValueError, "`step` must be above 0"),
        (
            Float,
            ("f", 0, 1, None, "cube"),
            ValueError,
            "linear, log, reverse_log.*cube",
        ),
        (Int, ("n", 0.5, 3), ValueError, r"hp.Int\('n'\): `min_value` must be a whole"),
        (Int, ("n", 1, 9, 1.5), ValueError, "`step` must be a whole number.*1.5"),
        (Choice, ("c", []), ValueError, "at least one value"),
        (Choice, ("c", [1, "a"]), TypeError, "values of one type"),
        (Choice, ("c", [None]), TypeError, "values of one type"),
        (Choice, ("c", ["a"], None, "b"), ValueError, "must be one of the values"),
        (Choice, ("c", ["a"], True), ValueError, "strings have no order"),
        (Boolean, ("b", 3), ValueError, "must be True or False"),
        (Fixed, ("x", [1]), ValueError, "must be an int, float, str or bool"),
    ],
    ids=str,
)
def test_bad_entries_say_what_they_are(kind, args, error, text):
    with pytest.raises(error, match=text):
        kind(*args)


def test_other_containers_are_refused():
    with pytest.raises(TypeError, match="must be a hypergrad.HyperParameters"):
        own_hyperparameters({"units": 3})
    hp = HyperParameters()
    assert own_hyperparameters(hp) is hp
    hp.Int("n", 1, 2)
    with pytest.raises(TypeError, match="`parent_values`.*'n'"):
        hp.Int("m", 1, 2, parent_name="n", parent_values=[])
