"""What must hold for everything that is deployed, whatever the language: each check returns what is
wrong, line by line, and nothing where all is well. The tests run them on our templates, and on copies
with a defect in them."""
import json
import re

from system import ROOT, flat

ROLES = json.loads((ROOT / 'infra/roles.json').read_text())
ROLE_NAMES = {role['id']: role['name'] for role in [*ROLES['definitions'].values(), *ROLES['cosmosDefinitions'].values()]}

# Kinds that can be open to the internet, and how each says that it is not.
CLOSABLE = {
    'Microsoft.ServiceBus/namespaces': ['publicNetworkAccess'],
    'Microsoft.DocumentDB/databaseAccounts': ['publicNetworkAccess'],
    'Microsoft.Storage/storageAccounts': ['publicNetworkAccess'],
    'Microsoft.EventGrid/topics': ['publicNetworkAccess'],
    'Microsoft.Web/sites': ['publicNetworkAccess'],
    'Microsoft.OperationalInsights/workspaces': ['publicNetworkAccessForIngestion', 'publicNetworkAccessForQuery'],
    'Microsoft.Insights/components': ['publicNetworkAccessForIngestion', 'publicNetworkAccessForQuery'],
}

# Kinds that let in keys unless told otherwise, and how each is told.
KEYLESS = {
    'Microsoft.ServiceBus/namespaces': {'disableLocalAuth': True},
    'Microsoft.DocumentDB/databaseAccounts': {'disableLocalAuth': True, 'disableKeyBasedMetadataWriteAccess': True},
    'Microsoft.Storage/storageAccounts': {
        'allowSharedKeyAccess': False, 'isLocalUserEnabled': False, 'allowBlobPublicAccess': False,
        'defaultToOAuthAuthentication': True, 'allowCrossTenantReplication': False},
    'Microsoft.EventGrid/topics': {'disableLocalAuth': True},
    'Microsoft.OperationalInsights/workspaces': {'features.disableLocalAuth': True},
    'Microsoft.Insights/components': {'DisableLocalAuth': True},
    'Microsoft.Web/sites/basicPublishingCredentialsPolicies': {'allow': False},
}

ENCRYPTED = {
    'Microsoft.ServiceBus/namespaces': {'minimumTlsVersion': '1.2'},
    'Microsoft.DocumentDB/databaseAccounts': {'minimalTlsVersion': 'Tls12'},
    'Microsoft.Storage/storageAccounts': {'minimumTlsVersion': 'TLS1_2', 'supportsHttpsTrafficOnly': True},
    'Microsoft.EventGrid/topics': {'minimumTlsVersionAllowed': '1.2'},
    'Microsoft.Web/sites': {
        'httpsOnly': True, 'siteConfig.minTlsVersion': '1.2', 'siteConfig.scmMinTlsVersion': '1.2', 'siteConfig.ftpsState': 'Disabled'},
}

DIAGNOSED = {
    'Microsoft.ServiceBus/namespaces', 'Microsoft.DocumentDB/databaseAccounts', 'Microsoft.Storage/storageAccounts',
    'Microsoft.EventGrid/topics', 'Microsoft.OperationalInsights/workspaces', 'Microsoft.Web/serverfarms', 'Microsoft.Web/sites',
    'Microsoft.Network/networkSecurityGroups', 'Microsoft.Network/virtualNetworks', 'Microsoft.Network/publicIPAddresses',
    'Microsoft.Network/azureFirewalls',
}
# Kinds without diagnostic settings of their own, and why that is no gap.
SILENT = {
    'Microsoft.Resources/resourceGroups': 'the activity log has it',
    'Microsoft.ManagedIdentity/userAssignedIdentities': 'sign-ins are in the logs of Entra',
    'Microsoft.Authorization/roleAssignments': 'the activity log has it',
    'Microsoft.Insights/components': 'it lies in the workspace already',
    'Microsoft.Insights/workbooks': 'nothing happens in it',
    'Microsoft.Insights/actionGroups': 'nothing to record: alerts have a history',
    'Microsoft.Insights/metricAlerts': 'alerts have a history',
    'Microsoft.Insights/scheduledQueryRules': 'alerts have a history',
    'Microsoft.Insights/diagnosticSettings': 'it is one',
    'Microsoft.Insights/privateLinkScopes': 'has no categories',
    'Microsoft.Consumption/budgets': 'nothing happens in it',
    'Microsoft.Network/routeTables': 'has no categories',
    'Microsoft.Network/natGateways': 'metrics only, which need no setting',
    'Microsoft.Network/firewallPolicies': 'the firewall logs what it decides',
    'Microsoft.Network/privateDnsZones': 'metrics only, which need no setting',
    'Microsoft.Network/networkWatchers': 'a flow log is a log itself',
    'Microsoft.Network/privateEndpoints': 'metrics only, which need no setting',
}


def of_kind(found, kind):
    return [resource for resource in found if resource.kind == kind]


def held(found, rules, why):
    """Every property of `rules` has its value."""
    for resource in found:
        said = flat(resource.body.get('properties', {}))
        for path, wanted in rules.get(resource.kind, {}).items():
            if said.get(path) != wanted:
                yield f'{resource.name}: {path} is {said.get(path)!r}, and {why} needs {wanted!r}'


def keys(found):
    """Nobody gets in with a key, and every app forbids publishing passwords."""
    yield from held(found, KEYLESS, 'keylessness')
    for site in of_kind(found, 'Microsoft.Web/sites'):
        policies = {r.name for r in of_kind(found, 'Microsoft.Web/sites/basicPublishingCredentialsPolicies') if r.id.startswith(site.id + '/')}
        if policies != {'ftp', 'scm'}:
            yield f'{site.name}: publishing passwords are forbidden for {sorted(policies)} only'
        storage = site.body['properties']['functionAppConfig']['deployment']['storage']['authentication']
        if storage['type'] != 'UserAssignedIdentity':
            yield f'{site.name}: its package is read by {storage["type"]}'


def encryption(found):
    yield from held(found, ENCRYPTED, 'encryption in transit')


def public(found):
    """What the internet can reach, in posture lockedDown."""
    for resource in found:
        properties = resource.body.get('properties', {})
        for name in CLOSABLE.get(resource.kind, []):
            rules = properties.get('networkAcls') or {}
            # Event Grid and Network Watcher come in as trusted services, and nobody else.
            trusted = rules.get('defaultAction') == 'Deny' and not rules.get('ipRules') and resource.name.startswith(('stevent', 'stflow'))
            if properties.get(name) != 'Disabled' and not (resource.kind.endswith('storageAccounts') and trusted):
                yield f'{resource.name}: {name} is {properties.get(name)!r}'
        if resource.kind == 'Microsoft.Storage/storageAccounts' and properties['networkAcls']['defaultAction'] != 'Deny':
            yield f'{resource.name}: its firewall lets everybody in'
        if resource.kind == 'Microsoft.Network/publicIPAddresses' and not re.match(r'pip-(egress|management)-', resource.name):
            yield f'{resource.name}: a public address'
        if resource.kind == 'Microsoft.Insights/privateLinkScopes':
            modes = set(properties['accessModeSettings'].values())
            if modes != {'PrivateOnly'}:
                yield f'{resource.name}: telemetry may go another way: {modes}'
    yield from unreached(found)
    yield from subnets(found)
    yield from unlogged(found)


def unreached(found):
    """Services without the private endpoints that their users need, or whose names resolve elsewhere."""
    wanted = {
        'Microsoft.ServiceBus/namespaces': [('', 'namespace')], 'Microsoft.DocumentDB/databaseAccounts': [('', 'Sql')],
        'Microsoft.EventGrid/topics': [('', 'topic')], 'Microsoft.Web/sites': [('', 'sites')],
        'Microsoft.Insights/privateLinkScopes': [('', 'azuremonitor')],
        'Microsoft.Storage/storageAccounts': [
            ('sthost', 'blob'), ('sthost', 'queue'), ('sthost', 'table'), ('stpay', 'queue'), ('stevent', 'queue'), ('stevent', 'blob'), ('stflow', 'blob')],
    }
    zones = {
        'namespace': {'privatelink.servicebus.windows.net'}, 'Sql': {'privatelink.documents.azure.com'},
        'topic': {'privatelink.eventgrid.azure.net'}, 'sites': {'privatelink.azurewebsites.net'},
        'blob': {'privatelink.blob.core.windows.net'}, 'queue': {'privatelink.queue.core.windows.net'},
        'table': {'privatelink.table.core.windows.net'},
        'azuremonitor': {
            'privatelink.monitor.azure.com', 'privatelink.oms.opinsights.azure.com', 'privatelink.ods.opinsights.azure.com',
            'privatelink.agentsvc.azure-automation.net', 'privatelink.blob.core.windows.net'},
    }
    links = {}
    for endpoint in of_kind(found, 'Microsoft.Network/privateEndpoints'):
        properties = endpoint.body['properties']
        link = properties['privateLinkServiceConnections'][0]['properties']
        part = link['groupIds'][0]
        links[(link['privateLinkServiceId'], part)] = endpoint
        resolved = {zone.split('/')[-1] for zone in properties.get('zones', [])}
        if resolved != zones[part]:
            yield f'{endpoint.name}: resolves in {sorted(resolved)} and not in {sorted(zones[part])}'
    for resource in found:
        for prefix, part in wanted.get(resource.kind, []):
            if resource.name.startswith(prefix) and (resource.id, part) not in links:
                yield f'{resource.name}: no private endpoint for {part}'
    linked = {r.id.split('/virtualNetworkLinks/')[0].split('/')[-1] for r in of_kind(found, 'Microsoft.Network/privateDnsZones/virtualNetworkLinks')}
    for zone in of_kind(found, 'Microsoft.Network/privateDnsZones'):
        if zone.name not in linked:
            yield f'{zone.name}: known to no network'


def subnets(found):
    """Every subnet has its rules, every app its own delegated subnet and one way out."""
    groups = {r.id: r for r in of_kind(found, 'Microsoft.Network/networkSecurityGroups')}
    for group in groups.values():
        last = max(group.body['properties']['securityRules'], key=lambda rule: rule['properties']['priority'])['properties']
        if (last['access'], last['destinationAddressPrefix'], last['priority']) != ('Deny', '*', 4096):
            yield f'{group.name}: what no rule names is not denied'
    by_id = {r.id: r for r in of_kind(found, 'Microsoft.Network/virtualNetworks/subnets')}
    for subnet in by_id.values():
        p = subnet.body['properties']
        if subnet.name.startswith('AzureFirewall'):
            continue
        if p.get('networkSecurityGroup', {}).get('id') not in groups:
            yield f'{subnet.name}: no network security group'
        if p.get('defaultOutboundAccess') is not False:
            yield f'{subnet.name}: has the default way out to the internet'
        if subnet.name == 'endpoints':
            if p.get('privateEndpointNetworkPolicies') != 'Enabled':
                yield 'endpoints: rules do not apply to private endpoints'
        elif not (p.get('routeTable') or p.get('natGateway')):
            yield f'{subnet.name}: no way out is given'
    used = []
    for site in of_kind(found, 'Microsoft.Web/sites'):
        subnet = by_id.get(site.body['properties'].get('virtualNetworkSubnetId'))
        used.append(subnet)
        delegated = subnet and [d['properties']['serviceName'] for d in subnet.body['properties'].get('delegations', [])]
        if delegated != ['Microsoft.App/environments']:
            yield f'{site.name}: its subnet is not delegated to Flex Consumption'
        if subnet and '_' in subnet.name:
            yield f'{subnet.name}: Flex Consumption takes no underscore'
    if len(set(map(id, used))) != len(used):
        yield 'two apps share a subnet'


def unlogged(found):
    """Networks whose flows are not logged where some are, and logs that a key would open."""
    logs = of_kind(found, 'Microsoft.Network/networkWatchers/flowLogs')
    logged = {log.body['properties']['targetResourceId'] for log in logs}
    for network in of_kind(found, 'Microsoft.Network/virtualNetworks'):
        if logs and network.id not in logged:
            yield f'{network.name}: its flows are not logged'
    for log in logs:
        p = log.body['properties']
        if not p['enabled'] or not p['retentionPolicy']['enabled']:
            yield f'{log.name}: logs nothing, or for ever'
        if log.body.get('identity', {}).get('type') != 'UserAssigned':
            yield f'{log.name}: is written with a key'
        if not p['storageId'].split('/')[-1].startswith('stflow'):
            yield f'{log.name}: shares the account {p["storageId"].split("/")[-1]}'


def lineage(kind):
    """A kind and those that it is a child of: what a parent logs, it logs for its children."""
    steps = kind.split('/')
    return ['/'.join(steps[:count]) for count in range(len(steps), 1, -1)]


def undiagnosed(found):
    """Resources whose logs and metrics go nowhere."""
    settings = {}
    for setting in of_kind(found, 'Microsoft.Insights/diagnosticSettings'):
        p = setting.body['properties']
        if not p.get('workspaceId', '').split('/')[-1].startswith('log-bulkhead-'):
            yield f'{setting.scope}: its diagnostics do not go to the workspace'
        if not p.get('logs') and not p.get('metrics'):
            yield f'{setting.scope}: its diagnostics are empty'
        settings[setting.scope] = p
    for resource in found:
        if resource.kind in DIAGNOSED:
            if resource.id not in settings:
                yield f'{resource.name}: no diagnostic setting ({resource.kind})'
        elif not any(kind in DIAGNOSED or kind in SILENT for kind in lineage(resource.kind)):
            yield f'{resource.name}: nothing is known of diagnostics of {resource.kind}'
    for resource in found:
        if re.fullmatch(r'Microsoft.Storage/storageAccounts/\w+Services/\w+', resource.kind):
            service = resource.id.rsplit('/', 2)[0]
            if service not in settings:
                yield f'{service.split("/", 8)[-1]}: no diagnostic setting'


def untagged(found):
    """Resources that could carry tags and do not."""
    for resource in found:
        if 'location' in resource.body and 'properties' in resource.body or resource.kind == 'Microsoft.Resources/resourceGroups':
            tags = resource.body.get('tags', {})
            if tags.get('system') != 'bulkhead' or 'environment' not in tags:
                yield f'{resource.name}: tags are {tags}'


def short(scope):
    """A scope as people say it: topics/orders, queues/payments, account."""
    if '/dbs/' in scope:
        return 'store ' + scope.split('/dbs/')[1].replace('/colls/', '/')
    parts = scope.split('/providers/')[1].split('/')
    kind = {'namespaces': 'bus', 'storageAccounts': 'storage', 'topics': 'grid', 'components': 'insights'}[parts[1]]
    account = re.match(r'sthost|stpay|stevent|stflow', parts[2]) if kind == 'storage' else None
    rest = [p for p in parts[3:] if p not in ('blobServices', 'queueServices', 'default')]
    return ' '.join([account[0] if account else kind, '/'.join(rest)]).strip()


def roles(found):
    """{(principal, role, scope)}: who may do what; principals and scopes as people say them."""
    out = set()
    for resource in found:
        p = resource.body.get('properties', {})
        if resource.kind == 'Microsoft.Authorization/roleAssignments':
            scope = resource.scope
        elif resource.kind.endswith('/sqlRoleAssignments'):
            scope = p['scope']
        else:
            continue
        role = p['roleDefinitionId'].split('/')[-1]
        name = 'Bulkhead metadata reader' if 'metadata-reader' in p['roleDefinitionId'] else ROLE_NAMES.get(role, role)
        principal = re.sub(r'^principal\((?:id-)?(.*?)(?:-dev)?(?:-abcdef)?\)$', r'\1', p['principalId'])
        out.add(('event-grid' if principal.startswith('evgt-') else principal, name, short(scope)))
    return out


def settings(found):
    """{app: {setting: value}}; a setting that is there twice is a mistake."""
    out = {}
    for site in of_kind(found, 'Microsoft.Web/sites'):
        app = site.body['tags']['azd-service-name']
        pairs = [(s['name'], s['value']) for s in site.body['properties']['siteConfig']['appSettings']]
        assert len(dict(pairs)) == len(pairs), f'{app} has a setting twice'
        out[app] = dict(pairs)
    return out


def alerts(found):
    """{name: (severity, what it looks at, condition, runbook, whether somebody is told)}."""
    out = {}
    for resource in found:
        p = resource.body.get('properties', {})
        name = re.sub(r'^alert-|-dev$', '', resource.name)
        runbook = re.search(r'Runbook: \S*/([\w-]+)\.md$', p.get('description', ''))
        if resource.kind == 'Microsoft.Insights/metricAlerts':
            rule = p['criteria']['allOf'][0]
            what, told = rule['metricName'], [a['actionGroupId'] for a in p['actions']]
            how = f'{rule["timeAggregation"]} {rule["operator"]} {rule["threshold"]} in {p["windowSize"]}'
        elif resource.kind == 'Microsoft.Insights/scheduledQueryRules':
            rule = p['criteria']['allOf'][0]
            what, told = 'query', p['actions']['actionGroups']
            how = f'{rule["timeAggregation"]} {rule["operator"]} {rule["threshold"]} in {p["windowSize"]}'
        else:
            continue
        out[name] = (p['severity'], what, how, runbook and runbook[1], bool(told) and p['enabled'])
    return out
