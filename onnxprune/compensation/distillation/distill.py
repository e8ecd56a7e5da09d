"""Tune all layers of a pruned model together to the original's values on unlabelled samples.

Least squares (see `reconstruct`) fits one layer after the other, and cannot find what two layers
could do together. Here the pruned model is the student of the original (Hinton et al., Distilling
the knowledge in a neural network, 2015): the loss is the Kullback-Leibler divergence of its class
scores plus its squared error at many tensors inside (Romero et al., FitNets, 2015), on samples, on
augmentations and on mixtures of them, whose targets the original gives as well. Samples that
neither least squares nor any step has seen decide whether the result is taken: on those that least
squares has seen the error before is smaller than on others, and weights that generalise better
would be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from onnxprune.compensation.distillation.held_out import held_out, mean_divergence
from onnxprune.compensation.distillation.models import OpenModels, Student, open_models
from onnxprune.compensation.distillation.schedule import Schedule
from onnxprune.compensation.distillation.training import step_batches, train
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.reach import Part

__all__ = ["Distilled", "Student", "distill"]


class Distilled(NamedTuple):
    """What tuning gave.

    Attributes:
        patches: new content of stored tensors; none where held-out samples did not gain.
        rounds: over the samples.
        before: divergence from the original on held-out samples, before.
        after: the same of the tuned weights.
        reached: the parameters that gradients reach.
        told: what there is to say of the samples.
    """

    patches: dict[str, NDArray[Any]]
    rounds: int
    before: float
    after: float
    reached: Part
    told: str = ""

    @property
    def note(self) -> str:
        """What the report says."""
        if not self.rounds:
            return f"not distilled: divergence from the original {self.before:.4g} is next to none"
        return (
            f"distilled for {self.rounds} rounds{self.told}: divergence from the original "
            f"{self.before:.4g} → {self.after:.4g} on samples held back"
            f"{'' if self.patches else ', so the layers stay as they were'}"
        )


def distill(
    teacher: Analysis,
    student: Student,
    schedule: Schedule,
    progress: Callable[[float], None] = lambda share: None,
) -> Distilled | None:
    """Tune every layer of the student that gradients reach.

    Args:
        teacher: the original.
        student: the pruned or sparse model.
        schedule: what to tune on, and how long.
        progress: called with the share done.

    Returns:
        None where no gradient reaches a weight, or no sample is held out.
    """
    batches, held = (
        list(step_batches(part, schedule.tuning.batch)) for part in (schedule.fit, schedule.held)
    )
    if not held:
        return None
    models = open_models(teacher, student, batches[0], schedule.device, schedule.tuning)
    if models is None:
        return None
    judges = held_out(models, held)
    before = mean_divergence(models, judges, {})
    if before < schedule.near:
        return Distilled({}, 0, before, before, _reached(models))
    weights = train(models, batches, schedule, progress)
    after = mean_divergence(models, judges, weights)
    taken = weights if after < before else {}
    return Distilled(taken, schedule.rounds, before, after, _reached(models), schedule.told)


def _reached(models: OpenModels) -> Part:
    """Count the parameters that are tuned."""
    sizes = models.student.analysis.parameters
    tuned = {name for layer in models.layers for name in layer.names}
    other = "it is no weight or bias that a layer has for itself"
    left = {name: models.left.get(name, other) for name in sizes if name not in tuned}
    return Part(sum(sizes.values()), sum(sizes[name] for name in tuned), left)
