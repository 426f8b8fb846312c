"""The page as text: the template with its data in it."""

import json
import pathlib
import re
from typing import Any

_TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def html(data: dict[str, Any]) -> str:
    """The page, which needs no other file.

    Args:
      data: JSON values, without NaN; see ``Player.document`` and ``run_page.document``.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # A script element ends at the first "</", even within a string.
    return _TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", text.replace("</", "<\\/"))


def data_of(page: str) -> dict[str, Any]:
    """What is in a page; undoes ``html``."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise ValueError("this is not a page that ad_jax has written")
    return json.loads(found[1])
