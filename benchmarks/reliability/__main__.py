"""python -m benchmarks.reliability --kills=200 --workdir=runs/reliability"""

import argparse
import pathlib

from absl import logging

from benchmarks.reliability.kills import campaign


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--kills", type=int, default=200, help="how many, in all")
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/reliability")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    options = parser.parse_args()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of files that it need not have
    print(campaign(options.kills, options.workdir.absolute(), options.jobs))


if __name__ == "__main__":
    main()
