"""The checks find what they are there for: each defect is put into a copy, and has to be found."""
import shutil

import pytest

import checks
import system

# (file, what is there, what is there instead, posture, check, words of the finding)
DEFECTS = [
    ('bicep/modules/messaging.bicep', 'disableLocalAuth: true', 'disableLocalAuth: false', 'default', 'keys', 'disableLocalAuth'),
    ('bicep/modules/storage.bicep', 'allowSharedKeyAccess: false', 'allowSharedKeyAccess: true', 'default', 'keys', 'allowSharedKeyAccess'),
    ('bicep/modules/app.bicep', "name: 'scm'", "name: 'ftp'", 'default', 'keys', 'publishing passwords'),
    ('bicep/modules/app.bicep', "type: 'UserAssignedIdentity'", "type: 'StorageAccountConnectionString'", 'default', 'keys', 'package is read by'),
    ('bicep/modules/app.bicep', "minTlsVersion: '1.2'", "minTlsVersion: '1.0'", 'default', 'encryption', 'minTlsVersion'),
    ('bicep/modules/app.bicep', 'httpsOnly: true', 'httpsOnly: false', 'default', 'encryption', 'httpsOnly'),
    ('bicep/modules/data.bicep', "publicNetworkAccess: lockedDown ? 'Disabled' : 'Enabled'", "publicNetworkAccess: 'Enabled'", 'lockedDown', 'public', 'publicNetworkAccess'),
    ('bicep/modules/storage.bicep', "bypass: 'AzureServices' } }", "bypass: 'AzureServices', ipRules: [{ value: '203.0.113.7' }] } }", 'lockedDown', 'public', 'stevent'),
    ('bicep/modules/storage.bicep', "properties: union(common, lockedDown ? trusted : open)", 'properties: union(common, open)', 'lockedDown', 'public', 'lets everybody in'),
    ('bicep/main.bicep', "        { name: 'host-table', id: storage.outputs.hostId, part: 'table', zones: ['table'] }\n", '', 'lockedDown', 'public', 'no private endpoint for table'),
    ('bicep/main.bicep', "part: 'Sql', zones: ['cosmos']", "part: 'Sql', zones: ['serviceBus']", 'lockedDown', 'public', 'resolves in'),
    ('bicep/modules/network.bicep', "privateEndpointNetworkPolicies: 'Enabled'", "privateEndpointNetworkPolicies: 'Disabled'", 'lockedDown', 'public', 'do not apply'),
    ('bicep/modules/network.bicep', "serviceName: 'Microsoft.App/environments'", "serviceName: 'Microsoft.Web/serverFarms'", 'lockedDown', 'public', 'not delegated'),
    ('bicep/modules/network.bicep', "networkSecurityGroup: { id: securityGroups[indexOf(securityNames, 'functions')].id }\n", '\n', 'lockedDown', 'public', 'no network security group'),
    ('bicep/modules/endpoints.bicep', "queryAccessMode: 'PrivateOnly'", "queryAccessMode: 'Open'", 'lockedDown', 'public', 'telemetry'),
    ('bicep/modules/eventing.bicep', '  scope: grid\n  properties: {\n    workspaceId: workspaceId', '  scope: account\n  properties: {\n    workspaceId: workspaceId', 'default', 'undiagnosed', 'evgt-'),
    ('bicep/modules/storage.bicep', 'scope: paymentsQueues\n  properties', 'scope: eventQueues\n  properties', 'default', 'undiagnosed', 'stpay'),
    ('bicep/modules/data.bicep', '  tags: tags\n', '', 'default', 'untagged', 'cosmos-'),
    ('bicep/main.bicep', ", ownHub ? [{ name: 'hub', id: network!.outputs.hubId }] : [])", ')', 'lockedDown', 'public', 'flows are not logged'),
    ('bicep/main.bicep', 'storageId: storage.outputs.flowsId', 'storageId: storage.outputs.hostId', 'lockedDown', 'public', 'shares the account'),
    ('terraform/flow-logs.tf', 'type         = "UserAssigned"', 'type         = "SystemAssigned"', 'lockedDown', 'public', 'written with a key'),
    ('terraform/storage.tf', 'shared_access_key_enabled        = false', 'shared_access_key_enabled        = true', 'default', 'keys', 'allowSharedKeyAccess'),
    ('terraform/eventing.tf', 'public_network_access_enabled = !local.locked_down', 'public_network_access_enabled = true', 'lockedDown', 'public', 'evgt-'),
    ('terraform/endpoints.tf', '{ for name in local.app_names :', '{ for name in ["order-api"] :', 'lockedDown', 'public', 'no private endpoint for sites'),
    ('terraform/network.tf', '  subnet_id                 = each.value.id\n', '  subnet_id                 = local.guarded["runner"].id\n', 'lockedDown', 'public', 'no network security group'),
    ('terraform/monitoring.tf', '{ for name, site in azapi_resource.app : "app-${name}"', '{ for name, site in {} : "app-${name}"', 'default', 'undiagnosed', 'Microsoft.Web/sites'),
]


def copy_with(folder, file, old, new):
    """A copy of infra/ with one change in it."""
    shutil.copytree(system.ROOT / 'infra', folder / 'infra')
    path = folder / 'infra' / file
    text = path.read_text()
    assert old in text, f'{file} has changed: this defect cannot be put into it any more'
    path.write_text(text.replace(old, new))
    return folder / 'infra'


@pytest.mark.parametrize(('file', 'old', 'new', 'posture', 'check', 'words'), DEFECTS, ids=[f'{d[0]} {d[5]}' for d in DEFECTS])
def test_a_defect_is_found(tmp_path, file, old, new, posture, check, words):
    infra = copy_with(tmp_path, file, old, new)
    language = file.split('/')[0]
    at = infra / ('bicep/main.bicep' if language == 'bicep' else 'terraform')
    found = list(system.comparable(system.deploy(language, system.VARIANTS[posture], at)).values())
    findings = list(getattr(checks, check)(found))
    assert any(words in finding for finding in findings), findings


# (file, what is there, what is there instead, words of the difference)
UNEQUAL = [
    ('terraform/messaging.tf', 'lock_duration                             = each.value.lockDuration', 'lock_duration                             = "PT5M"', 'lockDuration'),
    ('terraform/apps.tf', 'LOG_FORMAT                            = "json"', 'LOG_FORMAT                            = "text"', 'LOG_FORMAT'),
    ('terraform/apps.tf', 'BANK_URL = var.bank_url', 'BANK_ADDRESS = var.bank_url', 'BANK_ADDRESS'),
    ('terraform/roles.tf', 'each.value.role == "serviceBusConsumer" ? local.consumer_role', 'each.value.role == "serviceBusConsumer" ? "serviceBusDataOwner"', 'only in terraform'),
    ('terraform/data.tf', 'default_ttl           = lookup(each.value, "defaultTtl", null)', 'default_ttl           = null', 'defaultTtl'),
    ('terraform/alerts.tf', 'threshold        = each.value.threshold\n    dynamic', 'threshold        = 7\n    dynamic', 'threshold'),
    ('bicep/modules/storage.bicep', "  name: storage.eventQueue\n", "  name: 'events'\n", 'only in bicep'),
    ('bicep/modules/network.bicep', 'cidrSubnet(spokeAddressPrefix, 27, i)', 'cidrSubnet(spokeAddressPrefix, 27, i + 1)', 'addressPrefix'),
    ('bicep/modules/network.bicep', "targetFqdns: concat(rules.egress.functions, outsideHosts)", "targetFqdns: ['*']", 'targetFqdns'),
    ('bicep/modules/alerts.bicep', "{ name: 'most', threshold: 80, kind: 'Actual' }\n", '', 'notifications'),
]


@pytest.mark.parametrize(('file', 'old', 'new', 'words'), UNEQUAL, ids=[f'{d[0]} {d[3]}' for d in UNEQUAL])
def test_a_difference_is_found(tmp_path, file, old, new, words):
    infra = copy_with(tmp_path, file, old, new)
    extra = system.VARIANTS['lockedDown']
    bicep = system.deploy('bicep', extra, infra / 'bicep/main.bicep')
    terraform = system.deploy('terraform', extra, infra / 'terraform')
    findings = system.differences(bicep, terraform)
    assert any(words in finding for finding in findings), findings


# Changes of the shared tables: the two languages still agree, so the code has to object.
ROLES = [
    ('"role": "storageQueueDataMessageSender", "scope": "queue", "entity": "payments"', '"role": "storageQueueDataMessageProcessor", "scope": "queue", "entity": "payments"'),
    ('{"principal": "notification", "role": "serviceBusConsumer", "scope": "subscription", "entity": "notification-sub"',
     '{"principal": "notification", "role": "serviceBusConsumer", "scope": "subscription", "entity": "billing-sub"'),
    ('{"principal": "billing", "role": "cosmosDataContributor", "container": "orders"', '{"principal": "billing", "role": "cosmosDataContributor", "container": "stock"'),
]


@pytest.mark.parametrize(('old', 'new'), ROLES)
def test_a_wrong_role_is_found(tmp_path, language, old, new):
    infra = copy_with(tmp_path, 'roles.json', old, new)
    found = system.deploy(language, {}, infra / ('bicep/main.bicep' if language == 'bicep' else 'terraform'))
    assert checks.roles(found) != checks.roles(system.deployed(language, 'default'))
    from test_roles import test_every_identity_holds_exactly_what_it_needs as check
    with pytest.raises(AssertionError):
        check(found, 'default')


@pytest.mark.parametrize(('old', 'new'), [
    ('{ BANK_URL: bankUrl }', '{ BANK: bankUrl }'),
    ("FAULTS_ALLOWED: 'false'", "FAULTS_ALLOWED: 'true'"),
    ("  OrdersStore__credential: 'managedidentity'\n", ''),
    ("  LOG_FORMAT: 'json'\n", "  LOG_FORMAT: 'json'\n  FUNCTIONS_WORKER_RUNTIME: 'custom'\n"),
    ("OrdersBus__fullyQualifiedNamespace: busHost", "OrdersBus: 'Endpoint=sb://x/;SharedAccessKeyName=a;SharedAccessKey=b'"),
])
def test_a_wrong_setting_is_found(tmp_path, old, new):
    infra = copy_with(tmp_path, 'bicep/modules/apps.bicep', old, new)
    found = system.deploy('bicep', {}, infra / 'bicep/main.bicep')
    import test_settings
    with pytest.raises((AssertionError, KeyError)):
        test_settings.test_each_app_has_the_settings_that_it_reads_and_no_other(found)
        test_settings.test_no_setting_is_a_key_and_each_says_whose_identity(found)
