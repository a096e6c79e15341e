"""The errors of the checker.

Exception
+-- ValueError
|   +-- Unreadable   a file that cannot be relied upon
|   +-- Usage        a request that makes no sense
|   +-- NotProved    files in order, but what they claim does not follow
"""

from __future__ import annotations


class Unreadable(ValueError):
    """A file that cannot be relied upon; the message says what is wrong and where."""


class Usage(ValueError):
    """A request that makes no sense; the message says what was expected."""


class NotProved(ValueError):
    """The first claim that does not follow.

    Parameters
    ----------
    message
        What was claimed, and what is missing.
    tensor, rows
        Where it is about signs of a pre-activation: its name and the coordinates at fault.
    """

    def __init__(self, message: str, tensor: str = "", rows: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.tensor, self.rows = tensor, rows
