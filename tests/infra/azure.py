"""What Azure would answer where a template asks it: ids, and what is known only once a thing is there.

Both languages are evaluated against the same answers, so that what they deploy can be compared.
"""

SUBSCRIPTION = '11111111-2222-3333-4444-555555555555'
TENANT = '99999999-8888-7777-6666-555555555555'
TOKEN = 'abcdef'


def group_id(name):
    return f'/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}'


def child_id(parent, kind, name):
    """Id of a resource of type `kind` below a resource group or a resource that it is a child of."""
    provider = kind.split('/')[0]
    if f'/providers/{provider}/' in parent and kind.count('/') > 1:
        return f'{parent}/{kind.split("/")[-1]}/{name}'
    return f'{parent}/providers/{kind}/{name}'


def runtime(kind, name, path):
    """The value of a property that Azure fills in; `path` as Bicep writes it. None if unknown."""
    return {
        'Microsoft.ManagedIdentity/userAssignedIdentities': {
            'properties.principalId': f'principal({name})', 'properties.clientId': f'client({name})'},
        'Microsoft.Storage/storageAccounts': {
            'properties.primaryEndpoints': {part: f'https://{name}.{part}.core.windows.net/' for part in ('blob', 'queue', 'table')}},
        'Microsoft.DocumentDB/databaseAccounts': {
            'properties.documentEndpoint': f'https://{name}.documents.azure.com:443/'},
        'Microsoft.Insights/components': {'properties.ConnectionString': f'connection({name})'},
        'Microsoft.EventGrid/topics': {
            'properties.endpoint': f'https://{name}.eventgrid.azure.net/api/events',
            'identity.principalId': f'principal({name})'},
        'Microsoft.Web/sites': {'properties.defaultHostName': f'{name}.azurewebsites.net'},
    }.get(kind, {}).get(path)
