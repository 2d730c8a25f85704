"""No key, connection string or function that fetches one, in any file of the infrastructure."""
import re

import pytest

import system

FILES = [p for p in sorted((system.ROOT / 'infra').rglob('*')) if p.is_file()]

FORBIDDEN = {
    r'\blist(Keys|AccountSas|ServiceSas|Secrets|ConnectionStrings)\b|\.listKeys\(': 'fetches keys',
    r'(AccountKey|SharedAccessKey|SharedAccessSignature|InstrumentationKey)\s*=': 'a connection string',
    r'(primary|secondary)_(access_)?(key|connection_string)|default_primary|primary_\w+_connection_string|instrumentation_key': 'an attribute of azurerm with a key',
    r'authorizationRules|servicebus_\w*authorization_rule': 'a shared access policy',
    r'azurerm_key_vault_secret|client_secret\b': 'a secret',
    r'[?&]sig=|\bsv=\d{4}-': 'a shared access signature',
    r'-----BEGIN': 'a private key',
    r'@secure\(\)|sensitive\s*=\s*true': 'a secret parameter: there is none to give',
    r'[A-Za-z0-9+/]{86}==': 'a key of 64 bytes',
}


def leaks(name, text):
    """What a text has that it must not have."""
    for pattern, why in FORBIDDEN.items():
        for found in re.finditer(pattern, text, re.I):
            line = text.count('\n', 0, found.start()) + 1
            yield f'{name}:{line}: {found[0]!r}, {why}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(system.ROOT)))
def test_there_is_no_secret(path):
    # The one attribute that looks like it: it tells telemetry where to go, and lets nobody in.
    text = path.read_text().replace('azurerm_application_insights.main.connection_string', '')
    assert list(leaks(path.name, text)) == []


@pytest.mark.parametrize('text', [
    "var k = account.listKeys().keys[0].value",
    "listKeys(account.id, '2023-01-01')",
    "value: 'Endpoint=sb://x/;SharedAccessKeyName=a;SharedAccessKey=b'",
    'azurerm_storage_account.host.primary_access_key',
    'azurerm_servicebus_namespace.main.default_primary_connection_string',
    'azurerm_cosmosdb_account.main.primary_key',
    "resource rule 'Microsoft.ServiceBus/namespaces/AuthorizationRules@2024-01-01'",
    '@secure()\nparam password string',
])
def test_secrets_are_recognised(text):
    assert list(leaks('copy', text))
