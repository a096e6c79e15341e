"""How far the compressed network is from the original, tensor by tensor; no rewrite is known here, only their results.

Every tensor T' of the compressed network stands for affine functions of a tensor T of the original:

    |T'(x) - (R T(x) + r)| <= d        for all x in the domain.

Graph inputs have R = I, r = 0, d = 0, and graph outputs must have R = I, r = 0 again: then d bounds the difference. Of
outputs that are said to be shifted by k, R must be ``I - 1 e_k^T``: then d is about ``T'_i - (T_i - T_k)``. One
dense step, ``z' = W' h' + b'`` with h' standing for ``R h + r``, where ``R+ z + r+`` is wanted:

    d+ = |W'| d + largest absolute value of  (W' R h + W' r + b') - (R+ z + r+)

which is a linear functional of the original's tensors; see ``Backward.largest``. ReLU is 1-Lipschitz, and so keeps d
for copies ``c T[j]``; for c < 0 those of a ReLU's output stand for ``relu(c z[j]) = |c| T[j] + c z[j]``. An affine row
f of any tensor that is at least -e passes through a ReLU as itself: d grows by e. Where it is of z and then of relu(z),
every unit that it reads has to be stably active. A selection may stand for the tensor that it selects from, or where
it has several inputs for that of the first, or for another; with rows that are coordinates of one more.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce_checker._certificate import Relation
from reluce_checker._errors import NotProved
from reluce_checker._exact import Exact, Matrix, joined
from reluce_checker._forms import Forms, ScaleForm
from reluce_checker._graph import (
    Add,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Graph,
    Monotone,
    Node,
    Opaque,
    Relu,
    Scale,
    Select,
    Softmax,
)
from reluce_checker._image import Image
from reluce_checker._linear import Backward, Functional
from reluce_checker._operations import kind_of, lipschitz, same_operation

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operations that are no functions: two of them need not agree."""

MOST = 60_000_000
"""Coefficients of one relation that are still looked at."""


class Relations:
    """Goes through the compressed network once; ``deviation`` has d for each tensor, ``(size,)``.

    Parameters
    ----------
    backward
        The original network with its proved intervals.
    small
        The compressed network.
    stated
        What the certificate says of its tensors; others stand for the tensor of the same name.
    shift
        Outputs that have to stand for the original's less one of its coordinates, and which.

    Raises
    ------
    NotProved
        Naming the first tensor for which the relation does not follow.
    """

    def __init__(
        self, backward: Backward, small: Graph, stated: Mapping[str, Relation], shift: Mapping[str, int]
    ) -> None:
        self.backward, self.original, self.small = backward, backward.graph, small
        self.forms = Forms()
        self.images = {name: self._image(name, stated.get(name)) for name in small.shapes}
        self.deviation: dict[str, Exact] = {}
        for name in small.inputs:
            self._demand_identity(name, "input")
            self.deviation[name] = Exact.zeros((small.size(name),))
        for node in small.nodes:
            if self._picks(node):
                self.deviation[node.outputs[0]] = self._picked(node)
                continue
            if any(name not in self.original.producer for name in (self.images[out].of for out in node.outputs)):
                raise NotProved(f"tensor {node.outputs[0]!r} stands for one that no node of the original writes")
            for name in node.outputs:
                self.deviation[name] = self._node(node, name)
        if not set(shift) <= set(small.outputs):
            raise NotProved("the certificate says that something is shifted that is no output")
        for name in small.outputs:
            if name in shift:
                self._demand_shift(name, shift[name])
            else:
                self._demand_identity(name, "output")

    def _image(self, name: str, stated: Relation | None) -> Image:
        size, nothing = self.small.size(name), Exact.zeros((0,))
        if stated is None:
            if name not in self.original.shapes:
                raise NotProved(f"nothing says what tensor {name!r} of the compressed network stands for")
            if self.small.shapes[name] is None or self.original.shapes[name] is None:
                if self.small.shapes[name] != self.original.shapes[name]:
                    raise NotProved(f"the shape of tensor {name!r} is known in one of the networks only")
                return Image(name, None, nothing, nothing, nothing, name)
            if size != self.original.size(name):
                raise NotProved(f"tensor {name!r} has another size than in the original, and nothing says why")
            kept: Array = np.arange(size)
            return Image(name, kept, Exact.of(np.ones(size)), Exact.zeros((0, size)), nothing, name)
        whole, over = (
            self.original.size(key) if key in self.original.shapes else 0 for key in (stated.of, stated.over)
        )
        fits = len(stated.kept) == size and (stated.kept < whole).all() and stated.over in self.original.shapes
        if not fits or (len(stated.matrix) and stated.matrix.shape[1] != over):
            raise NotProved(f"what the certificate says of tensor {name!r} does not fit the networks")
        factor = stated.factor if len(stated.factor) else np.ones(size)
        matrix = stated.matrix if len(stated.matrix) else np.zeros((0, over))
        kept, shift = stated.kept.astype(np.int64), Exact.of(stated.shift)
        return Image(stated.of, kept, Exact.of(factor), Exact.of(matrix), shift, stated.over)

    def _demand_identity(self, name: str, what: str) -> None:
        image = self.images[name]
        whole = image.kept is None or np.array_equal(image.kept, np.arange(self.original.size(name)))
        if image.of != name or not whole or not image.copies:
            raise NotProved(f"{what} {name!r} does not stand for itself")

    def _demand_shift(self, name: str, by: int) -> None:
        """An output stands for the original's, each coordinate less the one at ``by``, and for nothing else."""
        image, size = self.images[name], self.original.size(name)
        affine = image.of == image.over == name and image.kept is not None and bool(image.affine.all())
        right = affine and image.matrix.shape == (size, size) and not image.shift.sign.any() and by < size
        if right:
            wanted = np.eye(size)
            wanted[:, by] -= 1.0
            right = not (image.matrix - Exact.of(wanted)).sign.any()
        if not right:
            raise NotProved(f"output {name!r} does not stand for itself less coordinate {by}")

    def _activated(self, name: str) -> bool:
        """Whether a tensor of the original is the output of a ReLU."""
        return name in self.original.producer and isinstance(self.original.producer[name].op, Relu)

    # One node

    def _node(self, node: Node, name: str) -> Exact:
        before = self.original.producer[self.images[name].of]
        if self._unchanged(node, before):
            return Exact.zeros((self.small.size(name),))
        match node.op:
            case Dense():
                return self._dense(node)
            case Constant():
                return self._constant(node)
        if type(node.op) is not type(before.op):
            raise NotProved(f"tensor {name!r}: a {kind_of(node.op)} cannot be compared with a {kind_of(before.op)}")
        match node.op:
            case Relu():
                return self._relu(node, before)
            case Scale() | BatchNorm() | Monotone():
                return self._elementwise(node, before)
            case Add():
                return self._add(node, before)
            case Select():
                return self._select(node, before)
            case Softmax():
                return self._softmax(node, before)
        raise NotProved(f"tensor {name!r}: {kind_of(node.op)} is not the original's, or reads something else")

    def _picks(self, node: Node) -> bool:
        """Whether a selection stands for the tensor that it selects from, or first selects from, or has rows at all."""
        if not isinstance(node.op, Select) or len(node.outputs) != 1 or not node.inputs:
            return False
        y = self.images[node.outputs[0]]
        return self.images[node.inputs[0]].of == y.of or bool(y.affine.any())

    def _picked(self, node: Node) -> Exact:
        """Every coordinate is one of an input's; where the certificate has a row for it, that is this coordinate."""
        (output,), y = node.outputs, self.images[node.outputs[0]]
        if not isinstance(node.op, Select) or y.kept is None:
            raise NotProved(f"tensor {output!r} selects something of which nothing is known")
        of, place, factor, d = self._coordinates(node)
        moved, affine = node.op.indices, y.affine
        rows, columns = np.nonzero(y.matrix.sign)
        one = Exact.of(np.ones(len(rows)))
        single = np.array_equal(rows, np.arange(y.shift.shape[0])) and not (y.matrix[rows, columns] - one).sign.any()
        if not single or y.shift.sign.any() or y.turned.any():
            raise NotProved(f"tensor {output!r} selects something that does not stand for coordinates")
        wanted_of, wanted = np.full(len(y.kept), y.of, dtype=object), y.kept.copy()
        wanted_of[affine], wanted[affine] = y.over, columns
        size = y.factor.replaced(np.flatnonzero(affine), one)
        same = np.array_equal(of[moved], wanted_of) and np.array_equal(place[moved], wanted)
        if not same or (factor[moved] - size).sign.any():
            raise NotProved(f"tensor {output!r} selects other coordinates than the certificate says")
        return d[moved]

    def _coordinates(self, node: Node) -> tuple[Array, Array, Exact, Exact]:
        """What a selection selects from, one input after the other: tensor, coordinate, factor, deviation."""
        of: list[str] = []
        place, factor, d = [], [], []
        for name in node.inputs:
            x = self.images[name]
            if x.kept is None or (x.affine | x.turned).any():
                raise NotProved(f"tensor {node.outputs[0]!r} selects something that does not stand for coordinates")
            of += [x.of] * len(x.kept)
            place.append(x.kept)
            factor.append(x.factor)
            d.append(self.deviation[name])
        return np.array(of, dtype=object), np.concatenate(place), joined(factor), joined(d)

    def _unchanged(self, node: Node, before: Node) -> bool:
        """Whether a node is the original's, on inputs that are the original's."""
        inputs, outputs = ([self.images[name] for name in names] for names in (node.inputs, node.outputs))
        if isinstance(node.op, Opaque) and node.op.kind in RANDOM:
            return False
        names = tuple(image.of for image in inputs) == before.inputs
        whole = tuple(image.of for image in outputs) == before.outputs
        if not (names and whole and same_operation(node.op, before.op)):
            return False
        shapes = all(
            self.small.shapes[n] == self.original.shapes[self.images[n].of]
            and self.small.formats[n] == self.original.formats[self.images[n].of]
            for n in (*node.inputs, *node.outputs)
        )
        identical = all(
            image.copies and (image.kept is None or np.array_equal(image.kept, np.arange(len(image.kept))))
            for image in (*inputs, *outputs)
        )
        return shapes and identical and not any(self.deviation[name].sign.any() for name in node.inputs)

    def _read_same(self, node: Node, before: Node) -> bool:
        return tuple(self.images[name].of for name in node.inputs) == before.inputs

    def _relu(self, node: Node, before: Node) -> Exact:
        (source,), (output,) = node.inputs, node.outputs
        x, y = self.images[source], self.images[output]
        d = self.deviation[source]
        if not self._read_same(node, before) or not x.same(y):
            raise NotProved(f"tensor {output!r} does not stand for what the ReLU's input stands for")
        if x.turned.any() and self._activated(x.of):
            raise NotProved(f"tensor {output!r} is a ReLU of negative multiples of a ReLU")
        if not y.affine.any():
            return d
        if x.over not in self.backward.intervals or (x.over != y.over and (x.over, y.over) != (x.of, y.of)):
            raise NotProved(f"tensor {output!r} does not stand for what the ReLU's input stands for")
        z = self.backward.intervals[x.over]
        if x.over != y.over and (((x.matrix.sign != 0) & ~z.active).any(axis=1)).any():
            raise NotProved(f"tensor {output!r} has a combination of units that are not all stably active")
        below = Functional({x.over: -x.matrix}, -x.shift, Exact.zeros(x.shift.shape))
        lowest, unbounded = self.backward.upper(below, {})
        if unbounded.any():
            raise NotProved(f"tensor {output!r} has a combination of units that is unbounded")
        return d.replaced(np.flatnonzero(y.affine), d[y.affine] + lowest.positive)

    def _elementwise(self, node: Node, before: Node) -> Exact:
        (source,), (output,) = node.inputs, node.outputs
        x, y = self.images[source], self.images[output]
        if not self._read_same(node, before) or not x.same(y) or not x.copies or x.kept is None:
            raise NotProved(f"tensor {output!r} does not stand for what its input stands for")
        if not same_operation(node.op, before.op, x.kept):
            raise NotProved(f"tensor {output!r} is computed with other parameters")
        d = self.deviation[source]
        if not d.sign.any():
            return d
        if isinstance(node.op, Scale | BatchNorm):
            form: ScaleForm = self.forms.scale(node.op, self.small.size(output))
            return d * (abs(form.factor) + form.factor_radius)
        slope = lipschitz(node.op) if isinstance(node.op, Monotone) else None
        if slope is None:
            raise NotProved(f"tensor {output!r}: how {kind_of(node.op)} magnifies a difference is not known")
        return d * Exact.of(np.array(slope))

    def _add(self, node: Node, before: Node) -> Exact:
        (output,), (first, second) = node.outputs, node.inputs
        y = self.images[output]
        parts = [self.images[name] for name in node.inputs]
        names = tuple(part.of for part in parts)
        if names not in (before.inputs, before.inputs[::-1]) or not all(part.same(y) for part in parts):
            raise NotProved(f"tensor {output!r} is a sum of others than in the original")
        if (y.affine | y.turned).any():
            raise NotProved(f"tensor {output!r} is a sum of combinations, which is not supported")
        return self.deviation[first] + self.deviation[second]

    def _select(self, node: Node, before: Node) -> Exact:
        (output,) = node.outputs
        y = self.images[output]
        if (
            not isinstance(node.op, Select)
            or not isinstance(before.op, Select)
            or y.kept is None
            or (y.affine | y.turned).any()
        ):
            raise NotProved(f"tensor {output!r} does not stand for coordinates of the original's")
        tensor, place, factor, d = self._coordinates(node)
        sources = [(name, self.original.size(name)) for name in before.inputs]
        old_tensor = np.array([name for name, size in sources for _ in range(size)], dtype=object)
        old_place = np.concatenate([np.arange(size) for _, size in sources])
        wanted, moved = before.op.indices[y.kept], node.op.indices
        same = (tensor[moved] == old_tensor[wanted]) & (place[moved] == old_place[wanted])
        if not same.all() or (factor[moved] - y.factor).sign.any():
            raise NotProved(f"tensor {output!r} moves other coordinates than the original")
        return d[moved]

    def _softmax(self, node: Node, before: Node) -> Exact:
        (source,), (output,) = node.inputs, node.outputs
        identity = all(self.images[name].copies and self._whole(name) for name in (source, output))
        if not identity or not self._read_same(node, before) or node.op != before.op:
            raise NotProved(f"tensor {output!r}: a softmax reads other tensors than in the original")
        # The slopes of one output in the directions of all inputs add up to 2 p (1 - p), of its logarithm to 2 (1 - p).
        largest = Exact(
            np.array(max(self.deviation[source].mantissa, default=0), dtype=object), self.deviation[source].exponent
        )
        factor = Exact(np.array(2 if isinstance(node.op, Softmax) and node.op.log else 1, dtype=object), 0)
        half = Exact(np.array(1, dtype=object), 0 if isinstance(node.op, Softmax) and node.op.log else -1)
        ones = Exact.of(np.ones(self.small.size(output)))
        return ones * largest * factor * half

    def _whole(self, name: str) -> bool:
        image = self.images[name]
        same = self.small.shapes[name] == self.original.shapes[image.of]
        return same and image.kept is not None and np.array_equal(image.kept, np.arange(self.original.size(image.of)))

    # Dense layers and what has become constant

    def _constant(self, node: Node) -> Exact:
        """A constant in place of something that hardly varies."""
        (output,) = node.outputs
        y = self.images[output]
        if not isinstance(node.op, Constant) or y.kept is None or y.of not in self.backward.intervals:
            raise NotProved(f"tensor {output!r} stands for something of which nothing is known")
        value = Exact.of(node.op.value.reshape(-1))
        if y.copies:
            x = self.backward.intervals[y.of]
            low, high = x.low[0, y.kept], x.high[0, y.kept]
            d = (value - low).maximum(high - value)
            open_ = np.flatnonzero(~x.known[0, y.kept] | (d.sign != 0))
        else:
            d, open_ = Exact.zeros(value.shape), np.arange(len(y.kept))
        if not open_.size:
            return d
        if open_.size * max(self.original.size(y.of), self.original.size(y.over)) > MOST:
            if not y.copies or not self.backward.intervals[y.of].known[0, y.kept].all():
                raise NotProved(f"tensor {output!r}: its relation has too many coefficients")
            return d
        parts, shift = self._wanted(y, open_)
        coefficients = {name: -part for name, part in parts.items()}
        return d.replaced(open_, self._residual(output, coefficients, value[open_] - shift))

    def _dense(self, node: Node) -> Exact:
        """``|W'| d`` and the residual."""
        (source,), (output,) = node.inputs, node.outputs
        op, x, y = node.op, self.images[source], self.images[output]
        if not isinstance(op, Dense) or x.kept is None or y.kept is None or x.of not in self.backward.intervals:
            raise NotProved(f"tensor {output!r} is computed from something of which nothing is known")
        outputs, inputs = op.weight.shape
        if 0 in (outputs, inputs):
            raise NotProved(f"tensor {output!r} comes from a layer without inputs or outputs")
        form, positions = self.forms.dense(op), len(y.kept) // outputs
        largest = max(self.original.size(name) for name in (x.of, x.over, y.of, y.over))
        blocks = outputs * inputs * positions**2 if positions > 1 else 0
        if max(positions * max(outputs * positions, inputs) * largest, blocks) > MOST:
            raise NotProved(f"tensor {output!r}: its relation has too many coefficients")
        d = self.deviation[source].reshape(positions, inputs)
        carried = (d @ form.size).reshape(-1) if d.sign.any() else Exact.zeros((len(y.kept),))
        before = self.original.producer[y.of]
        simple = isinstance(before.op, Dense) and before.inputs == (x.of,) and x.copies and y.copies
        if simple and isinstance(before.op, Dense) and self._one_position(before.op, x, y, positions):
            coefficients, constant = self._difference(op, before.op, x.kept, y.kept)
            return carried + self._residual(output, {x.of: coefficients}, constant)
        rows = np.arange(len(y.kept))
        read, shift = self._wanted(x, np.arange(len(x.kept)))
        weight = _blocks(form.weight(np.arange(outputs)), positions)
        wanted, offset = self._wanted(y, rows)
        bias = Exact(np.tile(form.bias.mantissa, positions), form.bias.exponent)
        constant = bias + (weight * shift).sum(1) - offset
        total = Functional({name: weight @ Matrix.of(part) for name, part in read.items()}, constant, constant)
        for name, part in wanted.items():
            total.add(name, -part)
        return carried + self._residual(output, total.coefficients, constant)

    def _one_position(self, old: Dense, x: Image, y: Image, positions: int) -> bool:
        """Whether a dense layer reads one position in both networks, and each coordinate of it at most once."""
        outputs, inputs = old.weight.shape
        whole = positions == 1 and (self.original.size(x.of), self.original.size(y.of)) == (inputs, outputs)
        return whole and x.kept is not None and len(np.unique(x.kept)) == len(x.kept)

    def _difference(self, new: Dense, old: Dense, columns: Array, rows: Array) -> tuple[Exact, Exact]:
        """``W' R - R+ W`` and ``b' - R+ b`` for copies; entries that are equal bit by bit are 0 without arithmetic."""
        before, after = self.backward.forms.dense(old), self.forms.dense(new)
        constant = after.bias - before.bias[rows]
        if (new.alpha, old.alpha) != (1.0, 1.0):
            spread = np.full((len(rows), old.weight.shape[1]), 0, dtype=object)
            weight = after.weight(np.arange(len(rows)))
            spread[:, columns] = weight.mantissa
            return Exact(spread, weight.exponent) - before.weight(rows), constant
        first, second = np.zeros((len(rows), old.weight.shape[1])), old.weight[rows].astype(np.float64)
        first[:, columns] = new.weight
        differ = first != second
        return Exact.of(np.where(differ, first, 0.0)) - Exact.of(np.where(differ, second, 0.0)), constant

    def _wanted(self, image: Image, rows: Array) -> tuple[dict[str, Exact], Exact]:
        """Some rows of R, by tensor, and of r."""
        kept = image.kept
        if kept is None:
            raise NotProved(f"nothing is known of the shape of {image.of!r}")
        size = self.original.size(image.of)
        scaled = np.full((len(rows), size), 0, dtype=object)
        single = np.flatnonzero(kept[rows] >= 0)
        scaled[single, kept[rows[single]]] = image.factor.mantissa[rows[single]]
        matrix, shift = Exact(scaled, image.factor.exponent), Exact.zeros((len(rows),))
        found, several = Functional({image.of: matrix}, shift, shift), np.flatnonzero(kept[rows] < 0)
        if image.turned.any() and self._activated(image.of):  # relu(c z) = |c| relu(z) + c z for c < 0
            found = Functional({image.of: abs(matrix)}, shift, shift)
            found.add(self.original.producer[image.of].inputs[0], matrix.negative)
        if several.size:
            number = (np.cumsum(kept < 0) - 1)[rows[several]]
            shift = shift.replaced(several, image.shift[number])
            others = Exact.zeros((len(rows), self.original.size(image.over)))
            found.add(image.over, others.replaced(several, image.matrix[number]))
        return found.coefficients, shift

    def _residual(self, name: str, coefficients: dict[str, Exact], constant: Exact) -> Exact:
        """The largest absolute values of functionals of the original; rows that are plainly 0 cost nothing."""
        used = constant.sign != 0
        for part in coefficients.values():
            used |= part.sign.any(axis=1)
        rows = np.flatnonzero(used)
        result = Exact.zeros(constant.shape)
        if not rows.size:
            return result
        missing = [key for key in coefficients if key not in self.backward.intervals]
        if missing:
            raise NotProved(f"tensor {name!r} depends on {missing[0]!r}, of which nothing is known")
        functional = Functional(
            {k: A[rows] for k, A in coefficients.items()}, constant[rows], Exact.zeros((len(rows),))
        )
        largest, unbounded = self.backward.largest(functional)
        if unbounded.any():
            raise NotProved(
                f"tensor {name!r}, unit {rows[unbounded][0]}: its difference from the original is unbounded"
            )
        return result.replaced(rows, largest)


def _blocks(weight: Exact, positions: int) -> Exact:
    """The matrix of a dense layer on several positions at once."""
    if positions == 1:
        return weight
    outputs, inputs = weight.shape
    whole = np.full((positions, outputs, positions, inputs), 0, dtype=object)
    for place in range(positions):
        whole[place, :, place, :] = weight.mantissa
    return Exact(whole.reshape(positions * outputs, positions * inputs), weight.exponent)
