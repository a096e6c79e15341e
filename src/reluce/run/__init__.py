"""Running: deadlines and interruption, the journal of a run, files that one run at a time may write."""

from reluce.run._deadline import Deadline
from reluce.run._journal import Journal
from reluce.run._lock import Taken, open_locked

__all__ = ["Deadline", "Journal", "Taken", "open_locked"]
