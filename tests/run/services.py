"""What a sandboxed process may be asked in the tests: some of it goes wrong."""

import ctypes
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Sequence[np.ndarray[Any, Any]]


def handle(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    return globals()[request["do"]](request, arrays)


def echo(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    return {"text": request.get("text", ""), "pid": os.getpid(), "modules": sorted(sys.modules)}, arrays


def fail(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    raise ValueError("not to my taste")


def eat(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    return {"sum": float(np.ones(1 << 40).sum())}, []


def spin(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    while True:
        pass


def sleep(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    time.sleep(600)
    return {}, []


def leave(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    os._exit(3)


def crash(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    ctypes.string_at(0)
    return {}, []


def chatter(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    print("hello", flush=True)  # noqa: T201
    os.write(1, b"hello\n")
    os.write(2, b"hello\n")
    return {}, []


def garble(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    """Write something else into the pipe that the answers go through: the last one that was opened."""
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink() and "pipe" in str(path.readlink())]
    os.write(max(int(path.name) for path in links), bytes.fromhex(request["hex"]))
    return {}, []


def flood(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    return {}, [np.zeros(1 << 24, np.uint8)]


def limits(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    import resource

    return {name: resource.getrlimit(getattr(resource, name))[0] for name in request["names"]}, []


def write(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    with open(request["path"], "wb") as file:  # noqa: PTH123
        file.write(b"something")
    return {}, []
