"""What checkov is told to leave out: each check once, and each with its reason above it."""
import re

import pytest

import system

CONFIGURATIONS = sorted((system.ROOT / 'infra/checkov').glob('*.yaml'))


@pytest.mark.parametrize('path', CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_check_that_is_left_out_has_its_reason(path):
    said, skipped = path.read_text().split('skip-check:\n')
    assert 'soft-fail' not in said and 'skip-path' not in said, 'a finding stops the check'
    reason, ids = None, []
    for line in skipped.splitlines():
        if line.startswith('  # '):
            reason = line
        else:
            ids += re.fullmatch(r'  - (CKV2?_AZURE_\d+)', line).groups()
            assert reason and len(reason) > 20, line
    assert ids and len(set(ids)) == len(ids)
