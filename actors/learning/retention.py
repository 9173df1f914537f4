"""Which durable versions are kept. Pure: what there is goes in, what is kept comes out."""

from collections.abc import Collection, Mapping

from actors.learning.section import Section, setting

_HOUR_S, _DAY_S = 3_600.0, 86_400.0


class VersionsConfig(Section):
    commit_rows: int = setting(
        100_000, "After so many learned rows a version is made durable: at most so many are learned again after a crash.",
        unit="rows", ge=1,
    )  # fmt: skip
    commit_every_s: float = setting(10.0, "After so much time, too, where anything has been learned.", unit="seconds", gt=0)
    keep_last: int = setting(20, "Newest durable versions that are kept.", unit="versions", ge=2)
    keep_hourly: int = setting(24, "Hours of which the last version is kept.", unit="hours", ge=0)
    keep_daily: int = setting(30, "Days of which the last version is kept.", unit="days", ge=0)


def kept(created_at: Mapping[int, float], config: VersionsConfig, now: float, named: Collection[int]) -> set[int]:
    """The newest, the last of each recent hour and day (UTC), and `named`: those that an alias names, or ever did.

    `created_at` is in seconds since 1970, by version.
    """
    newest_first = sorted(created_at, reverse=True)
    found = set(newest_first[: config.keep_last]) | (set(named) & created_at.keys())
    for period_s, periods in ((_HOUR_S, config.keep_hourly), (_DAY_S, config.keep_daily)):
        first = int(now // period_s) - periods + 1
        last: dict[int, int] = {}
        for version in newest_first:
            last.setdefault(int(created_at[version] // period_s), version)
        found |= {version for period, version in last.items() if period >= first}
    return found
