"""Writes the numbers of the pages from the committed results.

    python -m docs.fill

Pages mark where they go: ``BLOCKS[NAME]`` generates the text between ``<!--numbers:NAME-->`` and
``<!--end-->``. To change a number, change the JSON; to show another one, change the function.
"""

import json
import pathlib
import re
import sys
from typing import Any

from ad_jax.errors import UserError
from docs.blocks import BLOCKS
from docs.blocks.words import Results

ROOT = pathlib.Path(__file__).parents[1]


def load(root: pathlib.Path = ROOT) -> dict[str, Any]:
    """All results that are committed, by their paths."""
    folders = ("docs/results", "docs/figures", "ad_jax/weights", "benchmarks/results")
    paths = [path for folder in folders for path in sorted((root / folder).glob("*.json"))]
    return {path.relative_to(root).as_posix(): json.loads(path.read_text()) for path in paths}


def pages(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """The pages that may have blocks."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


BLOCK = re.compile(
    r"^( *)<!--numbers:(\w+)-->\n(?:(?!<!--numbers:).)*?<!--end-->", re.MULTILINE | re.DOTALL
)


def fill(text: str, results: Results) -> str:
    """A page with the numbers of the results.

    Args:
      text: the page as it is.
      results: by their paths, as ``load`` gives them.

    Raises:
      UserError: a block has an unknown name.
    """

    def block(found: re.Match) -> str:
        indent, name = found.groups()
        if name not in BLOCKS:
            raise UserError(f"<!--numbers:{name}-->: unknown; choose from {', '.join(BLOCKS)}")
        lines = [f"<!--numbers:{name}-->", *BLOCKS[name](results).splitlines(), "<!--end-->"]
        return "\n".join(indent + line for line in lines)

    return BLOCK.sub(block, text)


def main() -> None:
    """Writes the pages."""
    results = load()
    for page in pages():
        text = page.read_text()
        if (filled := fill(text, results)) != text:
            page.write_text(filled)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
