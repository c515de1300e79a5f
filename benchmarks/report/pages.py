"""Makes benchopt's pages work without a network."""

import re
import shutil
from pathlib import Path

SCRIPT = re.compile(r'<script[^>]*\ssrc="https://[^"]*"[^>]*>\s*</script>', re.DOTALL)
LINK = re.compile(r'<link[^>]*\shref="https://[^"]*"[^>]*/?>')
PLOTLY = "plotly.min.js"
# The title slides in by a script of another host; without it, it stands still.
STILL = "<script>var anime = {timeline: () => ({add() { return this; }})};</script>"


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
