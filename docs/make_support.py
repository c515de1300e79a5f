"""Writes ``support.md``: which combinations are verified, and how exactly.

    make tables

runs the tests that judge an optimizer with its options, a layer, or a kind of number,
on both backends, and calls this script on what they recorded. A cell is the relative
error that the test of that name measured; no cell is written by hand. The page holds a
hash of the sources that decide it, which ``tests/test_docs.py`` compares.
"""

import ast
import hashlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "support.md"
DERIVATIVES = (
    "tracing finite_roots vjp value_and_grad grad fori_loop add convert".split()
)
SOURCES = {
    "hypergrad/backend/_*.py": None,
    "hypergrad/backend/jax.py": DERIVATIVES,
    "hypergrad/backend/tensorflow.py": DERIVATIVES,
    "hypergrad/rules/*.py": None,
    "hypergrad/cut_gradients.py": None,
    "tests/layer_cases.py": None,
    "tests/registry.py": ("Rule", "RULES"),
}
"""What decides a cell: files, whole or what they define under these names."""

BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow"}
OPTIONS = ("bare", "decay", "clipnorm", "clipvalue", "global_clipnorm")
NET, SMOOTH_NET = "relu-dead", "tanh"

Errors = dict[str, dict[str, float]]
"""Name of a test → backend → the largest relative error it recorded."""


def sources_hash() -> str:
    """Of the code in all sources; its layout does not count."""
    digest = hashlib.sha256()
    for pattern, names in SOURCES.items():
        for path in sorted(ROOT.glob(pattern)):
            digest.update(str(path.relative_to(ROOT)).encode())
            source = path.read_text(encoding="utf-8")
            for node in ast.parse(source).body:
                if names is None or names_of(node) & set(names):
                    text = ast.get_source_segment(source, node) or ""
                    digest.update("".join(text.split()).encode())
    return digest.hexdigest()[:16]


def names_of(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {target.id for target in targets if isinstance(target, ast.Name)}


def recorded(files: list[Path]) -> tuple[Errors, dict[str, str]]:
    """What junit files hold, named ``<backend>….xml``; and where each test is."""
    errors: Errors = defaultdict(dict)
    places = {}
    for file in files:
        backend = file.stem.partition("-")[0]
        for case in ElementTree.parse(file).iter("testcase"):
            bad = [case.find(kind) is not None for kind in ("failure", "error")]
            if any(bad):
                raise SystemExit(f"{case.get('name')} failed on {backend}: no table.")
            for item in case.iter("property"):
                if item.get("name") == "relative_error":
                    name = str(case.get("name"))
                    found = float(str(item.get("value")))
                    errors[name][backend] = max(found, errors[name].get(backend, 0.0))
                    places[name] = str(case.get("classname")).replace(".", "/") + ".py"
    return errors, places


def text(found: dict[str, float] | None) -> str:
    """``3e-11 · 2e-12``: JAX, TensorFlow; a dash where no test judges it."""
    if not found:
        return "–"
    return " · ".join(f"{found[b]:.0e}" if b in found else "–" for b in BACKENDS)


def worst(parts: list[dict[str, float]]) -> dict[str, float]:
    return {
        b: max(part[b] for part in parts if b in part)
        for b in BACKENDS
        if any(b in part for part in parts)
    }


def optimizers(errors: Errors) -> list[str]:
    """A line for each variant of an optimizer, a column for each option."""
    rows: dict[str, dict[str, dict]] = defaultdict(dict)
    option = "|".join(OPTIONS)
    for net, mark in ((NET, ""), (SMOOTH_NET, " ¹")):
        name = re.compile(
            rf"test_finite_differences\[{net}-(.*)-([a-z-]+?)-({option})\]"
        )
        for test, found in errors.items():
            match = name.fullmatch(test)
            if match:
                rows["{}, {}".format(*match.groups()) + mark][match.group(3)] = found
    lines = [_row("optimizer", *OPTIONS), _row(*["---"] * (1 + len(OPTIONS)))]
    lines += [
        _row(r, *(text(cells.get(o)) for o in OPTIONS)) for r, cells in rows.items()
    ]
    return lines


def parity(errors: Errors) -> list[str]:
    """A line for each optimizer: the worst of all options and pairs of options."""
    rows: dict[str, list] = defaultdict(list)
    for test, found in errors.items():
        match = re.match(r"test_parity_in_float64\[([A-Za-z]+)", test)
        if match:
            rows[match.group(1)].append(found)
    lines = [_row("optimizer", "configurations", "error"), _row("---", "---", "---")]
    lines += [_row(r, len(found), text(worst(found))) for r, found in rows.items()]
    return lines


def layers(errors: Errors) -> list[str]:
    """A line for each public layer of Keras, with the case that holds it."""
    sys.path.insert(0, str(ROOT / "tests"))
    import keras

    import layer_cases

    public = {v for v in vars(keras.layers).values() if isinstance(v, type)}
    held = defaultdict(list)
    for name, case in layer_cases.CASES.items():
        found = errors.get(f"test_hypergradients_equal_differences[{name}]")
        if found is None:
            continue
        for cls in {type(part) for part in case.model()._flatten_layers()}:
            if cls in public:
                held[cls.__name__].append((name, found))
    lines = [_row("layer", "error", "cases"), _row("---", "---", "---")]
    for layer, cases in sorted(held.items()):
        names = [name for name, _ in cases]
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        lines.append(_row(layer, text(worst([found for _, found in cases])), shown))
    return lines


def others(errors: Errors, places: dict[str, str]) -> list[str]:
    """A line for each other test that recorded an error."""
    known = ("test_finite_differences[", "test_parity_", "test_hypergradients_equal")
    lines = [_row("test", "error"), _row("---", "---")]
    for test, found in errors.items():
        if not test.startswith(known):
            name = f"{Path(places[test]).stem}: {test.removeprefix('test_')}"
            lines.append(_row(name.replace("_", " "), text(found)))
    return lines


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def page(errors: Errors, places: dict[str, str]) -> str:
    import keras

    parts = [
        "# Verified combinations",
        f"""\
<!-- sources: {sources_hash()} -->
Made by `make tables`, which runs the tests named here; do not edit. Cells are relative
errors in float64, JAX · TensorFlow (Keras {keras.__version__}), of hypergradients of
short runs against step-halved central differences, whose own error is of the same size
or less. A dash: no such cell.""",
        "## Optimizers and their options",
        f"""\
All numbers of the optimizer and of the model's penalties at once, on a network with
dead ReLU units (`tests/contract/test_truth_mlps.py`, cells `{NET}-…`).""",
        "\n".join(optimizers(errors)),
        f"""\
¹ Its steps are as long as the weights, and kill the living units of that network:
`{SMOOTH_NET}-…`.""",
        "## Updates against Keras",
        """\
One step of a rule against `optimizer.apply` in float64, relative, worst of each
option alone, pairs of options and all together, without the slow pairs with gradient
accumulation (`tests/contract/test_rules_parity.py`).""",
        "\n".join(parity(errors)),
        "## Layers",
        """\
Learning rate, momentum and a penalty before or behind the layer
(`tests/test_layers.py`). Cells above 1e-6: Keras runs the layer in float32 only.""",
        "\n".join(layers(errors)),
        "## Other numbers",
        "Schedules, values for each variable, data, loss weights, starts.",
        "\n".join(others(errors, places)),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(*recorded([Path(name) for name in sys.argv[1:]])))
    print(f"wrote {PAGE.relative_to(ROOT)}")
