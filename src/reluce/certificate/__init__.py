"""Certificates: what an independent checker needs to prove a finished compression from the files alone."""

from reluce.certificate._certify import Certified, Made, certify, nothing
from reluce.certificate._files import Where, certificate_path, files_of
from reluce.certificate._ground import Claims, Ground, grounds, supported, without
from reluce.certificate._write import Subject, write_certificate

__all__ = [
    "Certified",
    "Claims",
    "Ground",
    "Made",
    "Subject",
    "Where",
    "certificate_path",
    "certify",
    "files_of",
    "grounds",
    "nothing",
    "supported",
    "without",
    "write_certificate",
]
