"""Names of layers inside a model, and the paths that are built from them.

A path is ``<layer>[/<layer>…].<attribute>[.<attribute>]``. A name that could be read in
two ways is quoted in square brackets, a closing bracket inside it doubled.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

# First words of a path that mean something else than a layer.
RESERVED = ("optimizer", "loss", "loss_weights", "data", "initial", "scale", "model")

_PLAIN = re.compile(r"[A-Za-z0-9_\-]+")
_TOKEN = re.compile(r"\[((?:[^\]]|\]\])*)\](?!\])|([./])|([^./\[\]]+)")
_WRAPPER_PREFIXES = ("forward_", "backward_")  # `keras.layers.Bidirectional`


class Part(NamedTuple):
    """A name or a separator of a path."""

    text: str
    quoted: bool
    separator: bool


def quote(name: str, *, first: bool = False) -> str:
    """The name as it stands in a path: ``dense``, ``[conv.1]``, first ``[loss]``."""
    if _PLAIN.fullmatch(name) and not (first and name in RESERVED):
        return name
    return "[" + name.replace("]", "]]") + "]"


def split(path: str) -> list[Part]:
    """The parts of a path or pattern, separators included.

    Raises:
        ValueError: names and separators do not alternate, or a bracket is open.
    """
    parts: list[Part] = []
    position = 0
    while position < len(path):
        token = _TOKEN.match(path, position)
        wants_name = not parts or parts[-1].separator
        if token is None or (token.group(2) is None) != wants_name:
            break
        quoted, separator, plain = token.groups()
        if quoted is not None:
            parts.append(Part(quoted.replace("]]", "]"), True, False))
        else:
            parts.append(Part(separator or plain, False, separator is not None))
        position = token.end()
    if position < len(path) or not parts or parts[-1].separator:
        raise ValueError(
            f"The path {path!r} cannot be read, expected names joined by '.' and '/', "
            f"odd ones quoted as '[name]'. Received: {path[position:]!r} at position "
            f"{position}. Complete the path; inside brackets write ']' as ']]'."
        )
    return parts


def matches(pattern: str, path: str) -> bool:
    """Whether a path is named by a pattern.

    ``*`` matches any characters but ``.`` (it reaches into nested models), ``?`` one
    character. They stand for layers and attributes: the optimizer, the loss and the
    data are only matched by a pattern that begins with their own word.
    """
    wanted, parts = split(pattern), split(path)
    first, word = parts[0], wanted[0]
    if first.text in RESERVED and first.quoted != word.quoted:
        if not first.quoted or word.text == first.text:
            return False
    elif first.text in RESERVED and not first.quoted and word.text != first.text:
        return False
    expression = "".join(_expression(part) for part in wanted)
    return re.fullmatch(expression, "".join(map(_encoded, parts))) is not None


def has_wildcard(pattern: str) -> bool:
    return any(
        not part.quoted and ("*" in part.text or "?" in part.text)
        for part in split(pattern)
    )


def _encoded(part: Part) -> str:
    """Text in which '.' and '/' are separators only."""
    if part.separator:
        return part.text
    return re.sub(r"[./%]", lambda char: f"%{ord(char.group()):x}", part.text)


def _expression(part: Part) -> str:
    literal = re.escape(_encoded(part))
    if part.quoted or part.separator:
        return literal
    return literal.replace(r"\*", "[^.]*").replace(r"\?", "[^./]")


def canonical_names(layers: Sequence[Any]) -> list[str]:
    """Names of sibling layers that do not depend on what was built before.

    Names that Keras gave (``dense_7``) are renumbered in layer order, the first
    without a number, as in a fresh process; names that the user gave stay. A name that
    is taken is skipped.
    """
    bases = [_automatic_base(layer) for layer in layers]
    taken = {layer.name for layer, base in zip(layers, bases) if base is None}
    names: list[str] = []
    given: set[str] = set()
    for layer, base in zip(layers, bases):
        if base is None and layer.name not in given:
            name = layer.name
        else:
            name = _first_free(base or layer.name, taken | given)
        given.add(name)
        names.append(name)
    return names


def _automatic_base(layer: Any) -> str | None:
    """``dense`` for a layer that Keras called dense or dense_7, None otherwise."""
    base = _snake_case(type(layer).__name__)
    for prefix in ("", *_WRAPPER_PREFIXES):
        if re.fullmatch(re.escape(prefix + base) + r"(_\d+)?", layer.name):
            return prefix + base
    return None


def _first_free(base: str, taken: set[str]) -> str:
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _snake_case(name: str) -> str:
    """The rule by which Keras turns a class name into a layer name."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
