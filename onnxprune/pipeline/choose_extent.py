"""Choose how much of an input a model looks at, together with the widths of its groups.

Every extent leaves another rest to be pruned. What that is expected to lose is known from
sensitivities, measured once at full extent; what an extent loses is measured with no weight
touched. The few of which most is expected are cut, refitted and tuned for a while, and judged on
samples that nothing was fitted to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency import search
from onnxprune.allocation.problem import predicted_error
from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.agreement import agreement
from onnxprune.calibration.samples import Calibration, calibration, hold_out
from onnxprune.compensation.teacher import own_teacher
from onnxprune.errors import InputError, ProofError, TargetError, one_line
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.cost import METRICS
from onnxprune.ir import graph, runtime
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.prune_calibrated import Measured, distilled, measured_groups, refitted
from onnxprune.progress import between
from onnxprune.settings import AUTO, Settings
from onnxprune.spatial.extent import Extent
from onnxprune.spatial.levels import levels
from onnxprune.spatial.space import Space, any_size, find_space
from onnxprune.spatial.view import seeing_less, view
from onnxprune.surgery.cut import Stage, running
from onnxprune.surgery.prove_cut import Original
from onnxprune.types import Floats, Group, Ints

__all__ = ["Chosen", "choose_extent"]

#: One sample in so many is held back from refits, to judge by.
HELD = 4
#: Extents that are refitted at most.
FINALISTS = 4
#: Multiply-accumulates up to which all samples are run for all extents, else those held back.
MOST_MACS = 4e12
#: Share by which a model is to be faster than asked for, as two timings differ.
NOISE = 0.01
#: Candidates are tuned for one round in so many of those that the result is tuned for.
PARTS = 4
#: What a cut model agrees less in the end, as a logarithm, in shares of the divergence that its
#: groups' cuts are expected to cost: refitted alone, tuned too, and less than was ever seen
#: (decision 32).
REFITTED, TUNED, AT_BEST = 0.5, 0.2, 0.1
#: What takes less than this share of a budget with no group cut gives more away than was asked.
LEAST = 0.8
#: Samples above which refits take every second one: they only decide what is refitted in earnest.
ENOUGH = 512

Array = NDArray[Any]
Outputs = Mapping[str, Array]


class Chosen(NamedTuple):
    """What a model is to look at of its input, None for all of it, its stage, and what to say."""

    extent: Extent | None = None
    stage: Stage | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """An extent, with the widths that are left to it.

    Its model is made again where it is needed: each holds all weights.

    Attributes:
        extent: what is looked at, None: all of the input.
        widths: (n_groups,) at which the budgets hold.
        lost: divergence that the widths are expected to cost.
        agreement: of the model with the original before any group is cut, on all samples that may
            be looked at: nothing is fitted to them yet.
    """

    extent: Extent | None
    widths: Ints
    lost: float
    agreement: float


#: A candidate with its model and the stage that made it, None where all of the input is looked at.
Finalist: TypeAlias = tuple[Candidate, Measured, Stage | None]


def choose_extent(analysis: Analysis, wanted: Mapping[str, float], options: Settings) -> Chosen:
    """Choose what a model is to look at of its input, and make that model.

    Args:
        analysis: the original.
        wanted: largest value per metric; for latency the share of what the model takes.
        options: how.

    Raises:
        InputError: there is no target or sample to choose by, or the model's outputs keep space.
        TargetError: the budgets are out of reach.
    """
    _check(wanted, options)
    space = _usable(find_space(analysis, any_size(analysis)))
    data = calibration(options.calib, analysis.original, options, analysis.nodes)
    fit, held = hold_out(data, HELD)
    if not held.samples:
        return Chosen(notes=(f"fewer than {HELD} samples leave none to judge extents by",))
    fit = hold_out(fit, 2)[1] if fit.samples > ENOUGH else fit
    base = analysis if analysis.biases else analyze(analysis.original, options, biases=True)
    measured = measured_groups(base, data, options)
    extents = levels(space)
    work = len(extents) * data.samples * float(base.cost.full[METRICS.index("macs")])
    judge = _Judge(held, analysis.original)
    wide = judge if work > MOST_MACS else _Judge(data, analysis.original)
    tried = list(_candidates(measured, [None, *extents], wide, wanted, options))
    found = [one for one in tried if isinstance(one, Candidate)]
    refused = [one for one in tried if isinstance(one, str)]
    if not found:
        raise TargetError("no extent of the input and no widths are within the target")
    if all(one.extent is None for one in found) and refused:
        return Chosen(notes=(f"all of input '{space.input}' is looked at: {refused[0]}",))
    ranked = _ranked(found, TUNED if options.distill else REFITTED)
    with running(analysis, options) as original:
        finalists = islice(_proved(measured, ranked, original, options), FINALISTS)
        best, stage = _best(finalists, fit, judge, options)
    why = (
        f"of {len(found)} extents, the best of which were judged on {held.samples} samples held "
        "back, it agrees most with the original"
    )
    if best is None or stage is None:
        return Chosen(notes=(f"all of input '{space.input}' is looked at: {why}",))
    return Chosen(best, replace(stage, told=f"{stage.told}; {why}"))


def _best(
    finalists: Iterator[Finalist], fit: Calibration, judge: _Judge, options: Settings
) -> tuple[Extent | None, Stage | None]:
    """What the finalist looks at that agrees most in the end, and its stage; None: all of it."""
    told = between(options.progress, "looking at less", 0.1, 0.2)
    best, stage, top = None, None, -np.inf
    for number, (candidate, own, made) in enumerate(finalists):
        told(number / FINALISTS)
        if _expected(candidate, AT_BEST) <= top:
            continue
        score = _score(candidate, own, fit, judge, options)
        if score > top:
            best, stage, top = candidate.extent, made, score
    return best, stage


def _check(wanted: Mapping[str, float], options: Settings) -> None:
    """Refuse settings by which no extent can be chosen."""
    if options.calib is None or not options.compensate:
        raise InputError(
            "spatial measures what is missed: give calib, and leave compensate as it is"
        )
    if not {"macs", "latency"} & wanted.keys():
        raise InputError(
            "spatial saves work, and neither parameters nor bytes: give a target such as macs=0.5"
        )


def _usable(spaces: Sequence[Space]) -> Space:
    """The input that can be looked at less.

    Raises:
        InputError: there is none.
    """
    for space in spaces:
        if space.axes:
            return space
    reasons = [why for space in spaces for why in space.why.values()]
    why = reasons[0] if reasons else "no input of real numbers has an axis of space or time"
    raise InputError(f"spatial: {why}. Leave it out.")


class _Judge:
    """Samples that nothing is fitted to, and what the original gives for them."""

    def __init__(self, held: Calibration, original: ModelProto) -> None:
        self._held = held
        self._original = self._outputs(original)

    def agreement(self, model: ModelProto) -> Floats:
        """(n_samples,) how far a model says the same as the original.

        Raises:
            InputError: it does not run, or gives outputs of other shapes.
        """
        each = []
        outputs = zip(self._original, self._outputs(model), self._held.sizes, strict=True)
        for before, after, size in outputs:
            for name, value in before.items():
                if np.shape(after[name]) != np.shape(value):
                    raise InputError(f"output '{name}' keeps space: leave spatial out")
            each.append(agreement(before, after, size))
        return np.concatenate(each)

    def _outputs(self, model: ModelProto) -> list[Outputs]:
        session = runtime.open_session(graph.model_bytes(model), self._held.place.device)
        return [runtime.run(session, dict(feeds)) for feeds in self._held.batches]


def _candidates(
    measured: Measured,
    extents: Sequence[Extent | None],
    judge: _Judge,
    wanted: Mapping[str, float],
    options: Settings,
) -> Iterator[Candidate | str]:
    """Extents at which the model runs, with widths within the budgets; why it does not at others.

    Of those that are within the budgets with no group cut, the smaller ones are left out.
    """
    quick = replace(options, round_to=1) if options.round_to == AUTO else options
    for extent in extents:
        try:
            own = measured
            if extent is not None:
                own = _at(measured, view(measured.analysis, extent).model, options)
            budgets = _budgets(wanted, own, _time_share(measured, own, wanted, options))
            if extent is not None and _used(own, budgets) < LEAST:
                continue
            widths = _widths(own, budgets, quick)
            lost = predicted_error(own.rows, widths)
            agreed = float(judge.agreement(own.analysis.original).mean())
            yield Candidate(extent, widths, lost, agreed)
        except InputError as error:
            yield one_line(error)
        except TargetError:
            continue


def _widths(own: Measured, budgets: Mapping[str, float], options: Settings) -> Ints:
    """(n_groups,) widths within counted budgets."""
    return widths_for(own.analysis, own.rows, budgets, options, own.unmeasured.keys())


def _at(measured: Measured, model: ModelProto, options: Settings) -> Measured:
    """Sensitivities at full extent, for a model that looks at less.

    Raises:
        InputError: its groups are others.
    """
    analysis = analyze(model, options, biases=True)
    old = measured.analysis.groups
    if [(g.name, g.channels, g.heads) for g in analysis.groups] != [
        (g.name, g.channels, g.heads) for g in old
    ]:
        raise InputError("its groups are others than those of the original: leave spatial out")
    pairs = zip(analysis.groups, old, strict=True)
    groups = [own if own.heads == 1 else _arranged(own, other) for own, other in pairs]
    return replace(measured, analysis=analysis.with_groups(groups))


def _arranged(own: Group, other: Group) -> Group:
    """A group whose heads have their channels in the order in which they were measured.

    Raises:
        InputError: it lies at other positions than in the original.
    """
    if [(s.axes, s.size) for s in own.sites] != [(s.axes, s.size) for s in other.sites]:
        raise InputError(
            f"group '{own.name}' lies at other positions than in the original: exclude it"
        )
    return other


def _time_share(
    measured: Measured, own: Measured, wanted: Mapping[str, float], options: Settings
) -> float:
    """The time that a model takes in shares of the original's, where that is asked for."""
    if "latency" not in wanted or own is measured:
        return 1.0
    first, other = measured.analysis.original, own.analysis.original
    return search.ratio(first, other, measured.analysis, options)


def _budgets(wanted: Mapping[str, float], own: Measured, share: float) -> dict[str, float]:
    """Budgets in numbers that are counted.

    Of what a model takes the time, `share` of the original's, is taken to go with multiplications.
    """
    budgets = {metric: limit for metric, limit in wanted.items() if metric != "latency"}
    if "latency" in wanted:
        limit = own.analysis.cost.full[METRICS.index("macs")] * wanted["latency"] / share
        limit *= 1 - NOISE
        budgets["macs"] = min(limit, budgets.get("macs", np.inf))
    return budgets


def _used(own: Measured, budgets: Mapping[str, float]) -> float:
    """The largest share of a budget that a model takes with no group cut."""
    full = own.analysis.cost.full
    return max(float(full[METRICS.index(name)] / limit) for name, limit in budgets.items())


def _expected(candidate: Candidate, share: float) -> float:
    """How far a candidate is expected to agree with the original in the end."""
    return candidate.agreement * float(np.exp(-share * candidate.lost))


def _ranked(found: Sequence[Candidate], share: float) -> list[Candidate]:
    """Candidates, the most promising ones first; `share` says what the loss of widths counts."""
    expected = [_expected(one, share) for one in found]
    return [found[k] for k in np.argsort(expected, kind="stable")[::-1].tolist()]


def _proved(
    measured: Measured, found: Sequence[Candidate], original: Original, options: Settings
) -> Iterator[Finalist]:
    """Those candidates whose models are proved, with these models and their stages."""
    for one in found:
        if one.extent is None:
            yield one, measured, None
            continue
        seen = view(measured.analysis, one.extent)
        try:
            stage = seeing_less(measured.analysis, seen, original)
        except (InputError, ProofError):
            continue
        yield one, _at(measured, seen.model, options), stage


def _score(
    candidate: Candidate, own: Measured, fit: Calibration, judge: _Judge, options: Settings
) -> float:
    """How far the model agrees with the original once it is cut, refitted and tuned for a while.

    What that changes is measured on the samples held back, and added to the agreement before, less
    its standard error: few samples tell little, and where no weight changes there is no doubt.
    """
    analysis = own.analysis
    pairs = zip(candidate.widths, analysis.groups, strict=True)
    if all(width == group.channels for width, group in pairs):
        return candidate.agreement
    quiet = replace(options, progress=lambda stage, share: None)
    teacher = own_teacher(analysis, fit)
    stage, schedule = refitted(own, candidate.widths, teacher, quiet)
    if schedule is not None:
        rounds = max(1, schedule.rounds // PARTS)
        stage = distilled(analysis, stage, schedule._replace(rounds=rounds), quiet)
    changed = judge.agreement(stage.model) - judge.agreement(analysis.original)
    doubt = changed.std(ddof=1) / np.sqrt(len(changed)) if len(changed) > 1 else 0.0
    return float(candidate.agreement + changed.mean() - doubt)
