"""What imports what: one direction, one backend wall, nothing heavy, one framework."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import pytest

from import_order import (
    BEHIND_THE_WALL,
    FRAMEWORKS,
    INSIDE_A_FUNCTION,
    OPTAX,
    ORDER,
)

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "hypergrad"
RANK = {room: rank for rank, line in enumerate(ORDER) for room in line}
FILES = sorted(PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    """One import statement; ``modules`` are the dotted names that it may load."""

    where: str
    modules: tuple[str, ...]
    lazy: bool


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _statements(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        elif _is_type_checking(child):
            for other in child.orelse:
                yield from _statements(other, lazy)
        else:
            inside = isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            yield from _statements(child, lazy or inside)


def imports_of(source: str, path: Path, package: str) -> Iterator[Import]:
    """The imports of one file, except those for the type checker only."""
    for statement, lazy in _statements(ast.parse(source), lazy=False):
        where = f"{path}:{statement.lineno}"
        if isinstance(statement, ast.Import):
            yield Import(where, tuple(a.name for a in statement.names), lazy)
            continue
        module = statement.module or ""
        if statement.level:
            above = package.split(".")[: len(package.split(".")) - statement.level + 1]
            module = ".".join([*above, module] if module else above)
        names = tuple(f"{module}.{alias.name}" for alias in statement.names)
        yield Import(where, names, lazy)


def _imports(path: Path) -> Iterator[Import]:
    package = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts[:-1])
    return imports_of(path.read_text("utf-8"), path.relative_to(REPOSITORY), package)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _rooms() -> dict[str, list[Path]]:
    rooms: dict[str, list[Path]] = {}
    for path in FILES:
        if path != PACKAGE / "__init__.py":
            rooms.setdefault(_room(path), []).append(path)
    return rooms


def _used(path: Path) -> Iterator[tuple[Import, str]]:
    """The other rooms that a file imports; "" where it imports the package itself."""
    for found in _imports(path):
        for module in found.modules:
            parts = module.split(".")
            if parts[0] == "hypergrad":
                room = parts[1] if len(parts) > 1 else ""
                if room != _room(path):
                    yield found, room


def test_every_room_has_a_place_in_the_order():
    unknown = sorted(set(_rooms()) - set(RANK))
    assert not unknown, f"not in tests/import_order.py: {unknown}"


def test_imports_run_one_way():
    wrong = []
    for room, paths in _rooms().items():
        for path in paths:
            for found, other in _used(path):
                if (room, other) in INSIDE_A_FUNCTION and found.lazy:
                    continue
                if other not in RANK:
                    wrong.append(f"{found.where}: import from a room, not {other!r}")
                elif room in RANK and RANK[other] > RANK[room]:
                    wrong.append(f"{found.where}: {room} must not import {other}")
    assert not wrong, "\n".join(wrong)


def test_rooms_do_not_import_each_other_in_a_circle():
    uses = {
        room: {
            other
            for path in paths
            for _, other in _used(path)
            if (room, other) not in INSIDE_A_FUNCTION
        }
        for room, paths in _rooms().items()
    }
    while uses:
        free = [room for room, others in uses.items() if not others & set(uses)]
        assert free, f"import circle among {sorted(uses)}"
        for room in free:
            del uses[room]


def test_plots_reads_results_only():
    for path in _rooms()["plots"]:
        for found, other in _used(path):
            assert other in {"result", "plots"} or found.lazy


def test_only_the_backend_imports_a_framework():
    wrong = []
    for path in FILES:
        inside = path.relative_to(PACKAGE)
        for found in _imports(path):
            for module in found.modules:
                top = module.split(".")[0]
                if top in FRAMEWORKS and inside.parts[0] != BEHIND_THE_WALL:
                    wrong.append(f"{found.where}: {module}; use hypergrad.backend")
                if top == "optax" and (inside.as_posix() != OPTAX or not found.lazy):
                    wrong.append(f"{found.where}: optax only lazily in {OPTAX}")
    assert not wrong, "\n".join(wrong)


def test_each_backend_file_imports_its_own_framework_only():
    for own, other in (("jax", "tensorflow"), ("tensorflow", "jax")):
        path = PACKAGE / "backend" / f"{own}.py"
        tops = {m.split(".")[0] for found in _imports(path) for m in found.modules}
        assert own in tops
        assert other not in tops


@pytest.mark.parametrize("folder", ["benchmarks", "papers", "docs"])
def test_outside_of_the_package_only_public_names_are_used(folder):
    wrong = []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for found in _imports(path):
            for module in found.modules:
                parts = module.split(".")
                if parts[0] == "hypergrad" and any(p.startswith("_") for p in parts):
                    wrong.append(f"{found.where}: {module}")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                if ast.unparse(node.value).split(".")[0] in ("hg", "hypergrad"):
                    wrong.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_sees_what_it_must():
    source = (
        "from typing import TYPE_CHECKING\n"
        "import keras.ops as ops\n"
        "from . import tree\n"
        "from ..problem import Problem\n"
        "if TYPE_CHECKING:\n    import jax\n"
        "class A:\n    def f(self):\n        from hypergrad import plots\n"
    )
    found = list(imports_of(source, Path("x.py"), "hypergrad.methods"))
    assert [(f.modules, f.lazy) for f in found] == [
        (("typing.TYPE_CHECKING",), False),
        (("keras.ops",), False),
        (("hypergrad.methods.tree",), False),
        (("hypergrad.problem.Problem",), False),
        (("hypergrad.plots",), True),
    ]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a fresh interpreter, as a user would: without our settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "HYPERGRAD_", "PYTHONDONTWRITE"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_import_is_cheap_and_loads_nothing_heavy():
    code = """
import sys, time
import keras
keras.Sequential([keras.layers.Dense(1)])
before, start = set(sys.modules), time.process_time()
import hypergrad
print(time.process_time() - start)
print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))
"""
    seconds = []
    for _ in range(3):
        done = run_python(code)
        assert done.returncode == 0, done.stderr
        time_line, loaded = done.stdout.splitlines()[-2:]
        seconds.append(float(time_line))
        assert "hypergrad" in loaded.split()
        heavy = {"optuna", "matplotlib", "optax", "sklearn", "pandas", "tensorboardX"}
        assert not heavy & set(loaded.split())
        if min(seconds) <= 0.3:
            return
    raise AssertionError(f"import hypergrad beyond keras took {seconds} s of CPU time")


def test_another_backend_gets_one_clear_error():
    done = run_python("import hypergrad", KERAS_BACKEND="numpy")
    assert done.returncode != 0
    assert "During handling of the above exception" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: ")
    for word in ("JAX", "TensorFlow", "Received", "numpy", "Set", "KERAS_BACKEND"):
        assert word in message, message


# Acts as if a package were not installed, also for those who ask without importing.
BLOCKER = """
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""

# Two steps of gradient descent on w²/2 from 1: E = (1 − a)⁴/2, dE/da = −2 (1 − a)³.
DESCENT = """
import hypergrad as hg

problem = hg.Problem(
    init=lambda hparams: {"w": 1.0 + 0.0 * hparams["a"]},
    step=lambda state, hparams, t: ({"w": state["w"] * (1 - hparams["a"])}, {}),
    val_loss=lambda state, hparams: state["w"] ** 2 / 2,
    num_steps=2,
    space={"a": hg.Float(0.0, 1.0, default=0.5)},
)
found = hg.hypergradient(problem)
assert abs(float(found.loss) - 0.03125) < 1e-6, found
assert abs(float(found.gradient["a"]) + 0.25) < 1e-6, found
assert not {name.split('.')[0] for name in sys.modules} & set(BLOCKED)
"""


def test_one_framework_is_enough():
    blocked = {"jax": ["tensorflow"], "tensorflow": ["jax", "jaxlib", "optax"]}
    blocked = [*blocked[keras.backend.backend()], "optuna", "matplotlib", "sklearn"]
    done = run_python(f"BLOCKED = {blocked!r}\n{BLOCKER}\n{DESCENT}")
    assert done.returncode == 0, done.stderr
