"""Time as a test tells it."""


class Clock:
    """Seconds that pass only when the test says so, or while somebody waits."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
