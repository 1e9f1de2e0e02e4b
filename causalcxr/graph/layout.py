"""The layout of the nodes and edges of a layered graph (after Sugiyama), in inches.

The rows are given. An edge that passes a row has a waypoint in it, with a place among the boxes;
edges bend only between rows, so that no edge crosses a box.
"""

import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

__all__ = ["Box", "Layout", "Point", "arrange"]

Node = Hashable  # a name, or the waypoint of an edge
Edge = tuple[str, str]
Point = tuple[float, float]

_GAP = {0: 0.24, 1: 0.16, 2: 0.13}  # between neighbours in a row, by the number of waypoints
_LIGHT = 0.2  # the weight of a faint edge in a crossing
_RESTARTS = 12
_SWEEPS = 12


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre, in inches; y grows upwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """The x of its left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """The y of its upper side."""
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y - self.height / 2


@dataclass(frozen=True)
class Layout:
    """The boxes by name, and the points of each edge at which it bends."""

    boxes: Mapping[str, Box]
    paths: Mapping[Edge, tuple[Point, ...]]


def arrange(
    layers: Mapping[str, int],
    edges: Iterable[Edge],
    widths: Mapping[str, float],
    *,
    faint: Iterable[Edge] = (),
    height: float = 0.5,
    step: float = 1.0,
) -> Layout:
    """Place boxes in rows and route edges between them, with few crossings.

    Args:
        layers: The row of each node, 0 at the top; edges lead downwards.
        edges: Parent and child.
        widths: The widths of the boxes, in inches.
        faint: Edges that may merge into one line if they lead to the same child.
        height: The height of the boxes.
        step: The distance between rows.
    """
    edges, faint = list(edges), set(faint)
    # An edge over several rows becomes a chain with a waypoint in each row between.
    chains = {edge: _chain(edge, layers, edge in faint) for edge in edges}
    # Links that edges share add up; the crossings of faint edges cost little.
    links: dict[tuple[Node, Node], float] = {}
    for edge, chain in chains.items():
        for link in pairwise(chain):
            links[link] = _LIGHT if edge in faint else links.get(link, 0.0) + 1.0
    depth = {node: row for chain in chains.values() for row, node in _numbered(chain, layers)}
    depth |= dict(layers)
    # Choose the order in each row, then the places; the last row is at y = 0.
    rows = _ordered(depth, links)
    x = _placed(rows, links, widths)
    lowest = max(depth.values())
    y = {node: (lowest - row) * step for node, row in depth.items()}
    boxes = {name: Box(x[name], y[name], widths[name], height) for name in layers}
    return Layout(boxes, _paths(chains, boxes, x, y, height))


def _chain(edge: Edge, layers: Mapping[str, int], shared: bool) -> list[Node]:
    parent, child = edge
    owner = None if shared else parent
    between = range(layers[parent] + 1, layers[child])
    return [parent, *((owner, child, row) for row in between), child]


def _numbered(chain: Sequence[Node], layers: Mapping[str, int]) -> Iterable[tuple[int, Node]]:
    return enumerate(chain, start=layers[chain[0]])


# The order in each row


def _ordered(depth: Mapping[Node, int], links: Mapping[tuple[Node, Node], float]) -> list[list]:
    """Order each row by the mean place of neighbours, from several starts; keep the best."""
    rows: list[list[Node]] = [[] for _ in range(max(depth.values()) + 1)]
    for node, row in depth.items():
        rows[row].append(node)
    near = _neighbours(links)
    # A fixed seed, so that a graph is always drawn in the same way.
    shuffle = random.Random(0).shuffle
    # The first start keeps the given order; the others are shuffled.
    best, best_cost = rows, _cost(rows, links)
    for restart in range(_RESTARTS if len(depth) < 120 else 1):
        trial = [list(row) for row in rows]
        if restart:
            for row in trial:
                shuffle(row)
        for sweep in range(_SWEEPS):
            _sweep(trial, near, downwards=sweep % 2 == 0)
            cost = _cost(trial, links)
            if cost < best_cost:
                best, best_cost = [list(row) for row in trial], cost
    # Counting crossings for each exchange takes too long for large graphs.
    return _swapped(best, links) if len(depth) < 120 else best


def _neighbours(links: Mapping[tuple[Node, Node], float]) -> dict[Node, list[tuple[Node, float]]]:
    near: dict[Node, list[tuple[Node, float]]] = {}
    for (upper, lower), weight in links.items():
        near.setdefault(upper, []).append((lower, weight))
        near.setdefault(lower, []).append((upper, weight))
    return near


def _sweep(rows: list[list[Node]], near: Mapping, downwards: bool) -> None:
    order = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
    for row in order:
        fixed = rows[row - 1] if downwards else rows[row + 1]
        # Places are shares of a row, so that rows of different lengths compare.
        place = {node: (at + 0.5) / len(fixed) for at, node in enumerate(fixed)}
        own = {node: (at + 0.5) / len(rows[row]) for at, node in enumerate(rows[row])}

        def mean(node: Node, place: dict = place, own: dict = own) -> float:
            neighbours = [(place[other], w) for other, w in near.get(node, ()) if other in place]
            weight = sum(w for _, w in neighbours)
            return sum(at * w for at, w in neighbours) / weight if neighbours else own[node]

        rows[row].sort(key=mean)


def _cost(rows: Sequence[Sequence[Node]], links: Mapping[tuple[Node, Node], float]) -> float:
    place = {node: at for row in rows for at, node in enumerate(row)}
    depth = {node: number for number, row in enumerate(rows) for node in row}
    gaps: list[list[tuple[int, int, float]]] = [[] for _ in rows]
    for (upper, lower), weight in links.items():
        gaps[depth[upper]].append((place[upper], place[lower], weight))
    # Two links cross if their upper and lower ends are in opposite orders.
    return sum(
        first[2] * second[2]
        for gap in gaps
        for first, second in combinations(gap, 2)
        if (first[0] - second[0]) * (first[1] - second[1]) < 0
    )


def _swapped(rows: list[list[Node]], links: Mapping[tuple[Node, Node], float]) -> list[list]:
    """Exchange neighbours while this removes a crossing."""
    cost, better = _cost(rows, links), True
    while better:
        better = False
        for row in rows:
            for at in range(len(row) - 1):
                row[at], row[at + 1] = row[at + 1], row[at]
                trial = _cost(rows, links)
                # The margin keeps rounding errors from exchanging the same nodes for ever.
                if trial < cost - 1e-9:
                    cost, better = trial, True
                else:
                    row[at], row[at + 1] = row[at + 1], row[at]
    return rows


# The place in each row


def _placed(
    rows: Sequence[Sequence[Node]],
    links: Mapping[tuple[Node, Node], float],
    widths: Mapping[str, float],
) -> dict[Node, float]:
    """Move each node below the mean of its neighbours, as near as the boxes allow."""
    # Start with centred rows, as close together as the boxes allow.
    x: dict[Node, float] = {}
    seps = [[_separation(*pair, widths) for pair in pairwise(row)] for row in rows]
    for row, sep in zip(rows, seps, strict=True):
        at = -sum(sep) / 2
        for node, space in zip(row, [*sep, 0.0], strict=True):
            x[node], at = at, at + space
    near = {
        node: [(other, weight * _stiffness(node, other)) for other, weight in neighbours]
        for node, neighbours in _neighbours(links).items()
    }
    # Sweep down and up in turn.
    for sweep in range(60):
        order = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for row in order:
            wanted, weights = [], []
            for node in rows[row]:
                total = sum(weight for _, weight in near.get(node, ()))
                pull = sum(x[other] * weight for other, weight in near.get(node, ()))
                # A small weight on the present place holds a node that has no neighbours.
                wanted.append((pull + 0.05 * x[node]) / (total + 0.05))
                weights.append(total + 0.05)
            for node, at in zip(rows[row], _spread(wanted, weights, seps[row]), strict=True):
                x[node] = at
    return x


def _stiffness(node: Node, other: Node) -> float:
    """Return the weight of a link; it is large between waypoints, to straighten long edges."""
    return {0: 1.0, 1: 1.5, 2: 12.0}[isinstance(node, tuple) + isinstance(other, tuple)]


def _separation(left: Node, right: Node, widths: Mapping[str, float]) -> float:
    waypoints = isinstance(left, tuple) + isinstance(right, tuple)
    half = (widths.get(left, 0.0) + widths.get(right, 0.0)) / 2
    return half + _GAP[waypoints]


def _spread(
    wanted: Sequence[float], weights: Sequence[float], separations: Sequence[float]
) -> list[float]:
    """Return the nearest places (least squares) that keep the order and the separations.

    After subtracting the separations, places must not decrease: pooling neighbours that do is
    the exact solution (isotonic regression).
    """
    # Subtract the separations.
    offsets = [0.0]
    for separation in separations:
        offsets.append(offsets[-1] + separation)
    # Pool places that decrease: each pool has the weighted mean of its members.
    pools: list[tuple[float, float, int]] = []  # mean, weight, number
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        pool = (place - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, count = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


# The path of each edge


def _paths(
    chains: Mapping[Edge, Sequence[Node]],
    boxes: Mapping[str, Box],
    x: Mapping[Node, float],
    y: Mapping[Node, float],
    height: float,
) -> dict[Edge, tuple[Point, ...]]:
    starts = _ports({(chain[0], chain[1]) for chain in chains.values()}, boxes, x, of_parent=True)
    ends = _ports({(chain[-2], chain[-1]) for chain in chains.values()}, boxes, x, of_parent=False)
    paths = {}
    for edge, chain in chains.items():
        parent, child = boxes[edge[0]], boxes[edge[1]]
        points = [(starts[chain[0], chain[1]], parent.bottom)]
        # Vertical beside the boxes of every row that the edge passes.
        for node in chain[1:-1]:
            points += [(x[node], y[node] + height / 2), (x[node], y[node] - height / 2)]
        points.append((ends[chain[-2], chain[-1]], child.top))
        paths[edge] = tuple(points)
    return paths


def _ports(
    links: Iterable[tuple[Node, Node]],
    boxes: Mapping[str, Box],
    x: Mapping[Node, float],
    of_parent: bool,
) -> dict[tuple[Node, Node], float]:
    """Spread the ends of edges along a side of a box, in the order of their other ends."""
    mine, other = (0, 1) if of_parent else (1, 0)
    fans: dict[Node, list[tuple[Node, Node]]] = {}
    for link in links:
        fans.setdefault(link[mine], []).append(link)
    ports = {}
    for node, fan in fans.items():
        # The text settles ties, so that the drawing is always the same.
        fan.sort(key=lambda link: (x[link[other]], str(link[other])))
        box = boxes[node]
        # At most 70 % of the side, however many edges end there.
        space = min(0.15, 0.7 * box.width / max(len(fan) - 1, 1))
        for at, link in enumerate(fan):
            ports[link] = box.x + (at - (len(fan) - 1) / 2) * space
    return ports
