"""The command ``ad-jax``: ``ad-jax run …`` is ``python -m experiments.run …``, from any folder.

An installation has the commands inside this package, so that a user's own folders may be called
``experiments`` or ``data_pipelines``; a clone has them beside it.
"""

import os
import pathlib
import runpy
import sys

COMMANDS = {
    "run": "experiments.run",
    "reproduce": "experiments.reproduce",
    "play": "experiments.play",
    "export": "experiments.export",
    "compare": "experiments.compare",
    "convert": "data_pipelines.convert",
}


def main() -> None:
    usage = f"usage: ad-jax {'|'.join(COMMANDS)} [--help] [options]"
    if sys.argv[1:] == ["--help"]:
        print(usage)
        return
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(usage)
    package = pathlib.Path(__file__).parent
    bundled = package / "bundled"
    sys.path.insert(0, str(bundled if bundled.exists() else package.parent))
    sys.path.append(os.getcwd())  # for environments, sources, cores and methods of a user's own
    runpy.run_module(COMMANDS[sys.argv.pop(1)], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
