"""One Markdown page, two pictures and benchopt's pages, of stored results.

make bench-table
python benchmarks/report/run.py --out out/bench-short benchmarks/outputs/short-*.parquet
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FOLDER))
os.environ.setdefault("KERAS_BACKEND", "jax")

from report.absent import absent  # noqa: E402
from report.matrix import matrix  # noqa: E402
from report.pages import make_pages  # noqa: E402
from report.pictures import draw_against_numbers, draw_best_so_far  # noqa: E402
from report.results import Row, of_one_version, read  # noqa: E402
from report.summary import summary  # noqa: E402
from report.table import not_compared, table  # noqa: E402

PAGE = FOLDER.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"


def report(rows: list[Row], others: list[Row], missing: dict[str, str]) -> str:
    """The page with all tables.

    Args:
        rows: of one version and budget.
        others: all else; they are counted, and in no table.
        missing: name → reason, of what has no row.
    """
    return f"""# Comparison

{results(rows, others)}

## Every problem

Mean ± half of the 95 % interval of the mean over the seeds. Losses are those of the
values with the lowest validation loss; nothing is chosen by test data. `seconds` are of
the search, once programs are compiled. `p better`, `p worse`: of the tests above.

{table(rows)}

## Not in the tables

{not_compared(rows, missing)}
"""


def results(rows: list[Row], others: list[Row]) -> str:
    """What was run, the losses of the methods that meet everywhere, and the counts."""
    seeds = sorted({row.seed for row in rows})
    lines = [
        f"hypergrad {rows[0].version}, commit {_all(r.commit for r in rows)}; spaces "
        f"{_all(r.spaces for r in rows)}; {len(seeds)} seeds, {rows[0].budget} runs "
        f"for each method; {_all(r.machine for r in rows)}."
    ]
    for name, budget in sorted({(r.version, r.budget) for r in others}):
        number = sum((r.version, r.budget) == (name, budget) for r in others)
        lines.append(f"Left out: {number} results of {name} with budget {budget}.")
    return f"""{" ".join(lines)}

Mean validation loss. +, −: significantly lower or higher than random search's.

{matrix(rows)}

On how many problems a method's validation loss is significantly lower than random
search's on the same seeds, on how many it is higher, and how many runs it needs to
reach what random search reaches with all of its runs: the median over problems of the
median over seeds ("never": not with the whole budget). Wilcoxon's signed-rank test,
one-sided each way, Holm's correction over the problems, level 0.05.

{summary(rows)}"""


def _all(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def inserted(page: str, text: str) -> str:
    """A page with a text between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page must hold {BEGIN} and, behind it, {END}.")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    from benchmark_utils.version import version

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: the full results")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: docs/benchmarks, beside the page of that name",
    )
    options = parser.parse_args()
    stored = FOLDER / "outputs"
    files = options.files or list(stored.glob("full-*.parquet"))
    if not files:
        sys.exit(f"There are no results in {stored}. Run `make bench-full` first.")
    rows, others = of_one_version(read(files))
    out = options.out or PAGE.with_suffix("")
    out.mkdir(parents=True, exist_ok=True)
    page = out / "comparison.md"
    here = absent(FOLDER, {r.problem for r in rows}, {r.method for r in rows})
    page.write_text(report(rows, others, here), "utf-8")
    if options.out is None:
        PAGE.write_text(
            inserted(PAGE.read_text("utf-8"), results(rows, others)), "utf-8"
        )
    draw_best_so_far(rows, out / "best_so_far.png")
    draw_against_numbers(rows, out / "against_numbers.png")
    pages = make_pages(FOLDER, files)
    print(f"{page} and two pictures beside it; benchopt's pages: {pages}")
    if rows[0].version != version():
        print(f"These results are of {rows[0].version}; the code here is {version()}.")


if __name__ == "__main__":
    main()
