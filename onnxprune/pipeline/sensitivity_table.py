"""Measure how much the outputs suffer from the width of each group, as a table of its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxprune.calibration.samples import Calibration, calibration, is_random
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.ranking import rank
from onnxprune.importance.sensitivity_cache import cached_sensitivities, sensitivities_key
from onnxprune.importance.units_channels import channel_arrays, measure_channels
from onnxprune.ir import save
from onnxprune.ir.blas import one_thread
from onnxprune.ir.load import Source
from onnxprune.pipeline.sample_run import analyze_sized, sized_by_samples
from onnxprune.progress import between
from onnxprune.report.plot import colors, drawn
from onnxprune.settings import Settings, SettingsChanges, settings_of

if TYPE_CHECKING:
    from typing_extensions import Unpack
from onnxprune.report.parts import Fact, Part, Table, plain

__all__ = ["SensitivityTable", "sensitivity_table"]

#: Groups that a plot names one by one.
NAMED = 12


@dataclass(frozen=True)
class SensitivityTable:
    """The sensitivity of each group, in the order of the graph, and what it was measured on."""

    sensitivities: tuple[Sensitivity, ...]
    data: Calibration
    notes: tuple[str, ...] = ()

    @property
    def curves(self) -> tuple[Sensitivity, ...]:
        """The sensitivities under their old name, which goes in version 0.2."""
        text = "SensitivityTable.curves is called sensitivities; the old name goes in version 0.2"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self.sensitivities

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `errors` holds the divergence at widths 0, 1, …."""
        data = self.data
        return {
            "calibration": {
                "source": data.source,
                "samples": data.samples,
                "digest": data.digest,
            },
            "groups": [
                {
                    "name": sensitivity.group.name,
                    "channels": sensitivity.group.channels,
                    "heads": sensitivity.group.heads,
                    "measured": [
                        {"width": width, "divergence": value}
                        for width, value in sorted(sensitivity.measured.items(), reverse=True)
                    ],
                    "errors": sensitivity.errors.tolist(),
                    "ranking": sensitivity.ranking.tolist(),
                }
                for sensitivity in self.sensitivities
            ],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The table for people: each cell is a width and the divergence measured there."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        cells = [_cells(sensitivity) for sensitivity in self.sensitivities]
        count = max(map(len, cells), default=0)
        rows = [["group", "channels", *["width: divergence"][:count], *[""] * (count - 1)]]
        for sensitivity, own in zip(self.sensitivities, cells, strict=True):
            row = [sensitivity.group.name, str(sensitivity.group.channels), *own]
            rows.append(row + [""] * (count - len(own)))
        data = self.data
        yield Table(rows)
        yield "divergence of the outputs when one group alone is cut to the width"
        yield f"calibrated on {data.samples} samples: {data.source}"
        yield from (Fact("note", note) for note in self.notes)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the sensitivities into an image file.

        Raises:
            InputError: matplotlib is missing, or the file cannot be written.
        """
        with drawn(path, (9, 5)) as axes:
            for sensitivity, color in zip(
                self.sensitivities, colors(len(self.sensitivities)), strict=True
            ):
                _draw(axes, sensitivity, color)
            axes.set_xlabel("channels kept")
            axes.set_ylabel("divergence of the outputs")
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
            if self.sensitivities:
                shown = f"from first (dark) to last (light), {len(self.sensitivities)} groups"
                axes.set_title(f"One group alone made narrower, {shown}", fontsize=10)
            if 0 < len(self.sensitivities) <= NAMED:
                axes.legend(fontsize=7)


def _cells(sensitivity: Sensitivity) -> list[str]:
    measured = sorted(sensitivity.measured.items(), reverse=True)
    return [
        f"{width}: {value:.2g}" for width, value in measured if width < sensitivity.group.channels
    ]


def _draw(axes: Any, sensitivity: Sensitivity, color: Any) -> None:
    """Draw a line through all widths, and a dot at each that was measured."""
    n = sensitivity.group.channels
    shares = [width / n for width in range(1, n)]  # at full width it is zero
    axes.plot(
        shares, sensitivity.errors[1:n].clip(1e-12), color=color, lw=1, label=sensitivity.group.name
    )
    dots = [(w / n, value) for w, value in sensitivity.measured.items() if w < n and value > 0]
    if dots:
        axes.plot(*zip(*dots, strict=True), ".", color=color, ms=4)


@one_thread()
def sensitivity_table(
    model: Source, settings: Settings | None = None, **changes: Unpack[SettingsChanges]
) -> SensitivityTable:
    """Measure every group of a model on calibration data, or take what the cache holds.

    Raises:
        InputError: the model, the calibration data or an option cannot be used.
    """
    options = settings_of(settings, changes)
    if options.calib is None:
        raise InputError(
            "sensitivities need calibration data: --calib samples.npz, or --calib random"
        )
    options.progress("reading", 0.0)
    proto = load(model)
    early = None if is_random(options.calib) else calibration(options.calib, proto, options)
    options.progress("tracing", 0.05)
    analysis, options = analyze_sized(proto, sized_by_samples(options, proto, early))
    data = calibration(early or options.calib, proto, options, analysis.nodes)
    analysis, scores = rank(analysis, options.criterion, options.seed)
    progress = between(options.progress, "measuring", 0.1, 1.0)

    def measured() -> list[Sensitivity]:
        arrays = channel_arrays(analysis, scores, data)
        return measure_channels(analysis, arrays, data, options, progress)

    def key() -> str:
        return sensitivities_key(save.digest(model, proto), data.digest, analysis.groups, options)

    sensitivities, notes = cached_sensitivities(options.cache, key, analysis.groups, measured)
    return SensitivityTable(tuple(sensitivities), data, (*data.notes, *notes))
