"""The recipes of benchmarks/training.py, what the papers have beside them, and which runs follow from which.

A run is a ``Job``: all that it is determined by, so that its digest is its key. ``plan`` lists the jobs that can run
now, from the lines of those that are done.

What strengths are chosen by: for each network of NETWORKS the unregularised network and all of its budgets are trained
on 90 % of the training samples, once for each seed of its selection. The smallest budget whose mean validation accuracy
is not below that of the unregularised one plus MARGIN is taken, the largest where none is. The final runs are on all
training samples; the test samples are looked at once, when they have ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, Literal

from reluce.rewrite import STEPS
from reluce.train import Recipe

Json = dict[str, Any]
Kind = Literal["train", "compress", "without"]
PARTS = ("ours", "leo", "isa", "ablation", "latency")
LEVELS = ("exact", "roundoff")


@dataclass(frozen=True)
class Job:
    """One run; ``spec`` is all that it is determined by."""

    kind: Kind
    name: str
    spec: Json

    @property
    def key(self) -> str:
        """The same for the same run, whatever it is called and whoever asks for it."""
        return hashlib.sha256(json.dumps([self.kind, self.spec], sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Size:
    """How much is run."""

    epochs: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    samples: int | None = None
    seconds: float = 60.0


Budget = tuple[float, ...]


@dataclass(frozen=True)
class Ours:
    """One network of the part ``ours``: what it learns, how, and the budgets to choose from.

    A budget has the inputs and the units of each layer that stay; or a single number below 1, which is the strength of
    a sparse-group lasso without a budget. ``groups`` are the strengths on inputs and on units that go with a budget,
    ``selection`` the seeds that the choice is made with.
    """

    name: str
    data: str
    recipe: Recipe
    budgets: tuple[Budget, ...]
    groups: tuple[float, float] = (1e-4, 2e-5)
    selection: tuple[int, ...] = (0,)

    def with_budget(self, budget: Budget) -> Recipe:
        """The same recipe with a budget, and the mild group lasso that goes with it; or with the lasso alone."""
        if len(budget) == 1:
            return replace(self.recipe, l1=budget[0], rows=budget[0], columns=budget[0])
        inputs, units = self.groups
        columns = (inputs, *[units] * len(self.recipe.widths))
        return replace(self.recipe, keep=tuple(map(int, budget)), rows=units, columns=columns)


MNIST = Recipe(epochs=15, lr=0.1, nesterov=True, warmup=0.02, ramp=0.2, polish=0.4, weight_decay=3e-4, valid=0.1)
CIFAR = replace(MNIST, epochs=12, lr=0.02, centre=True)
MARGIN = {"mnist": 0.0005, "cifar10": 0.005}

NETWORKS = (
    Ours(
        "MNIST 2x100",
        "mnist",
        Recipe(widths=(100,) * 2, epochs=30, valid=0.1),
        ((3e-5,), (4e-5,), (5e-5,), (7e-5,), (1e-4,), (350, 90, 90), (300, 90, 90), (250, 80, 80)),
        (1e-4, 2e-5),
        selection=(0, 1),
    ),
    Ours(
        "MNIST 2x400",
        "mnist",
        replace(MNIST, widths=(400,) * 2, weight_decay=1e-4),
        ((350, 250, 120), (300, 220, 100), (300, 180, 100)),
        (5e-5, 1e-5),
    ),
    Ours(
        "MNIST 5x100",
        "mnist",
        replace(MNIST, widths=(100,) * 5, lr=0.05, epochs=30),
        ((350, 80, 60, 50, 50, 50), (300, 75, 55, 45, 45, 45), (250, 70, 50, 40, 40, 40)),
        (1e-4, 1e-5),
        selection=(0, 1),
    ),
    Ours(
        "CIFAR-10 3x100",
        "cifar10",
        replace(CIFAR, widths=(100,) * 3),
        ((400, 80, 60, 50), (300, 80, 50, 40), (250, 80, 50, 40)),
    ),
    Ours(
        "CIFAR-10 2x400",
        "cifar10",
        replace(CIFAR, widths=(400,) * 2, weight_decay=1e-3),
        ((800, 250, 100), (550, 220, 100), (400, 180, 80), (350, 160, 80), (300, 150, 60)),
    ),
)


@dataclass(frozen=True)
class Published:
    """A row of a paper: accuracy and what was removed, in per cent; LEO's units of each layer are a mean as well."""

    name: str
    data: str
    widths: tuple[int, ...]
    strength: float
    accuracy: float
    units: float
    connections: float | None = None
    layers: tuple[float, ...] = ()


LEO = (
    Published("MNIST 2x25", "mnist", (25, 25), 1e-3, 95.76, 22, None, (5.7, 5.1)),
    Published("MNIST 2x25", "mnist", (25, 25), 2e-4, 97.24, 8.3, None, (1.2, 3.0)),
    Published("MNIST 2x25", "mnist", (25, 25), 0.0, 96.68, 0, None, (0, 0)),
    Published("MNIST 2x50", "mnist", (50, 50), 1e-3, 96.05, 29.4, None, (16.9, 12.5)),
    Published("MNIST 2x50", "mnist", (50, 50), 2e-4, 97.81, 15.1, None, (7.6, 7.5)),
    Published("MNIST 2x50", "mnist", (50, 50), 0.0, 97.62, 0, None, (0, 0)),
    Published("MNIST 2x100", "mnist", (100, 100), 5e-4, 97.14, 30.8, None, (36.7, 24.9)),
    Published("MNIST 2x100", "mnist", (100, 100), 1e-4, 98.14, 14.9, None, (18.6, 11.1)),
    Published("MNIST 2x100", "mnist", (100, 100), 0.0, 98.00, 0, None, (0, 0)),
)
"""LEO's Table 1 (Serra, Kumar, Ramalingam, "Lossless compression of deep neural networks", 2020)."""

ISA = (
    Published("MNIST 2x100", "mnist", (100,) * 2, 2e-4, 97.91, 18, 31),
    Published("MNIST 2x100", "mnist", (100,) * 2, 0.0, 97.92, 0, 0),
    Published("MNIST 5x100", "mnist", (100,) * 5, 2e-4, 98.1, 18, 32),
    Published("MNIST 5x100", "mnist", (100,) * 5, 0.0, 98.06, 0, 0),
    Published("MNIST 2x400", "mnist", (400,) * 2, 1e-4, 98.1, 14, 26),
    Published("MNIST 2x400", "mnist", (400,) * 2, 0.0, 98.1, 0, 0),
    Published("CIFAR-10 2x100", "cifar10", (100,) * 2, 5e-5, 53.6, 31, 56),
    Published("CIFAR-10 2x100", "cifar10", (100,) * 2, 0.0, 54.3, 0, 0),
    Published("CIFAR-10 3x100", "cifar10", (100,) * 3, 5e-5, 53.8, 22.3, 32),
    Published("CIFAR-10 3x100", "cifar10", (100,) * 3, 0.0, 53.7, 0, 0),
    Published("CIFAR-10 2x400", "cifar10", (400,) * 2, 5e-5, 58.2, 28, 54),
    Published("CIFAR-10 2x400", "cifar10", (400,) * 2, 0.0, 58.7, 0, 0),
)
"""Serra, Yu, Kumar, Ramalingam, "Scaling up exact neural network compression by ReLU stability", 2021: the rows with
most removed at no loss."""

EPOCHS = {"leo": {"mnist": 15}, "isa": {"mnist": 120, "cifar10": 120}}
"""ISA's are as published (20 were tried: at its learning rate nothing is stable yet); LEO's are not known."""


def published_recipe(part: str, row: Published) -> Recipe:
    """L1 in the loss. ISA's is as published but for the epochs; of LEO's nothing but the strength is known."""
    plain = Recipe(
        widths=row.widths,
        epochs=EPOCHS[part][row.data],
        l1=row.strength,
        subgradient=True,
        polish=0.0,
        ramp=0.0,
        valid=0.0,
    )
    return replace(plain, lr=0.05) if part == "leo" else replace(plain, lr=0.01, decay="step")


ABLATED, ALONE = NETWORKS[2], (1e-4,)
"""The network of the ablation, and the strengths at which regularisers stand alone."""


def ablations(budget: Budget) -> dict[str, Recipe]:
    """What is left out, and what stands alone."""
    whole, plain = ABLATED.with_budget(budget), ABLATED.recipe
    loss = replace(plain, subgradient=True)
    alone = {
        "plain": plain,
        "ours": whole,
        "without the budget": replace(whole, keep=()),
        "without rows": replace(whole, rows=0.0),
        "without columns": replace(whole, columns=0.0),
        "without weight decay": replace(whole, weight_decay=0.0),
        "with L1 1e-5": replace(whole, l1=1e-5),
        "with stability 1e-4": replace(whole, stability=1e-4),
        "budget alone": replace(plain, keep=tuple(map(int, budget))),
    }
    alone |= {f"L1 in the loss alone, {s:g}": replace(loss, l1=s) for s in ALONE}
    alone |= {f"proximal L1 alone, {s:g}": replace(plain, l1=s) for s in ALONE}
    alone |= {f"rows alone, {s:g}": replace(plain, rows=s) for s in ALONE}
    alone |= {f"columns alone, {s:g}": replace(plain, columns=s) for s in ALONE}
    return alone | {"stability alone, 1e-3": replace(plain, stability=1e-3)}


def training(name: str, data: str, recipe: Recipe, size: Size, test: bool = True) -> Job:
    """Train a network; without ``test`` on 90 % of the samples, else on all of them."""
    scaled = replace(recipe, epochs=max(1, round(recipe.epochs * size.epochs)), valid=0.1 * (not test))
    spec = {"data": data, "samples": size.samples, "test": test, "recipe": json.loads(scaled.to_json())}
    return Job("train", f"{name} seed {recipe.seed}" + " (selection)" * (not test), spec)


def compression(trained: Job, level: str, size: Size, kind: Kind = "compress") -> Job:
    """Compress what a job has trained."""
    name = f"{trained.name}, {'each rewrite left out' if kind == 'without' else level}"
    steps = {"steps": list(STEPS), "skips": True} if kind == "without" else {}
    spec = {"network": trained.key, "data": trained.spec["data"], "samples": trained.spec["samples"]}
    return Job(kind, name, spec | {"level": level, "seconds": size.seconds} | steps)


def choices(network: Ours, size: Size) -> dict[Budget, list[Job]]:
    """The runs that the choice of a budget is made by; those without one under ``()``."""
    seeds = [seed for seed in network.selection if seed in size.seeds] or size.seeds[:1]
    recipes = {(): network.recipe} | {budget: network.with_budget(budget) for budget in network.budgets}
    return {
        budget: [training(_named(network, budget), network.data, replace(recipe, seed=s), size, False) for s in seeds]
        for budget, recipe in recipes.items()
    }


def _named(network: Ours, budget: Budget) -> str:
    return network.name + (f" {listed(budget)}" if budget else " plain")


def listed(budget: Budget) -> str:
    """A budget, or a strength, in words."""
    return f"strength {budget[0]:g}" if len(budget) == 1 else "budget " + ",".join(map(str, budget))


def chosen(network: Ours, size: Size, done: Mapping[str, Json]) -> Budget | None:
    """The budget that is taken; ``None`` where runs are missing."""
    jobs = choices(network, size)
    if any(job.key not in done for runs in jobs.values() for job in runs):
        return None
    reached = {budget: mean([done[job.key]["valid"] for job in runs]) for budget, runs in jobs.items()}
    enough = [budget for budget in network.budgets if reached[budget] >= reached[()] + MARGIN[network.data]]
    return min(enough, key=parameters) if enough else max(network.budgets, key=parameters)


def parameters(budget: Budget, classes: int = 10) -> float:
    """Of the network that a budget leaves; of a strength something larger, that falls as it rises."""
    sizes = (*budget, classes)
    return 1e9 * (1.0 - budget[0]) if len(budget) == 1 else sum(prod(pair) + pair[1] for pair in pairwise(sizes))


def mean(values: Sequence[float]) -> float:
    """The plain mean."""
    return sum(values) / len(values)


def finals(network: Ours, budget: Budget, size: Size) -> dict[str, list[Job]]:
    """The runs that count, plain and with the budget."""
    recipes = {"plain": network.recipe, "ours": network.with_budget(budget)}
    names = {"plain": _named(network, ()), "ours": _named(network, budget)}
    return {
        which: [training(names[which], network.data, replace(recipe, seed=s), size) for s in size.seeds]
        for which, recipe in recipes.items()
    }


def published(part: str, row: Published, size: Size) -> list[Job]:
    """The runs of a row of a paper."""
    recipe, name = published_recipe(part, row), f"{part}: {row.name} {row.strength:g}"
    return [training(name, row.data, replace(recipe, seed=s), size) for s in size.seeds]


def ablated(budget: Budget, size: Size) -> dict[str, Job]:
    """One run for each ablation, with the first seed."""
    return {
        name: training(f"ablation: {name}", ABLATED.data, replace(recipe, seed=size.seeds[0]), size)
        for name, recipe in ablations(budget).items()
    }


def plan(parts: Sequence[str], size: Size, done: Mapping[str, Json]) -> Iterator[Job]:
    """All jobs whose beginnings are done, the most wanted first."""
    for network in NETWORKS if {"ours", "ablation", "latency"} & set(parts) else ():
        yield from _ours(network, size, done, "ours" in parts)
    for part, rows in (("leo", LEO), ("isa", ISA)):
        for row in sorted(rows, key=lambda row: row.strength == 0) if part in parts else ():
            for job in published(part, row, size):
                yield job
                if job.key in done:
                    yield compression(job, "roundoff", size)
    if "ablation" in parts:
        yield from _ablation(size, done)


def _ours(network: Ours, size: Size, done: Mapping[str, Json], whole: bool) -> Iterator[Job]:
    yield from (job for runs in choices(network, size).values() for job in runs)
    budget = chosen(network, size, done)
    for which, jobs in finals(network, budget, size).items() if budget is not None else ():
        for job in jobs if whole or which == "ours" else ():
            yield job
            for level in LEVELS if job.key in done else ():
                yield compression(job, level, size)


def _ablation(size: Size, done: Mapping[str, Json]) -> Iterator[Job]:
    budget = chosen(ABLATED, size, done)
    for job in ablated(budget, size).values() if budget is not None else ():
        yield job
        if job.key in done:
            yield compression(job, "roundoff", size)
    for _, job in rewritten_apart(size, done):
        if job.key in done:
            yield compression(job, "roundoff", size, "without")


def rewritten_apart(size: Size, done: Mapping[str, Json]) -> Iterator[tuple[str, Job]]:
    """The networks, by name, of which each rewrite is left out once: ours, and those with L1 as published."""
    for network in NETWORKS:
        taken = chosen(network, size, done)
        if taken is not None:
            yield network.name, finals(network, taken, size)["ours"][0]
    for part, rows in (("leo", LEO), ("isa", ISA)):
        for row in rows:
            if row.strength:
                yield f"{part}: {row.name} {row.strength:g}", published(part, row, size)[0]
