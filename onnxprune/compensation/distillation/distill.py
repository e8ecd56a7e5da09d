"""All layers of a pruned model tuned together, to the values of the original on unlabelled samples.

Least squares (see `compensate`) fits one layer after the other; what two layers could do together
it cannot find. Here the pruned model is the student of the original (Hinton et al., 2015): the loss
is the Kullback-Leibler divergence of its class scores plus its squared error at many tensors inside
(Romero et al., FitNets, 2015), on samples, on `views` of them and on `mixtures`, whose targets the
original gives as well. How long is up to `schedule`, steps are those of `tuning`. Samples that
neither least squares nor any step has seen decide whether the result is taken; on samples that
least squares has seen its error is smaller than on others, and what generalises better would be
refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import divergence, relative_error
from onnxprune.calibration.incremental_run import opened
from onnxprune.compensation import query_key
from onnxprune.compensation.distillation.augmentation import augmented, natural_augmentations
from onnxprune.compensation.distillation.backward import TARGET, Differentiated, differentiated
from onnxprune.compensation.distillation.losses import inside, relative, scores_of, seeds
from onnxprune.compensation.distillation.mixup import mixup
from onnxprune.compensation.distillation.optimizer import parts_of
from onnxprune.compensation.distillation.schedule import BATCH, Schedule
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import runtime, skeleton
from onnxprune.types import Plan

__all__ = ["Distilled", "distilled"]

#: Samples of the statistics that scale a step, and those that views are tried on.
SEEN, ASKED = 256, 128
#: Mixtures of the samples held back that judge as well, for each of them.
DRAWS = 5
#: Shares by which the layers' results change in the first steps, all layers together, since changes
#: add up along the depth: per root of the relative error inside, for what is nearly right must not
#: move far. It falls to zero along a cosine, and fewer than `LONG` steps are shorter by the root of
#: their number: long ones cannot be made good again.
RATE, LONG = 0.16, 512
#: How much values inside count against the outputs.
INSIDE = 30.0
#: Share of steps that see mixtures.
MIXED = 0.5

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Masks = Mapping[str, NDArray[np.bool_]]


class Distilled(NamedTuple):
    """New content of stored tensors, rounds, and the divergence on held-back samples."""

    patches: dict[str, Array]
    epochs: int
    before: float
    after: float

    @property
    def told(self) -> str:
        """What the report says."""
        if not self.epochs:
            return f"not distilled: divergence from the original {self.before:.4g} is next to none"
        return (
            f"distilled for {self.epochs} rounds: divergence from the original "
            f"{self.before:.4g} → {self.after:.4g} on samples held back"
            f"{'' if self.patches else ', so the layers stay as they were'}"
        )


def distilled(
    teacher: Analysis,
    student: Analysis,
    plan: Plan | Masks,
    schedule: Schedule,
    progress: Callable[[float], None] = lambda share: None,
) -> Distilled | None:
    """Tune every layer of the student that gradients reach.

    Args:
        teacher: the original.
        student: the pruned model, whose layers have biases; tensors have the original's names.
        plan: what the student still has of the teacher's axes; or of its weights, whose zeros stay
            and which may take more work.
        schedule: what to learn from, and how often.
        progress: is told the share done.

    Returns:
        None where no gradient gets through or nothing was held back; no `patches` where held-back
        samples do not gain.
    """
    masks = {} if isinstance(plan, Plan) else plan
    plan = plan if isinstance(plan, Plan) else Plan({}, {})
    subgraphs, held = (list(_pieces(batches)) for batches in (schedule.fit, schedule.held))
    if not held:
        return None
    school = _School(teacher, student, plan, subgraphs[0])
    if school.backward is None:
        return None
    for part in school.parts:
        part.masked(masks.get(part.names[0]))
    exam = _Exam(school, held)
    lost = exam.divergence({})
    if lost < schedule.enough:
        return Distilled({}, 0, lost, lost)
    weights = school.taught(subgraphs, schedule.rounds, progress)
    after = exam.divergence(weights)
    return Distilled(weights if after < lost else {}, schedule.rounds, lost, after)


def _rows(feeds: Feeds) -> int:
    return max((len(v) if v.ndim else 1 for v in feeds.values()), default=1)


def _pieces(batches: Sequence[Feeds]) -> Iterator[Feeds]:
    """Batches cut to steps."""
    for feeds in batches:
        count = _rows(feeds)
        whole = all(v.ndim and len(v) == count for v in feeds.values())
        for at in range(0, count, BATCH) if whole and count > BATCH else [0]:
            yield {k: v[at : at + BATCH] if whole else v for k, v in feeds.items()}


def _changed(teacher: Analysis, plan: Plan) -> set[str]:
    """Tensors whose positions mean something else in the student."""
    pairs = query_key.pairs_of(teacher, teacher.layers)
    mixed = {side.result for pair in pairs.values() for side in pair.sides}
    return {axis.tensor for axis in plan.nominal} | mixed


class _School:
    """The two models opened, and what of them is compared."""

    def __init__(self, teacher: Analysis, student: Analysis, plan: Plan, sample: Feeds) -> None:
        self.student, self.keep = student, plan.keep
        bare, own = skeleton.skeleton(teacher.model), skeleton.skeleton(student.model)
        self.own = own
        flow = {name for node in own.graph.node for name in node.output}
        self.parts = [part for part in parts_of(student) if part.layer.node.outputs[0].name in flow]
        self.fed = sorted({name for part in self.parts for name in part.names})
        self.outputs = [v.name for v in own.graph.output if v.name in flow]
        scores = scores_of(student, self.outputs)
        made = {name for node in bare.graph.node for name in node.output}
        ends = {*self.outputs, *scores.values()}
        apart = _changed(teacher, plan) | ends
        within = [n for n in inside(student) if n in flow and n in made and n not in apart]
        gives = sorted({*ends, *within})
        nodes = list(bare.graph.node)
        self.teacher, self.asks = opened(bare, nodes, sample, teacher.read, (gives, ()))
        values = self.taught_by(sample)
        self.seeds = {
            **{name: relative(values[name], INSIDE / len(within)) for name in within},
            **seeds(self.outputs, scores, values),
        }
        self.whole, self.needs = opened(
            own, list(own.graph.node), sample, student.read, (self.outputs, self.fed)
        )
        self.backward = self._differentiated()
        if self.backward is not None:
            gives_of = self.backward.gives
            self.parts = [p for p in self.parts if all(name in gives_of for name in p.names)]

    def _differentiated(self) -> Differentiated | None:
        kinds = {part.like.dtype for part in self.parts}
        if len(kinds) != 1:
            return None
        return differentiated(self.student, self.fed, self.seeds, kinds.pop())

    def taught_by(self, feeds: Feeds) -> dict[str, Array]:
        """What the teacher gives, in the positions that the student still has."""
        values = runtime.run(self.teacher, {name: feeds[name] for name in self.asks})
        for axis, at in self.keep.items():
            if axis.tensor in values:
                values[axis.tensor] = np.take(values[axis.tensor], at, axis.axis)
        return values

    def taught(
        self, subgraphs: Sequence[Feeds], epochs: int, progress: Callable[[float], None]
    ) -> dict[str, Array]:
        """Weights tuned on `subgraphs`."""
        rng = np.random.default_rng(0)
        self._look(subgraphs, rng)
        self.views = natural_augmentations(subgraphs[: -(-ASKED // BATCH)], self.answers)
        weights: dict[str, Array] = {}
        for part in self.parts:
            weights |= part.stored()
        rest = {n: self.stored(n) for n in self.fed if n not in weights}
        assert self.backward is not None
        steps, at = epochs * len(subgraphs), 0
        rate = RATE * math.sqrt(min(self.error, 1.0) * min(steps / LONG, 1.0)) / len(self.parts)
        for _ in range(epochs):
            for k in rng.permutation(len(subgraphs)).tolist():
                feeds = self._mixed(subgraphs[k], rng)
                targets = {TARGET + name: v for name, v in self.taught_by(feeds).items()}
                grads = self.backward.run({**feeds, **targets, **rest, **weights})
                share = rate * (1 + math.cos(math.pi * at / steps)) / 2
                for part in self.parts:
                    name, bias = part.names
                    weights |= part.step(grads[name], grads[bias], share)
                at += 1
                progress(at / steps)
        return weights

    def stored(self, name: str) -> Array:
        """A weight as least squares left it."""
        stored = self.student.read(name)
        assert stored is not None
        return stored

    def _look(self, subgraphs: Sequence[Feeds], rng: np.random.Generator) -> None:
        """Second moments of what every layer reads, and how far what is compared is off."""
        wanted = {t for p in self.parts for t in (p.layer.data.name, p.layer.node.outputs[0].name)}
        ends = (sorted((wanted | self.seeds.keys()) - subgraphs[0].keys()), ())
        nodes = list(self.own.graph.node)
        session, needs = opened(self.own, nodes, subgraphs[0], self.student.read, ends)
        rows: dict[str, list[Array]] = {part.names[0]: [] for part in self.parts}
        seen, errors = 0, list[float]()
        for feeds in subgraphs:
            values = {**feeds, **runtime.run(session, {k: feeds[k] for k in needs})}
            for part in self.parts:
                layer, shape = part.layer, values[part.layer.node.outputs[0].name].shape
                places = layer.places(shape, rng)
                x = values[layer.data.name]
                rows[part.names[0]].append(layer.inputs(x, shape, places, part.like.shape))
            goal = self.taught_by(feeds)
            errors += [relative_error(goal[name], values[name]) for name in self.seeds]
            seen += _rows(feeds)
            if seen >= SEEN:
                break
        self.error = float(np.mean(errors))
        for part in self.parts:
            part.see(np.concatenate(rows.pop(part.names[0])))

    def _mixed(self, feeds: Feeds, rng: np.random.Generator) -> Feeds:
        seen = augmented(feeds, self.views, rng)
        return mixup(seen, _rows(seen), rng) if rng.random() < MIXED else seen

    def answers(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs alone that the teacher gives."""
        values = self.taught_by(feeds)
        return {name: values[name] for name in self.outputs}


class _Exam:
    """Samples that nothing was fitted to, and mixtures of them."""

    def __init__(self, school: _School, held: Sequence[Feeds]) -> None:
        rng = np.random.default_rng(1)
        self.school = school
        every = [*held, *(mixup(f, _rows(f), rng) for f in held for _ in range(DRAWS))]
        self.held = [(feeds, school.answers(feeds)) for feeds in every]

    def divergence(self, weights: Feeds) -> float:
        """Of the student with some new weights from what the teacher gives."""
        school = self.school
        fed = {name: weights.get(name, school.stored(name)) for name in school.fed}
        total, rows = 0.0, 0
        for feeds, right in self.held:
            got = runtime.run(school.whole, {**{k: feeds[k] for k in school.needs}, **fed})
            total += _rows(feeds) * divergence(right, got)
            rows += _rows(feeds)
        return total / max(rows, 1)
