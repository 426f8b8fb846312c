"""A trace of a few steps, to be opened in TensorBoard or Perfetto."""

from typing import Any

import jax

_BEGIN, _END = 10, 15  # steps after the first one, which compiles


class Profile:
    """Traces some steps of a loop.

    Args:
      folder: where the trace goes; None for no trace.
      first_step: of this process.
    """

    def __init__(self, folder: str | None, first_step: int):
        self._folder, self._first_step = folder, first_step
        self._running = False

    def before(self, step: int, state: Any) -> None:
        """To be called before each step, with the state that the previous step computed."""
        if self._folder is None:
            return
        if step == self._first_step + _END:
            jax.block_until_ready(state)
            self.close()
        elif step == self._first_step + _BEGIN:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        """Ends the trace, if there is one."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
