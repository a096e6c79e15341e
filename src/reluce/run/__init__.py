"""Running: deadlines and interruption, and processes that may be killed."""

from reluce.run._deadline import Deadline
from reluce.run._sandbox import Failed, Limits, Lost, Sandbox

__all__ = ["Deadline", "Failed", "Limits", "Lost", "Sandbox"]
