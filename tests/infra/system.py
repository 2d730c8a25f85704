"""Both languages, deployed in the mind with the same parameters, and made comparable."""
import re
from functools import cache
from pathlib import Path

import arm
import bicep
import hcl
from bicep import Resource

ROOT = Path(__file__).parents[2]
BICEP = ROOT / 'infra/bicep/main.bicep'
TERRAFORM = ROOT / 'infra/terraform'
LANGUAGES = ('bicep', 'terraform')

# What every deployment needs, by the names of Bicep; Terraform has them in snake case.
NEEDED = {
    'environmentName': 'dev', 'location': 'westeurope', 'bankUrl': 'https://bank.example/v1/',
    'apiClientId': '00000000-0000-0000-0000-00000000a91d', 'alertEmail': 'operators@example.com',
    'budgetAmount': 50, 'budgetStart': '2026-12-01',
}
HUB = '/subscriptions/77777777-2222-3333-4444-555555555555/resourceGroups/rg-hub/providers/Microsoft.Network/virtualNetworks/vnet-hub'
WATCHER = '/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg-watch/providers/Microsoft.Network/networkWatchers/watch'
ZONES = '/subscriptions/77777777-2222-3333-4444-555555555555/resourceGroups/rg-zones'

# The postures, and every switch between them.
VARIANTS = {
    'default': {},
    'lockedDown': {'posture': 'lockedDown'},
    'default, owner': {'consumerServiceBusRole': 'owner', 'alwaysReadyInstances': 1, 'operatorPrincipalId': 'somebody',
                       'otlpEndpoint': 'https://collector.example:4318', 'tags': {'team': 'orders'}},
    'lockedDown, basic firewall': {'posture': 'lockedDown', 'firewallTier': 'Basic', 'messagingUnits': 2, 'otlpEndpoint': 'https://collector.example'},
    'lockedDown, NAT gateway': {'posture': 'lockedDown', 'egress': 'natGateway', 'clientsAddressPrefix': '10.9.0.0/16'},
    'lockedDown, existing hub': {
        'posture': 'lockedDown', 'egress': 'hub', 'existingHubId': HUB, 'existingFirewallAddress': '10.8.0.4',
        'existingRunnerAddressPrefix': '10.8.1.0/27', 'existingDnsZoneGroupId': ZONES, 'networkWatcherId': WATCHER},
    'lockedDown, one zone': {'posture': 'lockedDown', 'zoneRedundant': False, 'alwaysReadyInstances': 0, 'flowLogs': False},
}


def snake(name):
    return re.sub(r'MB$', '_mb', re.sub(r'(?<=[a-z])([A-Z])(?!B$)', lambda m: '_' + m[1].lower(), name))


def parameters(language, extra):
    given = {**NEEDED, **extra}
    return given if language == 'bicep' else {snake(name): value for name, value in given.items()}


def deploy(language, extra=None, at=None):
    """Every resource that is created, as Azure has it. `at` is another template than ours."""
    given = parameters(language, extra or {})
    if language == 'bicep':
        return bicep.deploy(at or BICEP, given)
    return arm.resources(hcl.deploy(at or TERRAFORM, given))


@cache
def deployed(language, variant):
    return deploy(language, VARIANTS[variant])


# What is there in one language alone, with the reason.
ONE_SIDED = [
    (r'/rules/\$Default$', 'azurerm deletes the rule (features.servicebus), Bicep can only make it let nothing in'),
    (r'/(blobServices|queueServices)/default$', 'azurerm makes the service with its account'),
]


def key_of(resource):
    """An id that both languages agree on: names that are hashes are replaced by what they stand for."""
    p = resource.body.get('properties', {})
    if resource.kind == 'Microsoft.Authorization/roleAssignments':
        return f'{resource.scope}|{p["principalId"]}|{p["roleDefinitionId"]}'
    if resource.kind.endswith('/sqlRoleAssignments'):
        return f'{p["scope"]}|{p["principalId"]}|{p["roleDefinitionId"]}'
    if resource.kind == 'Microsoft.Insights/workbooks':
        return resource.id.split('/providers/')[0] + '/workbook'
    return resource.id


def comparable(found):
    """Resources by key, each thing in one place: subnets by themselves, zones with their endpoint."""
    out = {}
    for resource in found:
        if any(re.search(pattern, resource.id) for pattern, _ in ONE_SIDED):
            continue
        body = dict(resource.body)
        if resource.kind == 'Microsoft.Network/virtualNetworks':
            properties = dict(body['properties'])
            for subnet in properties.pop('subnets', []):
                id = f'{resource.id}/subnets/{subnet["name"]}'
                out[id] = Resource('Microsoft.Network/virtualNetworks/subnets', subnet['name'], id, {'properties': subnet['properties']})
            body['properties'] = properties
        if resource.kind == 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups':
            above = out[resource.id.split('/privateDnsZoneGroups/')[0]]
            configs = resource.body['properties']['privateDnsZoneConfigs']
            above.body['properties'] = {**above.body['properties'], 'zones': [c['properties']['privateDnsZoneId'] for c in configs]}
            continue
        if resource.kind == 'Microsoft.Consumption/budgets' and isinstance(body['properties']['notifications'], dict):
            notices = list(body['properties']['notifications'].values())
            body['properties'] = {**body['properties'], 'notifications': notices}
        if resource.kind == 'Microsoft.Insights/metricAlerts':
            rules = [{k: v for k, v in rule.items() if k not in ('name', 'criterionType')} for rule in body['properties']['criteria']['allOf']]
            body['properties'] = {**body['properties'], 'criteria': {'allOf': rules}}
        out[key_of(resource)] = Resource(resource.kind, resource.name, resource.id, body, scope=resource.scope)
    return out


def flat(value, path=''):
    """{path: scalar} of a body. Items of lists go by their name where they have one; nothing counts as nothing."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f'{path}.{key}'.lstrip('.')).items()}
    if isinstance(value, list):
        named = value and all(isinstance(item, dict) and 'name' in item for item in value)
        places = [f'{path}[{item["name"]}]' if named else f'{path}[{i}]' for i, item in enumerate(value)]
        return {k: v for place, item in zip(places, value) for k, v in flat(item, place).items()}
    return {} if value is None else {path: value}


# What only one of the two can say; the other leaves it to Azure or to the provider.
UNSAID = [
    (r'ServiceBus/namespaces$', r'sku\.tier', 'azurerm derives it from the SKU'),
    (r'Insights/components$', r'kind', 'azurerm says web by itself'),
    (r'Insights/workbooks$', r'kind|properties\.(category|version)', 'azurerm says them by itself'),
    (r'workspaces$', r'properties\.features\.enableLogAccessUsingOnlyResourcePermissions', 'the default of azurerm'),
    (r'privateDnsZones(/virtualNetworkLinks)?$|privateLinkScopes$|metricAlerts$', r'location', 'global in azurerm'),
    (r'metricAlerts$', r'properties\.targetResource(Type|Region)', 'azurerm says them by itself'),
    (r'scheduledQueryRules$', r'kind', 'azurerm says it by itself'),
    (r'budgets$', r'properties\.category', 'azurerm says it by itself'),
    (r'serverfarms$', r'kind|sku\.tier', 'azurerm derives them from the SKU'),
]


def differences(left, right):
    """What the two languages say differently, line by line; empty if they agree."""
    left, right = comparable(left), comparable(right)
    out = [f'only in bicep: {key}' for key in sorted(left.keys() - right.keys())]
    out += [f'only in terraform: {key}' for key in sorted(right.keys() - left.keys())]
    for key in sorted(left.keys() & right.keys()):
        if left[key].kind != right[key].kind:
            out.append(f'{key}: {left[key].kind} is not {right[key].kind}')
        a, b = flat(left[key].body), flat(right[key].body)
        for path in sorted(a.keys() | b.keys()):
            if a.get(path) == b.get(path):
                continue
            unsaid = (path not in a or path not in b) and any(
                re.search(kind, left[key].kind) and re.fullmatch(pattern, path) for kind, pattern, _ in UNSAID)
            if not unsaid:
                out.append(f'{key}: {path} is {a.get(path)!r} in bicep, {b.get(path)!r} in terraform')
    return out
