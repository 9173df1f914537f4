import pytest

from actors.learning.retention import VersionsConfig, kept

HOUR, DAY = 3_600.0, 86_400.0
NOW = 1_000 * DAY + 12.5 * HOUR
CASES = {
    "the newest": ({v: NOW - 1 for v in range(1, 10)}, {}, [], {8, 9}),
    "those with a name": ({v: NOW - 1 for v in range(1, 10)}, {}, [3, 77], {3, 8, 9}),
    "the last of each hour": (
        {1: NOW - 2.4 * HOUR, 2: NOW - 2 * HOUR, 3: NOW - HOUR, 4: NOW - 0.6 * HOUR, 5: NOW, 6: NOW, 7: NOW},
        {"keep_hourly": 3},
        [],
        {2, 4, 6, 7},
    ),
    "no hour further back": ({1: NOW - 3 * HOUR, 5: NOW, 6: NOW}, {"keep_hourly": 3}, [], {5, 6}),
    "the last of each day": (
        {1: NOW - 2 * DAY, 2: NOW - 2 * DAY + 60, 3: NOW - DAY, 5: NOW, 6: NOW, 7: NOW},
        {"keep_daily": 3},
        [],
        {2, 3, 6, 7},
    ),
    "all where there are few": ({1: 0.0, 2: 1.0}, {}, [], {1, 2}),
    "nothing of nothing": ({}, {}, [3], set()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept(case):
    created_at, keys, named, expected = CASES[case]
    config = VersionsConfig(**{"keep_last": 2, "keep_hourly": 0, "keep_daily": 0, **keys})
    assert kept(created_at, config, NOW, named) == expected
