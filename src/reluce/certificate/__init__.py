"""Certificates: what an independent checker needs to prove a finished compression from the files alone."""

from reluce.certificate._ground import Ground, supported, without
from reluce.certificate._write import Subject, write_certificate

__all__ = ["Ground", "Subject", "supported", "without", "write_certificate"]
