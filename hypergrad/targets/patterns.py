"""From a path or a pattern to the targets it names."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hypergrad.targets.names import has_wildcard, matches
from hypergrad.targets.target import Target
from hypergrad.targets.verdicts import INTEGER

# Numbers of `fit`, not of the model: people ask for them by these names.
_OF_TRAINING = frozenset({"batch_size", "epochs", "steps", "steps_per_epoch"})


def resolve(targets: Sequence[Target], pattern: str) -> list[Target]:
    """The targets that a path or a pattern with ``*`` and ``?`` names.

    Args:
        targets: from `discover`.
        pattern: ``optimizer.beta_1``, ``dense*.kernel_regularizer.l2``.

    Returns:
        list of differentiable targets, at least one, in the order of ``targets``.

    Raises:
        ValueError: nothing matches (the nearest paths are named), or something that
            matches has no derivative (the reason is named).
    """
    found = [t for t in targets if any(matches(pattern, path) for path in t.paths)]
    if has_wildcard(pattern):
        found = [t for t in found if t.listed]
        found = [t for t in found if not t.idle] or found
    if not found:
        raise ValueError(_unknown(targets, pattern))
    refused = [t for t in found if t.reason is not None]
    if refused:
        raise ValueError(_not_differentiable(pattern, found, refused))
    return found


def _unknown(targets: Sequence[Target], pattern: str) -> str:
    last = pattern.rpartition(".")[2]
    if last in _OF_TRAINING:
        return (
            f"The path {pattern!r} cannot be tuned by gradient, expected a "
            f"differentiable number of the model. Received: `{last}`, {INTEGER}"
        )
    paths = [path for t in targets if t.listed for path in t.paths]
    tunable = [path for t in targets if t.reason is None for path in t.paths]
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.6) or (
        difflib.get_close_matches(pattern, tunable, n=3, cutoff=0.3) or tunable[:3]
    )
    return (
        f"The path {pattern!r} names nothing in this model, expected one of the paths "
        f"that `hypergrad.tunables(model)` prints. Nearest: {', '.join(near)}. "
        "Automatic layer names are renumbered in layer order: dense, dense_1, …"
    )


def _not_differentiable(
    pattern: str, found: Sequence[Target], refused: Sequence[Target]
) -> str:
    reasons = "; ".join(
        f"`{t.path}` = {_short(t.value)}: {t.reason}" for t in refused[:3]
    )
    more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
    rest = [t.path for t in found if t.reason is None]
    others = f" Differentiable matches: {', '.join(rest)}." if rest else ""
    return (
        f"The path {pattern!r} cannot be tuned by gradient, expected differentiable "
        f"numbers only. Received: {reasons}{more}{others}"
    )


def _short(value: Any) -> str:
    shape = np.shape(value)
    return f"an array of {shape}" if shape and np.size(value) > 4 else repr(value)
