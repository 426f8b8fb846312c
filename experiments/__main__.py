"""The command ``ad-jax``: ``ad-jax run …`` is ``python -m experiments.run …``, from any folder."""

import runpy
import sys

COMMANDS = ("run", "reproduce")


def main() -> None:
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: ad-jax {'|'.join(COMMANDS)} [--help] [options]")
    runpy.run_module(f"experiments.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
