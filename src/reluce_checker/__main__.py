"""The command ``reluce-check``."""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import zlib
from pathlib import Path

from reluce_checker._check import Proved, check
from reluce_checker._domain import Domain, from_npz, from_ranges
from reluce_checker._errors import NotProved, Unreadable, Usage
from reluce_checker._graph import Graph

PROVED, NOT_PROVED, USAGE, UNREADABLE = 0, 1, 2, 3

LARGEST = 1 << 31
"""Bytes of a decompressed network; a protobuf cannot be larger."""

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
    given = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
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
        return _fail(f"usage: {error}", USAGE)
    except Unreadable as error:
        return _fail(f"unreadable: {error}", UNREADABLE)
    except NotProved as error:
        return _fail(f"not proved: {error}", NOT_PROVED)
    except (MemoryError, RecursionError) as error:
        return _fail(f"not proved: the checker gave up ({type(error).__name__})", NOT_PROVED)
    sys.stdout.write(text(found) + "\n")
    return PROVED


def _joined(arguments: list[str]) -> list[str]:
    """``--range -1,1`` as one word: argparse would take ``-1,1`` for an option."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] == "--range":
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def text(found: Proved) -> str:
    """What was proved, in words."""
    if not found.largest:
        promise = "no output differs, for every sample of the domain, over the reals"
    else:
        promise = f"no output differs by more than {found.largest!r}, for every sample of the domain, over the reals"
    level = f"within={float(found.budget)!r}" if found.level == "within" else found.level
    guard = "" if found.guard is None else f"  guard        {found.guard!r} is true only in the certificate's domain\n"
    return (
        f"proved: {promise}\n"
        f"  level        {level}\n"
        f"  ReLUs        {found.units[0]} -> {found.units[1]}\n"
        f"  facts        {found.facts} bounds, {found.claims} signs\n"
        f"{guard}"
        f"  original     {found.original}\n"
        f"  compressed   {found.compressed}\n"
        f"  certificate  {found.certificate} ({found.producer})"
    )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code


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
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise Unreadable(f"{name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
