"""Every setting that the code reads is set, by identity, and explained; nothing else is set."""
import json
import re

import checks
import system
from test_topology import TOPOLOGY, bindings

EXAMPLE = (system.ROOT / 'local.settings.json.example').read_text()

# What a connection by identity is made of, by what it connects to.
CONNECTIONS = {
    TOPOLOGY['serviceBus']['connection']: 'fullyQualifiedNamespace',
    TOPOLOGY['cosmos']['connection']: 'accountEndpoint',
    TOPOLOGY['storage']['connection']: 'queueServiceUri',
    TOPOLOGY['eventGrid']['connection']: 'topicEndpointUri',
}
# Settings that are not set in Azure, and why.
UNSET = {
    'OrdersGrid__key': 'a key; the identity has a role instead',
    'CRASH_POINTS': 'for tests',
    'FEED_SESSION_SECONDS': 'its default was chosen for Azure',
    'STACK_URL': 'there is no local stack to break in Azure',
    'OTEL_EXPORTER_OTLP_HEADERS': 'holds a secret: whoever runs a collector that wants one adds it as a Key Vault reference',
}
OF_ONE_APP = {
    'BANK_URL': {'payments', 'outbox'}, 'CUSTOMER_ORDERS_PER_SECOND': {'order-api'},
    **{name: {'order-api'} for name in ('AUTH_MODE', 'AUTH_ISSUER', 'AUTH_AUDIENCE', 'AUTH_JWKS_URL', 'AUTH_CUSTOMER_CLAIM')},
}
# What the Functions host and the platform read, and no code of ours.
OF_THE_HOST = {
    'AzureWebJobsStorage__blobServiceUri', 'AzureWebJobsStorage__queueServiceUri', 'AzureWebJobsStorage__tableServiceUri',
    'AzureWebJobsStorage__credential', 'AzureWebJobsStorage__clientId', 'APPLICATIONINSIGHTS_CONNECTION_STRING',
    'APPLICATIONINSIGHTS_AUTHENTICATION_STRING',
}
OF_THE_HOST_OF = {
    'order-api': {'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'},
    'outbox': {'AzureFunctionsJobHost__extensions__cosmosDB__connectionMode',
               'AzureFunctionsJobHost__logging__applicationInsights__samplingSettings__isEnabled'},
}
# Flex Consumption takes none of these.
REFUSED = re.compile(r'FUNCTIONS_WORKER_RUNTIME|FUNCTIONS_EXTENSION_VERSION|WEBSITE_CONTENT|WEBSITE_RUN_FROM_PACKAGE|WEBSITE_TIME_ZONE')


def names():
    """What the code reads: the list in functions/settings.rs."""
    source = (system.ROOT / 'functions/settings.rs').read_text()
    listed = re.search(r'pub const NAMES: \[&str; (\d+)\] = \[(.*?)\];', source, re.S)
    found = re.findall(r'"([^"]+)"', listed[2])
    assert len(found) == int(listed[1])
    return found


def connections(app):
    """Connections that the app needs: its triggers and outputs, and what all of the code speaks to."""
    used = {binding['connection'] for name, _, binding in bindings() if name == app and 'connection' in binding}
    used |= {TOPOLOGY['serviceBus']['connection'], TOPOLOGY['cosmos']['connection']}
    if app in ('order-api', 'outbox'):
        used.add(TOPOLOGY['storage']['connection'])  # the poison queue for operators, both to be counted
    if app == 'notification':
        used.add(TOPOLOGY['eventGrid']['connection'])
    return used


def expected(app):
    out = set(OF_THE_HOST) | OF_THE_HOST_OF.get(app, set())
    for name in names():
        base = name.split('__')[0]
        if base in CONNECTIONS:
            if base in connections(app):
                out |= {f'{base}__{CONNECTIONS[base]}', f'{base}__credential', f'{base}__clientId'}
        elif name not in UNSET and app in OF_ONE_APP.get(name, {app}):
            out.add(name)
    return out


def test_each_app_has_the_settings_that_it_reads_and_no_other(found):
    for app, settings in checks.settings(found).items():
        assert settings.keys() == expected(app), app


def test_every_setting_of_the_code_is_set_somewhere_or_its_absence_explained(found):
    everywhere = {name for settings in checks.settings(found).values() for name in settings}
    for name in names():
        base = name.split('__')[0]
        somewhere = name in everywhere or (base in CONNECTIONS and f'{base}__{CONNECTIONS[base]}' in everywhere)
        assert somewhere or UNSET[name], name
        assert not (name in everywhere and name in UNSET), name


def test_no_setting_is_a_key_and_each_says_whose_identity(found):
    for site in checks.of_kind(found, 'Microsoft.Web/sites'):
        app = site.body['tags']['azd-service-name']
        settings = checks.settings([site])[app]
        (identity,) = site.body['identity']['userAssignedIdentities']
        client = f'client({identity.split("/")[-1]})'
        for name, value in settings.items():
            assert not REFUSED.search(name), f'{app}: Flex Consumption takes no {name}'
            assert not re.search(r'key=|secret=|password=|signature=', value, re.I), f'{app}: {name}'
            assert isinstance(value, str), f'{app}: {name} is no string'
            if name.endswith('__credential'):
                assert value == 'managedidentity'
                assert settings[name.replace('__credential', '__clientId')] == client
            if name.endswith(('Uri', 'Endpoint', 'Namespace')):
                assert name.rsplit('__', 1)[0] + '__credential' in settings
        assert settings['FAULTS_ALLOWED'] == 'false' and settings['LOG_FORMAT'] == 'json'
        # Host and handler send telemetry by this identity.
        assert settings['APPLICATIONINSIGHTS_CONNECTION_STRING'].startswith('connection(')
        assert settings['APPLICATIONINSIGHTS_AUTHENTICATION_STRING'] == f'Authorization=AAD;ClientId={client}'
        for plain in ('AzureWebJobsStorage', *CONNECTIONS):
            assert plain not in settings, f'{app}: {plain} would be taken for a connection string'


def test_every_setting_is_explained_in_the_example(found):
    for app, settings in checks.settings(found).items():
        for name in settings:
            assert re.search(rf'\b{re.escape(name)}\b', EXAMPLE), f'{name} (of {app}) is not in local.settings.json.example'


def test_the_routes_without_sign_in_are_those_of_the_api(found):
    """What App Service Authentication lets through is what the API calls public, and the portal's files."""
    routes = (system.ROOT / 'functions/access/routes.rs').read_text()
    # Paths are excluded one by one. Whoever follows a problem to its explanation has signed in.
    named = {'/{file}', '/problems/{name}'}
    public = set(re.findall(r'route\("GET", "([^"]+)", Need::Public\)', routes)) - named
    portal = (system.ROOT / 'functions/order_api/portal.rs').read_text().split('#[cfg(test)]')[0]
    assets = set(re.findall(r'^    "([\w-]+\.\w+)",$', portal, re.M)) - {'index.html'}
    pages = set(re.findall(r'"([\w-]+)"', re.search(r'const PAGES: [^=]*= \[(.*?)\]', portal, re.S)[1]))
    assert 'app.js' in assets and 'orders' in pages, 'portal.rs names its files and pages'
    (authentication,) = checks.of_kind(found, 'Microsoft.Web/sites/config')
    assert set(authentication.body['properties']['globalValidation']['excludedPaths']) == public | {f'/{a}' for a in assets | pages}
    assert json.loads((system.ROOT / 'infra/network.json').read_text())['publicPaths'][0] == '/'
