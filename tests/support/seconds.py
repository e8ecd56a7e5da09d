"""Seconds for tests of what is drawn as time passes."""


class Seconds:
    """A clock whose seconds pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now
