"""Both languages, and every variant of both."""
import pytest

import system


def pytest_generate_tests(metafunc):
    if 'variant' in metafunc.fixturenames:
        names = [v for v in system.VARIANTS if 'locked' not in metafunc.fixturenames or v.startswith('lockedDown')]
        metafunc.parametrize('variant', names)
    if 'language' in metafunc.fixturenames:
        metafunc.parametrize('language', system.LANGUAGES)


@pytest.fixture
def locked():
    """Asks for the variants of posture lockedDown alone."""


@pytest.fixture
def found(language, variant):
    """Every resource of the language in the variant."""
    return list(system.comparable(system.deployed(language, variant)).values())
