"""What a compiled program does on each device, read from its text."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8,
         "f64": 8}  # fmt: skip
# Of each kind of collective among n devices: how often a device sends the bytes of the larger of
# its operand and its result, by the algorithm of a ring.
COLLECTIVES = {
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}
# Instructions that move no bytes of their own.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call",
        "conditional", "after-all", "partition-id", "opt-barrier"}  # fmt: skip


class Instruction(NamedTuple):
    """One instruction of a compiled program.

    Attributes:
      name: of its result.
      result: type of the result, or of its results.
      kind: such as "fusion" or "all-gather".
      line: all of its text.
      within: the computation that contains it.
      times: how often it runs in one run of the program.
      fused: whether it is part of a fusion, so that its result is never stored.
    """

    name: str
    result: str
    kind: str
    line: str
    within: str
    times: int
    fused: bool


def instructions(program: str) -> Iterator[Instruction]:
    """The instructions that a program runs; ``times`` includes the iterations of loops.

    Args:
      program: text of a compiled program, ``compiled.as_text()``.

    Raises:
      ValueError: the number of iterations of a loop is not known.
    """
    computations = _computations(program)
    entry = next(name for name, (first, _) in computations.items() if first)

    def visit(name: str, times: int, fused: bool) -> Iterator[Instruction]:
        for own, result, kind, line in computations[name][1]:
            yield Instruction(own, result, kind, line, name, times, fused)
            called = dict(re.findall(r"(body|condition|calls|to_apply)=%?([\w.\-]+)", line))
            branches = re.findall(r"branch_computations=\{([^}]*)\}", line)
            if kind == "while":
                turns = _turns(line, called["condition"], computations)
                yield from visit(called["body"], times * turns, fused)
            elif kind == "call":
                yield from visit(called["to_apply"], times, fused)
            elif "calls" in called:
                yield from visit(called["calls"], times, fused or kind == "fusion")
            for branch in re.findall(r"[\w.\-]+", " ".join(branches)):
                yield from visit(branch, times, fused)

    yield from visit(entry, 1, False)


def _computations(program: str) -> dict[str, tuple[bool, list[tuple[str, str, str, str]]]]:
    """For each computation whether it is the program's entry, and its instructions."""
    found: dict[str, tuple[bool, list]] = {}
    inside: list = []
    for line in program.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            inside = []
            found[head[2]] = bool(head[1]), inside
        elif part := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\(", line):
            inside.append((*part.groups(), line))
    return found


def _turns(line: str, condition: str, computations: dict) -> int:
    """Iterations of a loop: as the compiler states, or the number its counter is compared with."""
    if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', line):
        return int(known[1])
    lines = [text for *_, text in computations[condition][1]]
    for inner in re.findall(r"calls=%?([\w.\-]+)", " ".join(lines)):
        lines += [text for *_, text in computations[inner][1]]
    constant = r"= [su]32\[\]\S* constant\((\d+)\)"
    limits = [int(n) for text in lines for n in re.findall(constant, text)]
    if len(limits) != 1:
        raise ValueError(f"the trip count of this loop is not known: {line.strip()[:200]}")
    return limits[0]


def _arrays(result: str) -> list[tuple[str, str, int, bool]]:
    """Of each array of a result: dtype, dimensions, bytes, whether it is in the large memory."""
    found = []
    for dtype, dims, layout in re.findall(r"(\w+)\[([\d,]*)\](\{[^}]*\})?", result):
        count = math.prod(int(d) for d in dims.split(",") if d)
        found.append((dtype, dims, count * SIZES.get(dtype, 4), not re.search(r"S\(\d", layout)))
    return found


def collectives(program: str) -> dict[str, dict[str, float]]:
    """What the devices exchange when a program runs.

    An exchange in the background is written as several instructions with one channel. A TPU's
    program has a fusion for an all-reduce of which each device keeps only its part.

    Returns:
      for each kind that there is, its "number", the "mib" of operands or results, whichever are
      larger, and the MiB that a device sends, "sent_mib".
    """
    seen, found = set(), {}
    for one in instructions(program):
        kind = one.kind.removesuffix("-start")
        channel = re.search(r"channel_id=(\d+)", one.line)
        key = channel[1] if channel else one.name
        if kind not in COLLECTIVES or (kind, key) in seen:
            continue
        seen.add((kind, key))
        among = _group(one.line)
        arrays = _arrays(one.result)
        if one.kind in ("all-gather-start", "collective-permute-start"):
            arrays = arrays[len(arrays) // 2 :] if kind == "all-gather" else arrays[1:2]
        size = sum(bytes_ for _, _, bytes_, _ in arrays)
        if kind == "reduce-scatter":
            size *= among
        elif one.within.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"
        line = found.setdefault(kind, Counter())
        line["number"] += one.times
        line["mib"] += one.times * size / 2**20
        line["sent_mib"] += one.times * size * COLLECTIVES[kind](among) / 2**20
    return {kind: {k: round(v, 3) for k, v in line.items()} for kind, line in found.items()}


def _group(line: str) -> int:
    """Devices per group of a collective; groups are given as a list, a grid, or axes of a mesh."""
    if explicit := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(explicit[1].split(","))
    if grid := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(grid[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    return 2  # a permutation has pairs


def largest(program: str) -> tuple[str, float]:
    """The largest array that a program stores: its dtype and shape, and its MiB."""
    stored = (one for one in instructions(program) if not one.fused and one.kind != "tuple")
    arrays = (array for one in stored for array in _arrays(one.result))
    dtype, dims, size, _ = max(arrays, key=lambda array: array[2])
    return f"{dtype}[{dims}]", size / 2**20


def bytes_moved(program: str) -> float:
    """Bytes that a program reads from and writes to the large memory of a device, about.

    An instruction reads its operands once and writes its result once; arrays that the compiler
    keeps in the fast memory cost nothing. What only slices an operand, or writes into a part of it,
    counts as all of it, so this is no lower bound.
    """
    total, size_of = 0.0, {}
    for one in instructions(program):
        if one.fused:
            continue
        size_of[one.name] = sum(size for *_, size, slow in _arrays(one.result) if slow)
        if one.kind in FREE or one.kind.endswith("-done"):
            continue
        if one.kind in ("copy-start", "slice-start"):  # between the two memories
            total += one.times * min(size for *_, size, _ in _arrays(one.result)[:2])
            continue
        operands = re.split(r"\), |\)$", one.line.split(f" {one.kind}(", 1)[1])[0]
        read = sum(size_of.get(name, 0) for name in re.findall(r"%([\w.\-]+)", operands))
        total += one.times * (size_of[one.name] + read)
    return total
