"""Bicep and Terraform deploy the same system, and the document says which."""
import re

import arm
import hcl
import system
import table


def test_both_languages_deploy_the_same(variant):
    bicep, terraform = (system.deployed(language, variant) for language in system.LANGUAGES)
    assert system.differences(bicep, terraform) == []


def test_the_table_of_both_is_the_committed_one():
    committed = table.FILE.read_text()
    for language in system.LANGUAGES:
        assert table.document(language) == committed, f'{language}: run `python tests/infra/table.py`'


def test_every_exception_from_parity_is_needed():
    bicep = [r for v in system.VARIANTS for r in system.deployed('bicep', v)]
    terraform = [r for v in system.VARIANTS for r in system.deployed('terraform', v)]
    for pattern, why in system.ONE_SIDED:
        assert any(re.search(pattern, r.id) for r in bicep) and not any(re.search(pattern, r.id) for r in terraform), why
    for kind, pattern, why in system.UNSAID:
        said = [
            {path for r in found if re.search(kind, r.kind) for path in system.flat(r.body) if re.fullmatch(pattern, path)}
            for found in (bicep, terraform)
        ]
        assert said[0] != said[1], f'{kind} {pattern}: {why}, but both say it'


def test_every_azurerm_attribute_is_compared():
    """An attribute that arm.py does not read would differ unseen."""
    for variant, extra in system.VARIANTS.items():
        instances = hcl.deploy(system.TERRAFORM, system.parameters('terraform', extra))
        for instance in instances:
            if instance.kind.startswith('azapi') or instance.kind not in arm.KINDS:
                continue
            read = Recorder(instance.values)
            whole = type(instance)(instance.kind, instance.address, read)
            arm.identity_of(whole)
            arm.body_of(whole)
            unread = set(instance.values) - read.seen - UNREAD.get(instance.kind, set())
            assert not unread, f'{variant}: {instance.address}: nobody compares {sorted(unread)}'


# Attributes that only Terraform knows.
UNREAD = {
    'azurerm_storage_account': {'blob_properties'},
    'azurerm_monitor_metric_alert': {'target_resource_type', 'target_resource_location'},
    'azurerm_private_dns_zone': {'name'},
    'azurerm_monitor_action_group': {'location'},
}


class Recorder(dict):
    """Remembers which of its keys were asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.seen = set()

    def __getitem__(self, key):
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.seen.add(key)
        return super().get(key, default)
