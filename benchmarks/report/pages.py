"""benchopt's pages, made to work without a network."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = re.compile(r'<script[^>]*\ssrc="https://[^"]*"[^>]*>\s*</script>', re.DOTALL)
LINK = re.compile(r'<link[^>]*\shref="https://[^"]*"[^>]*/?>')
PLOTLY = "plotly.min.js"
# The title slides in by a script of another host; without it, it stands still.
STILL = "<script>var anime = {timeline: () => ({add() { return this; }})};</script>"


def make_pages(folder: Path, files: Sequence[Path]) -> Path:
    """The page that leads to one for each file of results, in a benchmark's outputs."""
    benchopt = str(Path(sys.executable).with_name("benchopt"))
    for file in files:  # its --all draws the newest alone
        command = [benchopt, "plot", str(folder), "-f", str(file), "--no-display"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    localise(folder / "outputs")
    return folder / "outputs" / f"{folder.name}.html"


def localise(folder: Path) -> int:
    """Lets the pages in a folder load plotly from beside them, and nothing else.

    Returns:
        int, how many pages were changed.
    """
    pages = [page for page in folder.glob("*.html") if _localised(page)]
    if pages:
        import plotly

        packaged = Path(plotly.__file__).parent / "package_data" / PLOTLY
        shutil.copyfile(packaged, folder / PLOTLY)
    return len(pages)


def _localised(page: Path) -> bool:
    text = page.read_text("utf-8")
    new = SCRIPT.sub(_local, LINK.sub("", text))
    if new != text:
        page.write_text(new, "utf-8")
    return new != text


def _local(tag: re.Match) -> str:
    if "plot.ly" in tag[0]:
        return f'<script src="{PLOTLY}"></script>'
    return STILL if "anime" in tag[0] else ""
