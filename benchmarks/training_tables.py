"""The tables of benchmarks/training.py, from the lines of what is done; a dash where something is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from training_plan import (
    ABLATED,
    ISA,
    LEO,
    LEVELS,
    MARGIN,
    NETWORKS,
    Job,
    Published,
    Size,
    ablated,
    choices,
    chosen,
    compression,
    finals,
    listed,
    parameters,
    published,
    rewritten_apart,
)
from training_work import latency, network_file, small_file

Json = dict[str, Any]
Done = Mapping[str, Json]


def show(console: Console, parts: Sequence[str], size: Size, done: Done, out: Path) -> None:
    """Print the tables of some parts."""
    makers: dict[str, Callable[[], Iterable[Table | str]]] = {
        "ours": lambda: _ours(size, done),
        "leo": lambda: [_leo(size, done)],
        "isa": lambda: [_isa(size, done)],
        "ablation": lambda: _ablation(size, done),
        "latency": lambda: [_latency(size, done, out)],
    }
    for part in parts:
        for item in makers[part]():
            console.print(item)


def _table(title: str, caption: str, *columns: str) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _spread(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "-"
    around = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{around}"


def _lines(jobs: Iterable[Job], done: Done) -> list[Json]:
    return [done[job.key] for job in jobs if job.key in done]


def _small(jobs: Iterable[Job], level: str, size: Size, done: Done) -> list[Json]:
    return _lines([compression(job, level, size) for job in jobs], done)


def _accuracy(jobs: Iterable[Job], done: Done, which: str = "test") -> list[float]:
    return [100 * line[which] for line in _lines(jobs, done)]


def _stored(line: Json) -> int:
    """Parameters, and the indices of selected inputs, which are no parameters but are stored."""
    return int(line["after"]["parameters"] + line["after"]["indices"])


def _ours(size: Size, done: Done) -> Iterable[Table | str]:
    yield _selection(size, done)
    table = _table(
        "ours: test accuracy, and parameters that are left (means over seeds)",
        "plain: the same recipe without penalties and budget. stored: with the indices of a selection of inputs.",
        *("network", "seeds", "epochs", "budget", "plain %", "ours %", "difference", "parameters"),
        *("plain, roundoff", "exact", "roundoff", "stored", "times", "times, stored"),
    )
    ratios = []
    for network in NETWORKS:
        budget = chosen(network, size, done)
        if budget is None:
            table.add_row(network.name, *["-"] * 13)
            continue
        jobs = finals(network, budget, size)
        plain, ours = (_accuracy(jobs[which], done) for which in ("plain", "ours"))
        untouched = _small(jobs["plain"], "roundoff", size, done)
        exact, roundoff = (_small(jobs["ours"], level, size, done) for level in LEVELS)
        counts = [[line["after"]["parameters"] for line in lines] for lines in (untouched, exact, roundoff)]
        counts.append([_stored(line) for line in roundoff])
        before = [line["before"]["parameters"] for line in roundoff]
        times = [mean(before) / mean(after) for after in counts[2:] if after]
        if times:
            ratios.append(times)
        table.add_row(
            network.name,
            f"{len(ours)}",
            f"{jobs['ours'][0].spec['recipe']['epochs']}",
            listed(budget),
            _spread(plain),
            _spread(ours),
            f"{mean(ours) - mean(plain):+.2f}" if plain and ours else "-",
            f"{before[0]:,}" if before else "-",
            *(f"{mean(count):,.0f}" if count else "-" for count in counts),
            *(f"{ratio:.2f}" for ratio in times or ()),
        )
    yield table
    if ratios:
        means = [_geometric(column) for column in zip(*ratios, strict=True)]
        yield f"Geometric mean over {len(ratios)} networks: {means[0]:.2f} times (with indices {means[1]:.2f}); aim 5."


def _geometric(values: Sequence[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return product ** (1 / len(values))


def _selection(size: Size, done: Done) -> Table:
    margins = ", ".join(f"{100 * margin:g} points for {name}" for name, margin in MARGIN.items())
    table = _table(
        "ours: choice of the budget on a tenth of the training samples",
        f"Taken (*): the smallest that is above plain by at least a margin ({margins}), the largest where none is. "
        "Mean over the seeds of the choice.",
        *("network", "budget", "parameters", "validation %", "taken"),
    )
    for network in NETWORKS:
        taken = chosen(network, size, done)
        for budget, jobs in choices(network, size).items():
            count = f"{parameters(budget):,}" if len(budget) > 1 else ""
            mark = "*" if budget and budget == taken else ""
            name, words = (network.name, "plain") if not budget else ("", listed(budget))
            table.add_row(name, words, count, _spread(_accuracy(jobs, done, "valid")), mark)
    return table


def _removed(line: Json) -> tuple[float, float, list[int]]:
    """Per cent of units, per cent of connections, units of each layer."""
    gone = [units - kept for units, kept in line["layers"]]
    units = sum(units for units, _ in line["layers"])
    weights = 100 * (1 - line["after"]["weights"] / line["before"]["weights"])
    return 100 * sum(gone) / units, weights, gone


def _row(part: str, row: Published, size: Size, done: Done) -> tuple[list[Job], list[float], list[Json]]:
    jobs = published(part, row, size)
    return jobs, _accuracy(jobs, done), _small(jobs, "roundoff", size, done)


def _leo(size: Size, done: Done) -> Table:
    table = _table(
        "leo: L1 in the loss with the published strengths; removed by Reluce at roundoff",
        "Our recipe: SGD with momentum 0.9, batch 128, rate 0.05 falling by half a cosine; that of the paper is not "
        "known. Paper: 31 networks a row. Units removed: by layer.",
        *("network", "L1", "seeds", "epochs", "accuracy %", "paper", "layer 1", "paper", "layer 2", "paper"),
        *("compression %", "paper"),
    )
    for row in LEO:
        jobs, accuracy, lines = _row("leo", row, size, done)
        removed = [_removed(line) for line in lines]
        layers = [_spread([gone[layer] for _, _, gone in removed], 1) for layer in (0, 1)]
        beside = [text for pair in zip(layers, row.layers, strict=True) for text in (pair[0], f"{pair[1]:g}")]
        units = _spread([units for units, _, _ in removed], 1)
        epochs = str(jobs[0].spec["recipe"]["epochs"])
        cells = (row.name, f"{row.strength:g}", str(len(lines)), epochs, _spread(accuracy), f"{row.accuracy:g}")
        table.add_row(*cells, *beside, units, f"{row.units:g}")
    return table


def _isa(size: Size, done: Done) -> Table:
    table = _table(
        "isa: L1 in the loss as published; removed by Reluce at roundoff",
        "SGD with momentum 0.9, batch 128, rate 0.01, a tenth of it at 50/121 and 100/121 of training. The paper has "
        "120 epochs, augments CIFAR-10, and has 5 seeds; here CIFAR-10 is JPEG, and nothing is augmented.",
        *("network", "L1", "seeds", "epochs", "accuracy %", "paper", "neurons %", "paper", "connections %", "paper"),
    )
    for row in ISA:
        jobs, accuracy, lines = _row("isa", row, size, done)
        removed = [_removed(line) for line in lines]
        table.add_row(
            *(row.name, f"{row.strength:g}", str(len(lines)), str(jobs[0].spec["recipe"]["epochs"])),
            *(_spread(accuracy), f"{row.accuracy:g}", _spread([units for units, _, _ in removed], 1), f"{row.units:g}"),
            *(_spread([weights for _, weights, _ in removed], 1), f"{row.connections:g}"),
        )
    return table


def _ablation(size: Size, done: Done) -> Iterable[Table]:
    table = _table(
        f"ablation of regularisers: {ABLATED.name}, seed {size.seeds[0]}, {ABLATED.recipe.epochs} epochs",
        "",
        *("what", "accuracy %", "zeros %", "parameters", "roundoff", "stored", "times"),
    )
    budget = chosen(ABLATED, size, done)
    for name, job in ablated(budget, size).items() if budget is not None else ():
        small = _small([job], "roundoff", size, done)
        if small:
            before, after = small[0]["before"]["parameters"], small[0]["after"]["parameters"]
            accuracy, zeros = 100 * done[job.key]["test"], 100 * done[job.key]["zeros"]
            sizes = (f"{before:,}", f"{after:,}", f"{_stored(small[0]):,}", f"{before / after:.2f}")
            table.add_row(name, f"{accuracy:.2f}", f"{zeros:.1f}", *sizes)
    yield table
    rewrites: Table | None = None
    for name, job in rewritten_apart(size, done):
        for line in _lines([compression(job, "roundoff", size, "without")], done):
            if rewrites is None:
                title = "ablation of rewrites: parameters at roundoff without each, with skips, and only deleting"
                rewrites = _table(title, "", "network", "before", *line["parameters"])
            counts = (f"{count:,}" for count in line["parameters"].values())
            rewrites.add_row(name, f"{line['before']:,}", *counts)
    if rewrites is not None:
        yield rewrites


def _latency(size: Size, done: Done, out: Path) -> Table:
    table = _table(
        "latency: how many times faster the compressed network is in onnxruntime, one thread",
        "Original and compressed at roundoff take turns; medians. Of the network with the first seed.",
        *("network", "batch 1", "batch 256"),
    )
    cached = out / "latency.json"
    known: Json = json.loads(cached.read_text()) if cached.exists() else {}
    for network in NETWORKS:
        taken = chosen(network, size, done)
        job = None if taken is None else finals(network, taken, size)["ours"][0]
        if job is None or not small_file(out, job.key, "roundoff").exists():
            table.add_row(network.name, "-", "-")
            continue
        if job.key not in known:
            files = network_file(out, job.key), small_file(out, job.key, "roundoff")
            known[job.key] = [latency(*files, batch) for batch in (1, 256)]
        table.add_row(network.name, *(f"{ratio:.2f}" for ratio in known[job.key]))
    cached.write_text(json.dumps(known))
    return table
