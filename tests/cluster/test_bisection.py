import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bisection import first_worse


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True).map(sorted), st.data())
def test_the_first_worse_version_is_found_in_few_evaluations(versions, data):
    at = data.draw(st.integers(0, len(versions) - 1))
    asked = []
    assert first_worse(versions, lambda v: asked.append(v) or v >= versions[at]) == versions[at]
    assert len(asked) <= len(versions).bit_length()


@pytest.mark.parametrize("versions", [[5], [5, 9]])
def test_few_versions(versions):
    assert first_worse(versions, lambda v: v == versions[-1]) == versions[-1]
