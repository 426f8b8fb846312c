"""The command ``ad-jax``: ``ad-jax run …`` is ``python -m experiments.run …``, from any folder.

An installed package contains the commands in ``ad_jax/bundled``, so that they do not clash with a
user's own folders called ``experiments`` or ``data_pipelines``. In a clone they are next to
``ad_jax``.
"""

import os
import pathlib
import runpy
import sys

COMMANDS = {
    "run": ("experiments.run", "collect, train, evaluate, report"),
    "reproduce": ("experiments.reproduce", "reproduce the paper's figures"),
    "play": ("experiments.play", "watch a learner in a browser"),
    "export": ("experiments.export", "export a learner to share"),
    "compare": ("experiments.compare", "compare several runs in one picture"),
    "convert": ("data_pipelines.convert", "import and export histories"),
}
USAGE = "\n".join(
    ["usage: ad-jax COMMAND [--help] [options]", ""]
    + [f"  {name:<11}{what}" for name, (_, what) in COMMANDS.items()]
)


def main() -> None:
    """Runs the command that the first argument names."""
    if sys.argv[1:] == ["--help"]:
        print(USAGE)
        return
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(USAGE)
    package = pathlib.Path(__file__).parent
    bundled = package / "bundled"
    sys.path.insert(0, str(bundled if bundled.exists() else package.parent))
    sys.path.append(os.getcwd())  # for environments, sources, cores and methods of a user's own
    runpy.run_module(COMMANDS[sys.argv.pop(1)][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
