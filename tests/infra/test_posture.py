"""What holds in every posture, and what the locked-down one adds."""
import checks


def test_nobody_gets_in_with_a_key(found):
    assert list(checks.keys(found)) == []


def test_everything_is_encrypted_on_its_way(found):
    assert list(checks.encryption(found)) == []


def test_everything_says_what_it_does(found):
    assert list(checks.undiagnosed(found)) == []


def test_everything_is_tagged(found):
    assert list(checks.untagged(found)) == []


def test_nothing_is_public_when_locked_down(found, locked):
    assert list(checks.public(found)) == []


def test_the_default_posture_buys_no_network_and_no_premium(language):
    import system
    found = system.deployed(language, 'default')
    assert not [r.name for r in found if r.kind.startswith('Microsoft.Network/')]
    (bus,) = checks.of_kind(found, 'Microsoft.ServiceBus/namespaces')
    assert bus.body['sku']['name'] == 'Standard'
    (store,) = checks.of_kind(found, 'Microsoft.DocumentDB/databaseAccounts')
    assert store.body['properties']['capabilities'] == [{'name': 'EnableServerless'}]


def test_the_locked_down_posture_is_premium_and_spans_zones(language):
    import system
    found = system.deployed(language, 'lockedDown')
    (bus,) = checks.of_kind(found, 'Microsoft.ServiceBus/namespaces')
    assert bus.body['sku'] | {'tier': None} == {'name': 'Premium', 'capacity': 1, 'tier': None}
    (store,) = checks.of_kind(found, 'Microsoft.DocumentDB/databaseAccounts')
    assert not store.body['properties']['capabilities'] and store.body['properties']['locations'][0]['isZoneRedundant']
    for plan in checks.of_kind(found, 'Microsoft.Web/serverfarms'):
        assert plan.body['properties']['zoneRedundant']
    for account in checks.of_kind(found, 'Microsoft.Storage/storageAccounts'):
        assert account.body['sku']['name'] == 'Standard_ZRS'


def test_flows_are_logged_when_locked_down_unless_that_is_switched_off(language):
    import system
    logs = lambda variant: checks.of_kind(system.deployed(language, variant), 'Microsoft.Network/networkWatchers/flowLogs')
    assert {log.name for log in logs('lockedDown')} == {'flow-bulkhead-dev-hub', 'flow-bulkhead-dev-spoke'}
    assert all('/NetworkWatcherRG/' in log.id and '/NetworkWatcher_westeurope/' in log.id for log in logs('lockedDown'))
    # A hub that is somebody else's is somebody else's to log.
    (log,) = logs('lockedDown, existing hub')
    assert log.name == 'flow-bulkhead-dev-spoke' and log.id.startswith(system.WATCHER + '/')
    assert logs('lockedDown, one zone') == logs('default') == []


def test_the_firewall_knows_the_bank_by_name(language):
    import system
    found = system.deployed(language, 'lockedDown')
    (group,) = checks.of_kind(found, 'Microsoft.Network/firewallPolicies/ruleCollectionGroups')
    rules = {rule['name']: rule for rule in group.body['properties']['ruleCollections'][0]['rules']}
    assert 'bank.example' in rules['functions']['targetFqdns']
    (group,) = checks.of_kind(system.deployed(language, 'lockedDown, basic firewall'), 'Microsoft.Network/firewallPolicies/ruleCollectionGroups')
    assert 'collector.example' in group.body['properties']['ruleCollections'][0]['rules'][0]['targetFqdns']
    assert '*' not in rules['functions']['targetFqdns']
    (routes,) = checks.of_kind(found, 'Microsoft.Network/routeTables')
    route = routes.body['properties']['routes'][0]['properties']
    assert (route['addressPrefix'], route['nextHopIpAddress']) == ('0.0.0.0/0', '10.0.0.4')


def test_each_app_is_a_flex_app_of_its_own(found):
    plans, identities = set(), set()
    for site in checks.of_kind(found, 'Microsoft.Web/sites'):
        p = site.body['properties']
        assert p['functionAppConfig']['runtime'] == {'name': 'custom', 'version': '1.0'}
        assert p['functionAppConfig']['scaleAndConcurrency']['instanceMemoryMB'] == 512
        assert len(site.name) <= 32, 'the host id is cut there, and two apps would share locks'
        plans.add(p['serverFarmId'])
        (identity,) = site.body['identity']['userAssignedIdentities']
        identities.add(identity)
        assert p['functionAppConfig']['deployment']['storage']['authentication']['userAssignedIdentityResourceId'] == identity
    assert len(plans) == len(identities) == 6


def test_the_api_asks_who_is_there(found):
    (authentication,) = checks.of_kind(found, 'Microsoft.Web/sites/config')
    p = authentication.body['properties']
    assert authentication.id.split('/')[-3].startswith('order-api-')
    assert p['globalValidation']['unauthenticatedClientAction'] == 'Return401' and p['globalValidation']['requireAuthentication']
    assert p['platform']['enabled'] and p['httpSettings']['requireHttps']
    (api,) = [s for s in checks.of_kind(found, 'Microsoft.Web/sites') if s.name.startswith('order-api-')]
    settings = {s['name'] for s in api.body['properties']['siteConfig']['appSettings']}
    assert p['identityProviders']['azureActiveDirectory']['registration']['clientSecretSettingName'] in settings
    for site in checks.of_kind(found, 'Microsoft.Web/sites'):
        closed = site.body['properties']['siteConfig']['ipSecurityRestrictionsDefaultAction'] == 'Deny'
        assert closed == (site is not api), site.name
