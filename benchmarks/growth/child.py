"""Runs a measurement in a separate process."""

import json
import os
import subprocess
import sys
from typing import Any


def answer(module: str, *arguments: Any, **environment: str) -> Any:
    """What ``python -m module`` prints as its last line, in JSON.

    Args:
      module: its name.
      *arguments: of its command line.
      **environment: variables of it, beside those of this process.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])
