"""From proofs to a certificate: only what the checker accepts is removed, and all else is told."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import box_of, chain
from tiny_models import DIGITS, known, saved

import reluce.certificate._certify as module
import reluce.io._save as saving
from certificates import NO_BOXES, PROVERS, contents, domain_of
from reluce import Exact, OutputError, ProverSettings, Settings, UsageError, Within, compress
from reluce.bounds import analyse
from reluce.certificate import nothing
from reluce.certificate._ground import grounds, supported, without
from reluce.certificate._write import claimed
from reluce.facts import Verdict
from reluce.prove import ClosingSettings, prove
from reluce.prove._slopes import Descent
from reluce.rewrite import Rewritten
from reluce_checker import NotProved, Unreadable, check

EXACT = Settings(Exact())
BOX = box_of((-1, 1), (-1, 1))
NEEDS_SPLITS = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)
LEAVES = ProverSettings(
    closing=ClosingSettings(split=NO_BOXES, last_split=NO_BOXES, slopes=Descent(steps=0), tighten=Descent(steps=0))
)

Check = Callable[..., Any]


def rejecting(times: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A checker that accepts nothing at first; how often it was asked."""
    asked = [0]

    def asked_to(*arguments: Any) -> Any:
        asked[0] += 1
        if asked[0] <= times:
            raise error
        return check(*arguments)

    monkeypatch.setattr(module, "check", asked_to)
    return asked


def kept(result: Any) -> list[Sequence[int] | None]:
    return [row.kept_units for row in result.report.layers]


def test_everything_that_goes_is_certified(tmp_path: Path) -> None:
    result = compress(known(), "0,1", certificate=tmp_path / "c.cert", settings=EXACT)
    assert result.certified is not None
    assert result.report.certificate is not None
    assert kept(result) != [tuple(range(6))]
    found = result.certified
    assert found.certificate == (tmp_path / "c.cert").read_bytes()
    again = check(found.original, found.compressed, found.certificate, domain_of(box_of((0, 1), (0, 1))))
    assert again.certificate == found.proved.certificate


def test_a_verdict_that_the_checker_does_not_accept_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = compress(known(), "0,1", certificate=tmp_path / "c.cert", settings=EXACT)
    (before,) = kept(honest)
    asked = rejecting(1, NotProved("unit 0 is not proved", "z1", (0,)), monkeypatch)
    result = compress(known(), "0,1", certificate=tmp_path / "c.cert", settings=EXACT)
    (after,) = kept(result)
    assert asked == [2]
    assert before is not None
    assert after is not None
    assert sorted(after) == sorted({*before, 0})
    assert result.certified is not None
    reasons = [str(refusal.why) for refusal in result.report.refusals]
    assert "the independent checker did not accept the certificate of it" in reasons


def test_layers_are_given_up_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the checker names another unit, until nothing is left to name."""
    asked = rejecting(3, NotProved("no", "z1", (0, 1, 2, 3, 4, 5)), monkeypatch)
    result = compress(known(), "0,1", certificate=tmp_path / "c.cert", settings=EXACT)
    assert asked[0] >= 2
    assert result.certified is not None
    assert result.certified.compressed == result.certified.original


@pytest.mark.parametrize("error", [NotProved("nothing at all"), Unreadable("a file that is none")])
@pytest.mark.parametrize("level", [Exact(), Within(0.5)], ids=str)
def test_the_original_where_nothing_can_be_certified(
    error: Exception, level: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejecting(1000, error, monkeypatch)
    source, target = saved(known(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    result = compress(source, "0,1", output=target, settings=Settings(level))
    assert result.certified is None
    assert result.report.certificate is None
    assert target.read_bytes() == source.read_bytes()
    assert not (tmp_path / "out.cert").exists()
    (note,) = [note for note in result.report.notes if "no certificate" in note]
    assert note.startswith("no certificate, and so nothing was removed (--no-certificate): " + str(error))
    assert result.report.guarantee is not None
    assert result.report.guarantee.epsilon == 0


def test_without_a_certificate_the_checker_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rejecting(1000, NotProved("no"), monkeypatch)
    target = tmp_path / "out.onnx"
    result = compress(known(), "0,1", output=target, certificate=False, settings=EXACT)
    assert asked == [0]
    assert result.certified is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx"]
    assert kept(result) != [tuple(range(6))]


def test_without_a_place_there_is_none() -> None:
    assert compress(known(), "0,1", settings=EXACT).certified is None
    assert compress(known(), "0,1", output=io.BytesIO(), settings=EXACT).certified is None


@pytest.mark.parametrize(
    ("output", "place"),
    [("out.onnx", "out.cert"), ("out.onnx.gz", "out.cert"), ("out", "out.cert"), ("a.b.onnx", "a.b.cert")],
)
def test_it_goes_next_to_the_output(output: str, place: str, tmp_path: Path) -> None:
    for certificate in (None, True):
        result = compress(known(), "0,1", output=tmp_path / output, certificate=certificate, settings=EXACT)
        assert result.certified is not None
        assert (tmp_path / place).read_bytes() == result.certified.certificate


def test_where_it_cannot_go(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    with pytest.raises(UsageError, match="goes with an output that is a path"):
        compress(known(), "0,1", certificate=True)
    for place in (source, tmp_path / "out.onnx"):
        with pytest.raises(UsageError, match="would replace a model"):
            compress(source, "0,1", output=tmp_path / "out.onnx", certificate=place)
    with pytest.raises(OutputError):
        compress(source, "0,1", output=tmp_path / "out.onnx", certificate=tmp_path / "nowhere" / "c.cert")
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_the_model_is_the_last_to_take_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees the model finds its certificate there."""
    order: list[str] = []
    real = saving.Temporary.commit

    def seen(written: saving.Temporary) -> None:
        order.append(written.target.name)
        real(written)

    monkeypatch.setattr(saving.Temporary, "commit", seen)
    compress(known(), "0,1", output=tmp_path / "out.onnx", settings=EXACT)
    assert order[-1] == "out.onnx"
    assert order.index("out.cert") < order.index("out.onnx")


@pytest.mark.parametrize("which", ["out.cert", "out.onnx"])
def test_a_disk_that_is_full_leaves_nothing_behind(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = saving.write_temporary

    def full(path: Any, data: bytes) -> saving.Temporary:
        if Path(path).name == which:
            raise OutputError(f"{path}: no space left")
        return real(path, data)

    monkeypatch.setattr(saving, "write_temporary", full)
    with pytest.raises(OutputError, match="no space left"):
        compress(known(), "0,1", output=tmp_path / "out.onnx", settings=EXACT)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.onnx").write_bytes(b"older")
    monkeypatch.setattr(saving, "read_bytes", lambda *_, **__: b"other")
    with pytest.raises(OutputError, match="gives back other bytes"):
        compress(known(), "0,1", output=tmp_path / "out.onnx", settings=EXACT)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.onnx", b"older")]


# What a certificate stands on


def test_verdicts_that_do_not_follow_become_undecided() -> None:
    proof = prove(NEEDS_SPLITS, BOX, settings=LEAVES)
    found = supported(NEEDS_SPLITS, proof.facts, analyse(NEEDS_SPLITS, BOX))
    before, after = (facts.layers["node_h2"].verdict for facts in (proof.facts, found.facts))
    assert before.tolist()[0] == Verdict.INACTIVE
    assert after.tolist()[0] == Verdict.UNDECIDED
    assert found.records == ()


def test_evidence_is_added_only_where_it_is_needed() -> None:
    """With nothing wanted no record is used; with the unit that splits prove, its record comes along."""
    proof = prove(NEEDS_SPLITS, BOX, settings=LEAVES)
    first = next(iter(grounds(NEEDS_SPLITS, BOX, proof.facts, proof.evidence.records, {})))
    assert first.records == ()
    ground = supported(NEEDS_SPLITS, proof.facts, proof.bounds, proof.evidence.records)
    gone = {node.name: np.arange(1, proof.facts.layers[node.name].units) for node in NEEDS_SPLITS.relus}
    wanted = claimed(NEEDS_SPLITS, ground, gone, Rewritten.nothing_done(NEEDS_SPLITS))
    found = list(grounds(NEEDS_SPLITS, BOX, proof.facts, proof.evidence.records, wanted))
    assert found[-1].records
    assert found[-1].facts.layers["node_h2"].verdict[0] == Verdict.INACTIVE


def test_without_some_verdicts() -> None:
    proof = prove(NEEDS_SPLITS, BOX, settings=LEAVES)
    ground = supported(NEEDS_SPLITS, proof.facts, proof.bounds, proof.evidence.records)
    less = without(ground, NEEDS_SPLITS, {"z2": np.array([0])})
    was, now = (part.facts.layers["node_h2"] for part in (ground, less))
    assert was.verdict[0] != Verdict.UNDECIDED == now.verdict[0]
    assert was.verdict[1:].tolist() == now.verdict[1:].tolist()
    assert less.facts.layers["node_h1"].verdict.tolist() == ground.facts.layers["node_h1"].verdict.tolist()
    low, high = (getattr(less.bounds.intervals["z2"], end).ravel()[0] for end in ("lower", "upper"))
    assert low < 0 < high  # neither sign is left in the bounds
    unchanged = without(ground, NEEDS_SPLITS, {"nowhere": np.array([0])})
    assert unchanged.facts.layers["node_h2"].verdict.tolist() == was.verdict.tolist()


def test_with_nothing_at_all() -> None:
    proof = prove(NEEDS_SPLITS, BOX)
    assert all((layer.verdict == Verdict.UNDECIDED).all() for layer in nothing(proof).facts.layers.values())


def test_a_network_that_was_proved_by_splits(tmp_path: Path) -> None:
    from certificates import as_model

    for name, prover in PROVERS.items():
        settings = Settings(Exact(), prover=prover)
        result = compress(as_model(NEEDS_SPLITS), BOX, certificate=tmp_path / "c.cert", settings=settings)
        assert result.certified is not None, name
        kinds = {fact["kind"] for fact in contents(result.certified.certificate)["facts"]}
        assert kinds & {"split", "boxes"}
        assert result.certified.compressed != result.certified.original


def test_the_settings_are_told(tmp_path: Path) -> None:
    settings = Settings(Within(1e-5), time_limit=600)
    result = compress(DIGITS, "0,1", certificate=tmp_path / "c.cert", settings=settings)
    assert result.certified is not None
    text = contents(result.certified.certificate)
    assert text["settings"] == {"guarantee": "within=1e-05", "prover": "ladder", "seed": "0", "time limit": "600 s"}
    assert text["producer"].startswith("reluce ")
    assert (text["level"], text["budget"]) == ("within", "1e-05")
