"""The exceptions that Reluce raises on purpose.

::

    ReluceError
    +-- ModelError       (ValueError)   the network cannot be read: what, where       exit 3
    +-- DomainError      (ValueError)   the domain cannot be read or does not fit     exit 3
    +-- UsageError       (ValueError)   the call itself makes no sense                exit 2
    +-- OutputError      (OSError)      the result cannot be written                  exit 5
    +-- CheckFailed      (RuntimeError) the result disagrees with the original        exit 1
    +-- Interrupted      (RuntimeError) stopped before anything was proved            exit 130

Each inherits a builtin, so code that does not know Reluce can still catch it by kind.
"""

from __future__ import annotations


class ReluceError(Exception):
    """Base of every error that Reluce raises on purpose."""


class ModelError(ReluceError, ValueError):
    """The network cannot be read; the message says what and where."""


class DomainError(ReluceError, ValueError):
    """The input domain cannot be read or does not fit the network."""


class UsageError(ReluceError, ValueError):
    """The options contradict each other or name something that does not exist."""


class OutputError(ReluceError, OSError):
    """The result cannot be written; nothing was left behind."""


class CheckFailed(ReluceError, RuntimeError):
    """The result differs from the original by more than was proved; nothing was written."""


class Interrupted(ReluceError, RuntimeError):
    """The run was stopped before anything was proved."""
