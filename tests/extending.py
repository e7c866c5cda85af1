"""The examples of docs/extending.md as modules and rows."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r'```python title="([^"]+)"\n(.*?)```', re.DOTALL)
BLOCKS: dict[str, str] = dict(BLOCK.findall(PAGE.read_text()))
"""Path of a module, or `KIND row` -> what the page says stands there."""


def write_modules(folder: Path) -> None:
    """Write the modules of all examples below a folder, which is meant to be on the path."""
    for name, code in BLOCKS.items():
        if name.endswith(".py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(code)
