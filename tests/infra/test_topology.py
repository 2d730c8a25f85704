"""The topology, every function.json and what is deployed name the same things, with the same limits."""
import json

import checks
import system

TOPOLOGY = json.loads((system.ROOT / 'infra/topology.json').read_text())


def bindings():
    """(app, function, binding) of every function.json."""
    for app in TOPOLOGY['apps']:
        for function in app['functions']:
            path = system.ROOT / 'functions' / app['folder'] / function / 'function.json'
            for binding in json.loads(path.read_text())['bindings']:
                yield app['name'], function, binding


def test_every_entity_of_the_topology_is_deployed_with_its_limits(found):
    def body(kind, name):
        (resource,) = [r for r in checks.of_kind(found, kind) if r.name == name]
        return resource.body['properties']

    for topic in TOPOLOGY['serviceBus']['topics']:
        deployed = body('Microsoft.ServiceBus/namespaces/topics', topic['name'])
        for limit in ('requiresDuplicateDetection', 'duplicateDetectionHistoryTimeWindow', 'defaultMessageTimeToLive', 'maxSizeInMegabytes'):
            assert deployed[limit] == topic[limit], limit
        for subscription in topic['subscriptions']:
            deployed = body('Microsoft.ServiceBus/namespaces/topics/subscriptions', subscription['name'])
            for limit in ('lockDuration', 'maxDeliveryCount', 'defaultMessageTimeToLive', 'deadLetteringOnMessageExpiration'):
                assert deployed[limit] == subscription[limit], limit
            (rule,) = subscription['rules']
            deployed = body('Microsoft.ServiceBus/namespaces/topics/subscriptions/rules', rule['name'])
            assert deployed['sqlFilter']['sqlExpression'] == rule['sqlExpression']
    for database in TOPOLOGY['cosmos']['databases']:
        body('Microsoft.DocumentDB/databaseAccounts/sqlDatabases', database['id'])
        for container in database['containers']:
            deployed = body('Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers', container['id'])['resource']
            assert deployed == container
    queues = {r.id.split('/')[-5][:5] + '/' + r.name for r in checks.of_kind(found, 'Microsoft.Storage/storageAccounts/queueServices/queues')}
    storage = TOPOLOGY['storage']
    assert queues == {f'stpay/{queue}' for queue in storage['queues']} | {f'steve/{storage["eventQueue"]}'}
    for topic in TOPOLOGY['eventGrid']['topics']:
        for subscription in topic['subscriptions']:
            deployed = body('Microsoft.EventGrid/topics/eventSubscriptions', subscription['name'])
            assert deployed['filter']['includedEventTypes'] == subscription['includedEventTypes']
            assert deployed['retryPolicy']['maxDeliveryAttempts'] == subscription['maxDeliveryAttempts']
            assert deployed['retryPolicy']['eventTimeToLiveInMinutes'] == subscription['eventTimeToLiveInMinutes']
    sites = {s.body['tags']['azd-service-name'] for s in checks.of_kind(found, 'Microsoft.Web/sites')}
    assert sites == {app['name'] for app in TOPOLOGY['apps']}


def test_nothing_is_deployed_that_the_topology_does_not_know(found):
    subscriptions = [s for topic in TOPOLOGY['serviceBus']['topics'] for s in topic['subscriptions']]
    kinds = {
        'Microsoft.ServiceBus/namespaces/topics/subscriptions': len(subscriptions),
        'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules': len(subscriptions),
        'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers': len(TOPOLOGY['cosmos']['databases'][0]['containers']),
    }
    for kind, count in kinds.items():
        assert len(checks.of_kind(found, kind)) == count, kind


def test_a_new_subscription_lets_nothing_in_by_itself():
    """Azure adds a rule that lets everything in: Bicep turns it round, azurerm deletes it."""
    rules = [r for r in system.deployed('bicep', 'default') if r.name == '$Default']
    assert len(rules) == 3
    assert all(r.body['properties']['sqlFilter']['sqlExpression'] == '1=0' for r in rules)
    import hcl
    folder = hcl.Folder(system.TERRAFORM, system.parameters('terraform', {}))
    (features,) = [block for name, _, block in folder.providers['azurerm'].blocks if name == 'features']
    (bus,) = [block for name, _, block in features.blocks if name == 'servicebus']
    assert bus.attributes['auto_delete_subscription_default_rule'] == ('lit', True)


def test_every_binding_has_its_entity():
    topics = {t['name']: {s['name'] for s in t['subscriptions']} for t in TOPOLOGY['serviceBus']['topics']}
    containers = {d['id']: {c['id'] for c in d['containers']} for d in TOPOLOGY['cosmos']['databases']}
    known = {'httpTrigger', 'http', 'timerTrigger', 'serviceBusTrigger', 'queueTrigger', 'queue', 'cosmosDBTrigger'}
    timers = {}
    for _, function, binding in bindings():
        kind = binding['type']
        assert kind in known, f'{function}: the tests know nothing of {kind}'
        if kind == 'serviceBusTrigger':
            assert binding['subscriptionName'] in topics[binding['topicName']]
        elif kind in ('queueTrigger', 'queue'):
            assert binding['queueName'] in TOPOLOGY['storage']['queues']
        elif kind == 'cosmosDBTrigger':
            assert binding['containerName'] in containers[binding['databaseName']]
            assert binding['leaseContainerName'] in containers[binding['leaseDatabaseName']]
            # Data-plane roles cannot create containers.
            assert not binding.get('createLeaseContainerIfNotExists', False)
        elif kind == 'timerTrigger':
            timers[function] = binding['schedule']
    assert timers == TOPOLOGY['schedules']
