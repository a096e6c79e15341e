"""Running: deadlines and interruption, the journal, files that one run at a time may write, processes under limits."""

from reluce.run._deadline import Deadline
from reluce.run._journal import Journal
from reluce.run._lock import LOCKS, Taken, open_locked
from reluce.run._sandbox import Failed, Limits, Lost, Sandbox

__all__ = ["LOCKS", "Deadline", "Failed", "Journal", "Limits", "Lost", "Sandbox", "Taken", "open_locked"]
