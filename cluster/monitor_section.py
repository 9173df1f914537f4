"""How often a running system tells how it fares."""

from actors.learning.section import Section, setting


class MonitorConfig(Section):
    progress_every_s: float = setting(2.0, "Time between two progress lines on the terminal.", unit="seconds", gt=0)
    status_every_s: float = setting(1.0, "Time between two refreshes of what `perennial status` shows.", unit="seconds", gt=0)
