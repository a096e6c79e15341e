"""Certificates: what an independent checker needs to prove a finished compression from the files alone."""

from reluce.certificate._certify import Certified, Guard, Made, certify, nothing
from reluce.certificate._files import Where, certificate_path, files_of

__all__ = ["Certified", "Guard", "Made", "Where", "certificate_path", "certify", "files_of", "nothing"]
