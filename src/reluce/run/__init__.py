"""Running: deadlines and interruption."""

from reluce.run._deadline import Deadline

__all__ = ["Deadline"]
