"""The command ``reluce-check``."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import signal
import stat
import sys
import zlib
from pathlib import Path

from reluce_checker._check import Proved, check
from reluce_checker._domain import Domain, from_npz, from_ranges
from reluce_checker._errors import NotProved, Unreadable, Usage
from reluce_checker._graph import Graph

PROVED, NOT_PROVED, USAGE, UNREADABLE = 0, 1, 2, 3

LARGEST = 1 << 31
"""Bytes of a file, decompressed or not; a protobuf cannot be larger."""

MEMORY = 16.0
"""GiB that the checker takes at most, unless it is told otherwise."""

EPILOG = """exit codes: 0 proved, 1 not proved, 2 a request that makes no sense, 3 a file that cannot be relied upon"""


def main(arguments: list[str] | None = None) -> int:
    """Check, print what was proved or the first thing that fails, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="reluce-check",
        description="Prove that a compressed network computes what the original does on a domain, from the two ONNX "
        "files and a certificate. Exact arithmetic; trusts neither the files nor whoever made them.",
        epilog=EPILOG,
    )
    parser.add_argument("original", metavar="ORIGINAL", help="the original network (.onnx, .onnx.gz)")
    parser.add_argument("compressed", metavar="COMPRESSED", help="the compressed network")
    parser.add_argument("certificate", metavar="CERTIFICATE", help="the certificate that came with it")
    parser.add_argument(
        "--range",
        metavar="[NAME=]LO,HI",
        action="append",
        default=[],
        dest="ranges",
        help="range of all inputs, or of one; repeatable; exact decimals",
    )
    parser.add_argument("--domain", metavar="BOX", help="an .npz with lo and hi (NAME.lo and NAME.hi for each input)")
    parser.add_argument(
        "--memory", metavar="GIB", type=_positive, default=MEMORY, help="give up beyond this (default: %(default)g)"
    )
    parser.add_argument("--seconds", metavar="S", type=_whole, help="give up after so many (default: never)")
    given = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    code, message = _apart(given)
    (sys.stderr if code else sys.stdout).write(message + "\n")
    return code


def _apart(given: argparse.Namespace) -> tuple[int, str]:
    """Check in a process of its own, whose memory and time are limited: a small file can ask for any amount of both."""
    if not hasattr(os, "fork"):  # Windows, which has no such limits either
        return _judged(given)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _limit(given.memory, given.seconds)
            with os.fdopen(theirs, "w") as pipe:
                json.dump(_judged(given), pipe)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    try:
        code, message = json.loads(said)
    except ValueError:  # it died before it had said all
        limits = f"{given.memory:g} GiB" + (f" or {given.seconds} seconds" if given.seconds else "")
        return NOT_PROVED, f"not proved: the checker gave up, most likely beyond {limits}"
    return int(code), str(message)


def _limit(gib: float, seconds: int | None) -> None:
    """Let this process take no more memory, and die when the time is over."""
    import resource

    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([int(gib * 2**30), *limits]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if seconds:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def _judged(given: argparse.Namespace) -> tuple[int, str]:
    """The exit code, and what was proved or the first thing that fails."""
    try:
        if bool(given.ranges) == bool(given.domain):
            raise Usage("say on which inputs: --range LO,HI or --domain BOX.npz, one of them")
        found = check(
            _bytes(given.original),
            _bytes(given.compressed),
            _read(given.certificate),
            lambda graph: _domain(graph, given.ranges, given.domain),
        )
    except Usage as error:
        return USAGE, f"usage: {error}"
    except Unreadable as error:
        return UNREADABLE, f"unreadable: {error}"
    except NotProved as error:
        return NOT_PROVED, f"not proved: {error}"
    except (MemoryError, RecursionError) as error:
        return NOT_PROVED, f"not proved: the checker gave up ({type(error).__name__})"
    return PROVED, text(found)


def _joined(arguments: list[str]) -> list[str]:
    """``--range -1,1`` as one word: argparse would take ``-1,1`` for an option."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] == "--range":
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError(text)
    return number


def _whole(text: str) -> int:
    return int(_positive(str(int(text))))


def text(found: Proved) -> str:
    """What was proved, in words."""
    what = "no output, shifted as follows," if found.shift else "no output"
    if not found.largest:
        promise = f"{what} differs, for every sample of the domain, over the reals"
    else:
        promise = f"{what} differs by more than {found.largest!r}, for every sample of the domain, over the reals"
    level = f"within={float(found.budget)!r}" if found.level == "within" else found.level
    guard = "" if found.guard is None else f"  guard        {found.guard!r} is true only in the certificate's domain\n"
    shift = "".join(
        f"  output {name!r}: each logit less logit {by}: "
        "softmax and argmax are the same but for epsilon, logits are not\n"
        for name, by in found.shift.items()
    )
    return (
        f"proved: {promise}\n"
        f"{shift}"
        f"  level        {level}\n"
        f"  ReLUs        {found.units[0]} -> {found.units[1]}\n"
        f"  facts        {found.facts} bounds, {found.claims} signs\n"
        f"{guard}"
        f"  original     {found.original}\n"
        f"  compressed   {found.compressed}\n"
        f"  certificate  {found.certificate} ({found.producer})"
    )


def _domain(graph: Graph, ranges: list[str], box: str | None) -> Domain:
    return from_ranges(graph, ranges) if box is None else from_npz(graph, _read(box))


def _bytes(name: str) -> bytes:
    data = _read(name)
    if not name.endswith(".gz"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            plain = file.read(LARGEST + 1)
        if len(plain) > LARGEST:
            raise Unreadable(f"{name}: more than {LARGEST} bytes once it is decompressed")
        return plain
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{name}: cannot be decompressed ({error})") from error


def _read(name: str) -> bytes:
    try:
        path = Path(name)
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:  # a pipe may never end
            raise Unreadable(f"{name}: not a regular file, or more than {LARGEST} bytes")
        return path.read_bytes()
    except Unreadable:
        raise
    except (OSError, ValueError) as error:
        raise Unreadable(f"{name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
