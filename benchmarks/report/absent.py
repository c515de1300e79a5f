"""Methods and problems that cannot run here, and why."""

import ast
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple


class File(NamedTuple):
    """What a file of a solver or of a data set says of itself."""

    name: str
    requirements: tuple[str, ...]


def declared(folder: Path) -> list[File]:
    """The ``name`` and ``requirements`` of each file, read without importing it."""
    return [_declared(path) for path in sorted(folder.glob("*.py"))]


def _declared(path: Path) -> File:
    found = {"name": path.stem, "requirements": []}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name in ("Solver", "Dataset"):
            for line in node.body:
                if isinstance(line, ast.Assign) and len(line.targets) == 1:
                    target = line.targets[0]
                    if isinstance(target, ast.Name) and target.id in found:
                        found[target.id] = ast.literal_eval(line.value)
    return File(str(found["name"]), tuple(found["requirements"]))


def not_installed(files: Iterable[File]) -> dict[str, str]:
    """Name → which packages it needs that are not here."""
    reasons = {}
    for file in files:
        missing = [name for name in file.requirements if not _is_here(name)]
        if missing:
            reasons[file.name] = (
                f"needs {', '.join(missing)}, which is not installed here; "
                'pip install ".[bench]" installs all packages of the comparison.'
            )
    return reasons


def _is_here(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def without_results(files: Iterable[File], with_rows: Iterable[str]) -> dict[str, str]:
    """Name → that it has no result, so that nothing is absent without a word.

    Args:
        files: what there is.
        with_rows: names in results; "optuna[tpe]" is a result of "optuna".
    """
    known = {name.split("[")[0] for name in with_rows}
    return {
        file.name: "no result: not run, or ended with an error that benchopt printed."
        for file in files
        if file.name not in known
    }


def missing_data(folder: Path) -> dict[str, str]:
    """Problem → why its data are not here. Needs benchopt; reads every data set."""
    from benchopt.benchmark import Benchmark

    reasons = {}
    for dataset in Benchmark(folder).get_datasets():
        if not dataset.is_installed(quiet=True):
            reasons[dataset.name] = f"{type(dataset._exc).__name__}: {dataset._exc}"
        elif missing := dataset.get_instance().get_data().get("missing"):
            reasons[dataset.name] = missing
    return reasons


def absent(folder: Path, problems: set[str], methods: set[str]) -> dict[str, str]:
    """Name → reason, for all that is in no row.

    Args:
        folder: that of the benchmark.
        problems, methods: names that have rows.
    """
    datasets, solvers = declared(folder / "datasets"), declared(folder / "solvers")
    reasons = without_results(solvers, methods) | without_results(datasets, problems)
    known = missing_data(folder) if set(reasons) & {d.name for d in datasets} else {}
    known |= not_installed([*datasets, *solvers])
    return {name: known.get(name, reason) for name, reason in reasons.items()}
