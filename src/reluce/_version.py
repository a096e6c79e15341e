"""The version of Reluce, stated here and nowhere else."""

__version__ = "0.1.0"
