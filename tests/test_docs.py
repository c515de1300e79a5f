"""Pages that are made from tests are those of the sources at hand."""

import importlib.util
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_example_of_how_to_choose_runs(capsys):
    page = (DOCS / "how-to-choose.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "how-to-choose.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "takes about" in printed and "validation" in printed


def test_the_table_of_verified_combinations_is_not_stale():
    spec = importlib.util.spec_from_file_location("s", DOCS / "make_support.py")
    assert spec is not None and spec.loader is not None
    make_support = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_support)
    page = (DOCS / "support.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- sources: (\w+) -->", page)
    assert found is not None
    assert found.group(1) == make_support.sources_hash(), (
        "docs/support.md was made from other sources of rules, backends, or cases. Run "
        "`make tables` and commit the page."
    )
