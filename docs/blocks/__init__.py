"""Blocks of the pages: each function makes the block of its name from committed results."""

from collections.abc import Callable

from docs.blocks import arena, returns, scale, speed, trials
from docs.blocks.words import Results

BLOCKS: dict[str, Callable[[Results], str]] = {
    made.__name__: made
    for module in (returns, trials, speed, scale, arena)
    for made in module.BLOCKS
}
