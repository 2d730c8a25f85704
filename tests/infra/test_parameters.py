"""Wrong and contradictory parameters are refused, by name, before anything is created."""
import json
import re

import pytest

import bicep
import checks
import hcl
import system

HUB = {'posture': 'lockedDown', 'egress': 'hub', 'existingHubId': system.HUB, 'existingFirewallAddress': '10.8.0.4', 'existingRunnerAddressPrefix': '10.8.1.0/27'}

# What is given, and which parameters the message has to name.
WRONG = [
    ({'environmentName': 'Prod'}, ['environmentName']),
    ({'environmentName': 'my-env'}, ['environmentName']),
    ({'environmentName': 'production9'}, ['environmentName']),
    ({'posture': 'open'}, ['posture']),
    ({'bankUrl': 'http://bank.example/'}, ['bankUrl']),
    ({'bankUrl': ''}, ['bankUrl']),
    ({'apiClientId': ''}, ['apiClientId']),
    ({'tenantId': 'contoso'}, ['tenantId']),
    ({'alertEmail': 'nobody'}, ['alertEmail']),
    ({'budgetAmount': 0}, ['budgetAmount']),
    ({'budgetStart': '2026-12-15'}, ['budgetStart']),
    ({'otlpEndpoint': 'http://collector.example:4318'}, ['otlpEndpoint']),
    ({'posture': 'lockedDown', 'otlpEndpoint': 'https://collector.example:4318'}, ['otlpEndpoint', 'posture']),
    ({'posture': 'lockedDown', 'bankUrl': 'https://bank.example:8443/'}, ['bankUrl', 'posture']),
    ({'zoneRedundant': True}, ['zoneRedundant', 'posture']),
    ({'posture': 'lockedDown', 'alwaysReadyInstances': 1}, ['alwaysReadyInstances', 'zoneRedundant']),
    ({'alwaysReadyInstances': 21}, ['alwaysReadyInstances']),
    ({'maximumInstances': 39}, ['maximumInstances']),
    ({'instanceMemoryMB': 1024}, ['instanceMemoryMB']),
    ({'messagingUnits': 3}, ['messagingUnits']),
    ({'storeMaxThroughput': 400}, ['storeMaxThroughput']),
    ({'logRetentionDays': 7}, ['logRetentionDays']),
    ({'customerOrdersPerSecond': -1}, ['customerOrdersPerSecond']),
    ({'consumerServiceBusRole': 'admin'}, ['consumerServiceBusRole']),
    ({'existingHubId': system.HUB, 'existingRunnerAddressPrefix': '10.8.1.0/27'}, ['existingHubId', 'posture']),
    ({'existingDnsZoneGroupId': system.ZONES}, ['existingDnsZoneGroupId', 'posture']),
    ({'egress': 'natGateway'}, ['egress', 'posture']),
    ({**HUB, 'existingHubId': 'vnet-hub'}, ['existingHubId']),
    ({'posture': 'lockedDown', 'existingDnsZoneGroupId': 'rg-zones'}, ['existingDnsZoneGroupId']),
    ({**HUB, 'existingRunnerAddressPrefix': ''}, ['existingRunnerAddressPrefix', 'existingHubId']),
    ({**HUB, 'existingFirewallAddress': ''}, ['existingFirewallAddress', 'egress']),
    ({**HUB, 'egress': 'firewall', 'existingFirewallAddress': ''}, ['egress', 'existingHubId']),
    ({'posture': 'lockedDown', 'egress': 'hub', 'existingFirewallAddress': '10.8.0.4'}, ['egress', 'existingHubId']),
    ({'posture': 'lockedDown', 'existingFirewallAddress': '10.8.0.4'}, ['existingFirewallAddress', 'egress']),
    ({'posture': 'lockedDown', 'firewallTier': 'Premium'}, ['firewallTier']),
    ({'flowLogs': True}, ['flowLogs', 'posture']),
    ({'posture': 'lockedDown', 'networkWatcherId': 'NetworkWatcher_westeurope'}, ['networkWatcherId']),
    ({'posture': 'lockedDown', 'flowLogs': False, 'networkWatcherId': system.WATCHER}, ['networkWatcherId', 'flowLogs']),
    ({'hubAddressPrefix': '10.0.0.0/16'}, ['hubAddressPrefix']),
    ({'spokeAddressPrefix': '10.1.0.0/24'}, ['spokeAddressPrefix']),
    ({'spokeAddressPrefix': '10.0.0.0/22'}, ['spokeAddressPrefix', 'hubAddressPrefix']),
]


@pytest.mark.parametrize(('extra', 'named'), WRONG, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_refused_by_name(language, extra, named):
    with pytest.raises(bicep.Refused) as refused:
        system.deploy(language, extra)
    for name in named:
        name = name if language == 'bicep' else system.snake(name)
        assert re.search(rf'\b{name}\b', str(refused.value)), refused.value


@pytest.mark.parametrize('name', system.NEEDED)
def test_what_is_missing_is_named(language, name):
    given = system.parameters(language, {})
    name = name if language == 'bicep' else system.snake(name)
    del given[name]
    with pytest.raises(bicep.Refused, match=rf'\b{name} is missing'):
        (bicep if language == 'bicep' else hcl).deploy(system.BICEP if language == 'bicep' else system.TERRAFORM, given)


def test_all_problems_are_told_at_once(language):
    with pytest.raises(bicep.Refused) as refused:
        system.deploy(language, {'bankUrl': '', 'apiClientId': '', 'alertEmail': ''})
    for name in ('bankUrl', 'apiClientId', 'alertEmail'):
        assert (name if language == 'bicep' else system.snake(name)) in str(refused.value)


def declared():
    """Parameters of both languages: {name: (documented, has a default)}."""
    main = bicep.Module(system.BICEP, system.NEEDED)
    of_bicep = {
        name: (any(rule == 'description' for rule, _ in decorators), default is not None)
        for name, (default, decorators) in main.params.items()
    }
    folder = hcl.Folder(system.TERRAFORM, system.parameters('terraform', {}))
    of_terraform = {
        name: ('description' in block.attributes, 'default' in block.attributes) for name, block in folder.variables.items()
    }
    return of_bicep, of_terraform


def test_both_languages_have_the_same_documented_parameters():
    of_bicep, of_terraform = declared()
    assert {system.snake(name): value for name, value in of_bicep.items()} == of_terraform
    assert all(documented for documented, _ in of_bicep.values())


def test_parameter_files_fit_the_parameters():
    of_bicep, _ = declared()
    needed = {name for name, (_, default) in of_bicep.items() if not default}
    for path in (system.ROOT / 'infra/bicep').glob('*.bicepparam'):
        text = path.read_text()
        assert "using 'main.bicep'" in text
        given = re.findall(r'^param (\w+) = ', text, re.M)
        assert needed <= set(given) <= of_bicep.keys(), path.name
    assert {p.stem for p in (system.ROOT / 'infra/bicep').glob('*.bicepparam')} == {'dev', 'prod'}
    azd = json.loads((system.ROOT / 'infra/bicep/main.parameters.json').read_text())['parameters']
    assert needed <= azd.keys() <= of_bicep.keys()


def test_variable_files_deploy_what_the_parameter_files_do():
    """dev and prod mean the same in both languages."""
    from syntax import Parser
    for name in ('dev', 'prod'):
        p = Parser((system.TERRAFORM / f'{name}.tfvars').read_text(), name, hcl=True)
        given = {}
        p.space(lines=True)
        while p.pos < len(p.text):
            key = p.identifier()
            p.need('=')
            given[key] = p.expression()[1]
            p.space(lines=True)
        text = (system.ROOT / f'infra/bicep/{name}.bicepparam').read_text()
        values = dict(re.findall(r"^param (\w+) = ('[^'\n]*'|\d+)$", text, re.M))
        plain = {system.snake(k): int(v) if v.isdigit() else v.strip("'") for k, v in values.items()}
        assert plain == given, name


def test_the_contradictions_of_terraform_test_are_contradictions():
    """`terraform test` needs the providers; what it expects to be refused is refused here as well."""
    text = (system.TERRAFORM / 'tests/postures.tftest.hcl').read_text()
    expected = set(re.findall(r'^    var\.(\w+),$', text, re.M))
    assert expected
    with pytest.raises(bicep.Refused) as refused:
        system.deploy('terraform', {'zoneRedundant': True, 'existingHubId': system.HUB, 'bankUrl': 'http://bank.example/'})
    assert all(name in str(refused.value) for name in expected), refused.value
    locked = checks.of_kind(system.deployed('terraform', 'lockedDown'), 'Microsoft.Network/privateEndpoints')
    assert f'length(azurerm_private_endpoint.all) == {len(locked)}' in text
