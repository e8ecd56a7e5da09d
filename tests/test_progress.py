"""Progress on the way, and how long it may still take."""

from onnxprune import progress


def test_progress_says_how_long():
    seen: list[str] = []
    told = progress.estimated(lambda stage, _share: seen.append(stage), "timing", 0.0, 1.0)
    told(0.05)
    assert seen == ["timing"]
