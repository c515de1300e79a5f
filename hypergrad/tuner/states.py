"""The state of a descent in the database, for workers that share no folder."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from hypergrad import files
from hypergrad.outer.checkpoint import FILE

MOST_BYTES = 2**20
"""Of a state that is kept in a database; larger ones stay in the folder."""


def packed(folder: Path) -> dict[str, str] | None:
    """The files of the last outer step as text; None where there are none yet."""
    path = folder / f"{FILE}.json"
    if not path.exists():
        return None
    text = path.read_text("utf-8")
    arrays = json.loads(text)["arrays"]
    content = {path.name: text}
    if arrays:
        data = (folder / arrays).read_bytes()
        content[arrays] = base64.b64encode(data).decode("ascii")
    return content if sum(map(len, content.values())) <= MOST_BYTES else None


def unpack(content: Mapping[str, str], folder: Path) -> None:
    """Writes them to a folder, unless what is there is as far or further."""
    name = f"{FILE}.json"
    if (folder / name).exists() and _rows((folder / name).read_text("utf-8")) >= _rows(
        content[name]
    ):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for other, text in sorted(content.items(), key=lambda item: item[0] == name):
        # The JSON last: it names the arrays.
        with files.replacing(folder / Path(other).name) as file:
            data = text.encode("utf-8")
            file.write(data if other == name else base64.b64decode(data))


def _rows(text: str) -> int:
    return len(json.loads(text)["content"]["history"]["runs"])
