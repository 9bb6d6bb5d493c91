"""What the tests of IDE share."""

import pytest
from ide_nets import SHAPES


@pytest.fixture(params=sorted(SHAPES))
def layers(request: pytest.FixtureRequest) -> str:
    """The layers of each kind of network."""
    return request.param
