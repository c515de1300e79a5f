"""One Markdown page, two pictures and benchopt's pages, of stored results.

make bench-table
python benchmarks/report/run.py --out out/bench-short benchmarks/outputs/short-*.parquet
"""

import argparse
import os
import platform
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FOLDER))
os.environ.setdefault("KERAS_BACKEND", "jax")

from report.absent import absent  # noqa: E402
from report.pages import make_pages  # noqa: E402
from report.pictures import draw_against_numbers, draw_best_so_far  # noqa: E402
from report.results import Row, of_one_version, read  # noqa: E402
from report.summary import summary  # noqa: E402
from report.table import not_compared, table  # noqa: E402


def report(
    rows: list[Row], others: list[Row], missing: dict[str, str], version: str
) -> str:
    """The page with the tables.

    Args:
        rows: of one version and budget.
        others: all else; they are counted, and in no table.
        missing: name → reason, of what has no row.
        version: of the code that is here now.
    """
    seeds = sorted({row.seed for row in rows})
    commits = ", ".join(sorted({row.commit for row in rows}))
    spaces = ", ".join(sorted({row.spaces for row in rows}))
    return f"""# Comparison

hypergrad {rows[0].version}, commit {commits}, spaces {spaces}; {len(seeds)} seeds,
{rows[0].budget} runs for each method, {os.cpu_count()} cores ({platform.machine()}).
{marks(rows, others, version)}
## Against random search

On how many problems a method's validation loss is significantly lower than random
search's on the same seeds, on how many it is higher, and how many runs it needs to
reach what random search reaches with all of its runs: the median over problems of the
median over seeds ("never": not with the whole budget). Wilcoxon's signed-rank test,
one-sided each way, Holm's correction over the problems, level 0.05.

{summary(rows)}

## Every problem

Mean ± half of the 95 % interval of the mean over the seeds. Losses are those of the
values with the lowest validation loss; nothing is chosen by test data. `seconds` are of
the search, once programs are compiled. `p better`, `p worse`: of the tests above.

{table(rows)}

## Not in the tables

{not_compared(rows, missing)}
"""


def marks(rows: list[Row], others: list[Row], version: str) -> str:
    """What to know of results that are not of the code that is here."""
    lines = []
    if rows[0].version != version:
        lines.append(
            f"**Not of the code that is here now**, which is {version}. Run it again."
        )
    groups = sorted({(r.version, r.budget) for r in others})
    for name, budget in groups:
        number = sum((r.version, r.budget) == (name, budget) for r in others)
        lines.append(f"Left out: {number} results of {name} with budget {budget}.")
    return "\n" + "\n".join(f"- {line}" for line in lines) + "\n" if lines else ""


def main() -> None:
    from benchmark_utils.version import version

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: the full results")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    options = parser.parse_args()
    stored = FOLDER / "outputs"
    files = options.files or list(stored.glob("full-*.parquet"))
    if not files:
        sys.exit(f"There are no results in {stored}. Run `make bench-full` first.")
    files.sort(key=lambda file: file.stat().st_mtime)
    rows, others = of_one_version(read(files))
    options.out.mkdir(parents=True, exist_ok=True)
    page = options.out / "comparison.md"
    here = absent(FOLDER, {r.problem for r in rows}, {r.method for r in rows})
    page.write_text(report(rows, others, here, version()), "utf-8")
    draw_best_so_far(rows, options.out / "best_so_far.png")
    draw_against_numbers(rows, options.out / "against_numbers.png")
    pages = make_pages(FOLDER, files)
    print(f"{page} and two pictures beside it; benchopt's pages: {pages}")


if __name__ == "__main__":
    main()
