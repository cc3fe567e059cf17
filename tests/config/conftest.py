"""What tests of the configuration share."""

from collections.abc import Callable

import pytest

from hitless.errors import ConfigurationError


@pytest.fixture
def faults_of() -> Callable[..., list[str]]:
    """Call something that must raise ConfigurationError; its faults."""

    def faults_of(function, *arguments, **options) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            function(*arguments, **options)
        return list(caught.value.faults)

    return faults_of
