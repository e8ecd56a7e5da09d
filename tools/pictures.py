"""Draw the pictures of the documentation into docs/pictures.

    python tools/pictures.py

They are sketches: no number in them is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from picture_parts import arrow, box, cells, lines, path, picture, text

FOLDER = Path(__file__).resolve().parent.parent / "docs/pictures"
#: Two of five channels go.
CUT = ("kept", "gone", "kept", "kept", "gone")
ZEROED = ("kept", "zero", "kept", "kept", "zero")
KEPT = ("kept", "kept", "kept")


def overview() -> str:
    """From a model to a smaller one, in seven steps."""
    steps = (
        ("1 analyse", "what must go", "together"),
        ("2 measure", "what a group's", "width costs"),
        ("3 allocate", "a width for", "every group"),
        ("4 compensate", "refit readers", "of a cut"),
        ("5 cut, prove", "equal in", "onnxruntime"),
        ("6 distill", "tune all layers", "together"),
        ("7 compare", "time, size,", "accuracy"),
    )
    parts = [
        box((20, 24), (150, 64), ("model.onnx", "as exported")),
        box((190, 24), (180, 64), ("samples", "few hundred, no labels")),
        arrow((95, 88), (95, 118)),
        arrow((280, 88), (280, 118)),
    ]
    for k, words in enumerate(steps):
        x = 20 + 134 * k
        parts.append(box((x, 120), (118, 84), words, "mark" if words[0][0] in "35" else "box"))
        if k:
            parts.append(arrow((x - 16, 162), (x - 2, 162)))
    parts += [
        arrow((883, 204), (883, 236)),
        box((806, 238), (136, 64), ("small.onnx", "report, plan")),
        lines(
            20,
            262,
            (
                "Same inputs and outputs, ordinary operators.",
                "No training code; without samples, steps 2 and 4 use what the weights imply.",
            ),
            "muted",
        ),
    ]
    about = "Analyse, measure, allocate, compensate, cut and prove, distill, compare."
    return picture((962, 322), "From a model to a smaller one", about, parts)


def groups() -> str:
    """Channels that a residual sum ties to each other form one group."""
    top = 64
    parts = [text(20, 34, "One group: five channels that a residual sum couples", "strong")]
    layers = (
        (20, "Conv a", "makes"),
        (200, "BatchNorm", "scales"),
        (380, "Add", "sums a and b"),
        (560, "Conv b", "makes"),
        (740, "Conv c", "reads the sum"),
    )
    for x, name, does in layers:
        parts += [
            box((x, top), (120, 176), ()),
            text(x + 60, top + 24, name, "middle strong"),
            text(x + 60, top + 43, does, "middle muted"),
            cells(x + 51, top + 56, CUT),
        ]
    for k, kind in enumerate(CUT):
        y = top + 65 + 22 * k
        shown = "one" if kind == "kept" else "dash"
        for left, right in ((91, 249), (271, 429), (451, 609), (631, 789)):
            parts.append(path(shown, ((left, y), (right, y))))
    parts += [
        lines(
            20,
            272,
            (
                "A line joins the positions of one channel in all weights that make, scale or "
                "read it. Dashed: removed from all at once.",
                "What no operator's rule mentions belongs to no group and stays whole.",
            ),
            "muted",
        ),
    ]
    about = "Five channels run through two convolutions, a normalisation, a sum and their reader."
    return picture((880, 310), "A group of coupled channels", about, parts)


def proof() -> str:
    """The cut model must give what the original gives with zeros at the removed positions."""
    parts = [
        box((20, 116), (130, 70), ("plan", "which positions", "stay")),
        arrow((150, 140), (196, 90)),
        arrow((150, 164), (196, 216)),
        box((198, 24), (250, 112), ()),
        text(323, 50, "original, full size", "middle strong"),
        text(323, 70, "removed positions set to zero", "middle muted"),
        cells(270, 92, ZEROED, down=False),
        box((198, 166), (250, 112), ()),
        text(323, 192, "result", "middle strong"),
        text(323, 212, "removed positions cut out", "middle muted"),
        cells(292, 234, KEPT, down=False),
        arrow((448, 80), (500, 80)),
        arrow((448, 222), (500, 222)),
        box((502, 48), (130, 64), ("onnxruntime", "same inputs")),
        box((502, 190), (130, 64), ("onnxruntime", "same inputs")),
        arrow((632, 80), (690, 134)),
        arrow((632, 222), (690, 168)),
        box((692, 112), (168, 78), ("equal?", "within 1e-4 of the", "largest value"), "mark"),
        text(776, 222, "yes: written", "middle good"),
        text(776, 243, "no: the group to blame", "middle bad"),
        text(776, 262, "stays whole", "middle bad"),
    ]
    about = "One plan masks the original and cuts the result; onnxruntime compares their outputs."
    return picture((880, 302), "The proof", about, parts)


def allocation() -> str:
    """Error curves of groups, and the widths that spend least error for the asked cost."""
    left, bottom, width, height = 64, 238, 360, 180

    def curve(kind: str, power: float, scale: float) -> str:
        points = [
            (left + width * (1 - k / 20), bottom - height * min(scale * (k / 20) ** power, 1))
            for k in range(20)
        ]
        return path(kind, points)

    parts = [
        text(20, 30, "Measured: error when one group is narrower", "strong"),
        path("axis", ((left, 50), (left, bottom), (left + width, bottom))),
        curve("one", 3.0, 0.28),
        curve("two", 2.2, 0.6),
        curve("three", 1.6, 1.0),
        text(left + 40, 230, "A", "good strong"),
        text(left + 80, 168, "B", "strong"),
        text(left + 80, 100, "C", "bad strong"),
        text(left, bottom + 22, "narrow", "muted"),
        text(left + 8, 62, "error of the outputs", "muted"),
        text(left + width, bottom + 22, "whole", "muted end"),
        text(500, 30, "Chosen: least error for the MACs asked for", "strong"),
    ]
    for k, (name, share) in enumerate((("A", 0.3), ("B", 0.55), ("C", 0.9))):
        y = 66 + 52 * k
        whole = f'x="560" y="{y}" width="300" height="26" rx="4"'
        kept = f'x="560" y="{y}" width="{300 * share:g}" height="26" rx="4"'
        parts += [
            text(544, y + 18, name, "end strong"),
            f'<rect class="zero" {whole}/>',
            f'<rect class="kept" {kept}/>',
        ]
    parts.append(
        lines(
            500,
            238,
            (
                "The flat curve pays most. Widths lie on the blocks",
                "that the runtime's kernels take.",
            ),
            "muted",
        )
    )
    about = "Three error curves; the group whose curve is flat gets narrow, the steep one stays."
    return picture((900, 280), "Allocation", about, parts)


def compensation() -> str:
    """The reader of a cut is refitted so that its output stays what it was."""
    parts = [
        text(20, 32, "before", "strong"),
        cells(60, 52, ("full",) * 5),
        box((160, 66), (150, 72), ("W", "reads 5 channels")),
        arrow((90, 102), (158, 102)),
        arrow((310, 102), (366, 102)),
        text(376, 107, "y"),
        text(480, 32, "after", "strong"),
        cells(520, 52, CUT),
        box((620, 66), (150, 72), ("W′, b′", "reads 3 channels"), "mark"),
        arrow((550, 102), (618, 102)),
        arrow((770, 102), (826, 102)),
        text(836, 107, "ŷ ≈ y"),
        lines(
            20,
            200,
            (
                "On the samples, channels that stay predict much of what removed ones said. Least "
                "squares finds the weights",
                "W′ and bias b′ whose ŷ is nearest to the original's y, layer by layer; what "
                "earlier cuts changed is in their inputs.",
            ),
            "muted",
        ),
    ]
    about = "A layer that read five channels reads three, with weights refitted by least squares."
    return picture((900, 246), "Compensation", about, parts)


PICTURES: dict[str, Callable[[], str]] = {
    function.__name__: function for function in (overview, groups, proof, allocation, compensation)
}


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
