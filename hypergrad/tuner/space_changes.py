"""A study that is gone on with, and a search space that is no longer the same."""

from typing import Any

from hypergrad.tuner.hyperparameters import Boolean, Choice, HyperParameters


def refuse_other_choices(before: HyperParameters, now: HyperParameters) -> list[str]:
    """What changed between two spaces, a line for each entry.

    Other bounds are honoured: trials from now on keep to them. Other kinds and other
    choices are not, since what Optuna's samplers learned of them cannot be compared.

    Raises:
        ValueError: an entry has become another kind, or has other choices.
    """
    changed = []
    for entry in now.space:
        old = _same_place(before, entry)
        if old is None or old == entry:
            continue
        line = f"{old} → {entry}"
        kinds = type(old) is not type(entry)
        if kinds or (isinstance(entry, Choice) and entry.values != old.values):
            raise ValueError(
                "This study was begun with another search space: "
                f"{line}. Choices and kinds cannot change. Use another `project_name`, "
                "or `overwrite=True`."
            )
        if not isinstance(entry, (Choice, Boolean)):
            changed.append(line)
    return changed


def _same_place(space: HyperParameters, entry: Any) -> Any:
    for other in space.space:
        if other.name == entry.name and other.conditions == entry.conditions:
            return other
    return None
