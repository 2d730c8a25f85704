"""Every identity holds what its bindings and its code need, and nothing else."""
import checks
import system
from test_topology import TOPOLOGY, bindings

SENDER, RECEIVER, OWNER = (f'Azure Service Bus Data {what}' for what in ('Sender', 'Receiver', 'Owner'))
QUEUE = {what: f'Storage Queue Data {what}' for what in ('Reader', 'Message Processor', 'Message Sender')}
READS, WRITES = 'Cosmos DB Built-in Data Reader', 'Cosmos DB Built-in Data Contributor'

# What the code does besides its bindings: who, role, scope, and the file with the words that need it.
BY_CODE = [
    *[(app['name'], SENDER, 'bus topics/orders', 'functions/main.rs', 'Outbox::new') for app in TOPOLOGY['apps']],
    *[(app['name'], WRITES, 'store bulkhead/orders', 'functions/store/mod.rs', '"orders"') for app in TOPOLOGY['apps']],
    *[(app['name'], 'Bulkhead metadata reader', 'store bulkhead', 'functions/main.rs', 'warm_up') for app in TOPOLOGY['apps']],
    *[('order-api', RECEIVER, f'bus topics/orders/subscriptions/{s["name"]}', 'functions/order_api/ops/shelf.rs', 'SubQueue::DeadLetter')
      for s in TOPOLOGY['serviceBus']['topics'][0]['subscriptions']],
    ('order-api', QUEUE['Reader'], 'stpay queues/payments-poison', 'functions/order_api/ops/shelf.rs', 'approximate_count'),
    ('order-api', QUEUE['Message Processor'], 'stpay queues/payments-poison', 'functions/order_api/ops/source.rs', 'POISON_QUEUE'),
    ('order-api', READS, 'store bulkhead/stock', 'functions/order_api/shop.rs', 'products()'),
    ('order-api', WRITES, 'store bulkhead/audit', 'functions/store/audit.rs', 'container("audit")'),
    ('inventory', WRITES, 'store bulkhead/stock', 'functions/inventory/mod.rs', 'store.reserve'),
    ('outbox', READS, 'store bulkhead/stock', 'functions/outbox/reconcile.rs', 'stock_level'),
    *[('outbox', RECEIVER, f'bus topics/orders/subscriptions/{s["name"]}', 'functions/outbox/backlog.rs', 'peek_without_body')
      for s in TOPOLOGY['serviceBus']['topics'][0]['subscriptions']],
    *[('outbox', QUEUE['Reader'], f'stpay queues/{queue}', 'functions/outbox/backlog.rs', 'approximate_count')
      for queue in TOPOLOGY['storage']['queues']],
    ('notification', 'EventGrid Data Sender', 'grid', 'functions/main.rs', 'Grid::new'),
]
# What the Functions host needs of every app, and Event Grid to deliver.
BY_PLATFORM = [
    *[(app['name'], role, scope) for app in TOPOLOGY['apps'] for role, scope in (
        ('Storage Blob Data Owner', 'sthost'), ('Storage Table Data Contributor', 'sthost'), ('Monitoring Metrics Publisher', 'insights'))],
    ('event-grid', QUEUE['Message Sender'], f'stevent queues/{TOPOLOGY["storage"]["eventQueue"]}'),
    ('event-grid', 'Storage Blob Data Contributor', f'stevent containers/{TOPOLOGY["storage"]["eventDeadLetterContainer"]}'),
]


def by_bindings(consumer):
    for app, _, binding in bindings():
        kind = binding['type']
        if kind == 'serviceBusTrigger':
            yield app, consumer, f'bus topics/{binding["topicName"]}/subscriptions/{binding["subscriptionName"]}'
        elif kind == 'queueTrigger':
            yield app, QUEUE['Reader'], f'stpay queues/{binding["queueName"]}'
            yield app, QUEUE['Message Processor'], f'stpay queues/{binding["queueName"]}'
            yield app, QUEUE['Message Sender'], f'stpay queues/{binding["queueName"]}-poison'
        elif kind == 'queue':
            yield app, QUEUE['Message Sender'], f'stpay queues/{binding["queueName"]}'
        elif kind == 'cosmosDBTrigger':
            yield app, WRITES, f'store {binding["leaseDatabaseName"]}/{binding["leaseContainerName"]}'
            yield app, WRITES, f'store {binding["databaseName"]}/{binding["containerName"]}'


def test_every_identity_holds_exactly_what_it_needs(found, variant):
    owner = system.VARIANTS[variant].get('consumerServiceBusRole') == 'owner'
    needed = {*by_bindings(OWNER if owner else RECEIVER), *BY_PLATFORM, *[entry[:3] for entry in BY_CODE]}
    if system.VARIANTS[variant].get('operatorPrincipalId'):
        needed.add(('somebody', WRITES, 'store bulkhead/stock'))
    if checks.of_kind(found, 'Microsoft.Network/networkWatchers/flowLogs'):
        needed.add(('flow-logs', 'Storage Blob Data Contributor', 'stflow'))
    held = checks.roles(found)
    assert sorted(held - needed) == [], 'held, and not needed'
    assert sorted(needed - held) == [], 'needed, and not held'


def test_what_the_code_is_said_to_do_it_does():
    for app, role, scope, path, words in BY_CODE:
        assert words in (system.ROOT / path).read_text(), f'{path} says {words!r} no more: does {app} need {role} on {scope}?'


def test_no_role_is_wider_than_an_entity(found):
    """Only the host's own storage, that of the flow logs and telemetry are given whole; nothing is given on the group."""
    for who, role, scope in checks.roles(found):
        assert ' ' in scope or (scope, role) in {
            ('sthost', 'Storage Blob Data Owner'), ('sthost', 'Storage Table Data Contributor'),
            ('insights', 'Monitoring Metrics Publisher'), ('stflow', 'Storage Blob Data Contributor'), ('grid', 'EventGrid Data Sender')}, (who, role, scope)


def test_role_ids_are_those_of_the_documentation():
    """https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""
    expected = {
        'Azure Service Bus Data Owner': '090c5cfd-751d-490a-894a-3ce6f1109419',
        'Azure Service Bus Data Sender': '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39',
        'Azure Service Bus Data Receiver': '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0',
        'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b',
        'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe',
        'Storage Queue Data Message Processor': '8a0f0c08-91a1-4084-bc3d-661d67233fed',
        'Storage Queue Data Message Sender': 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a',
        'Storage Queue Data Reader': '19e7f393-937e-4f77-808e-94535e297925',
        'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3',
        'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb',
        'EventGrid Data Sender': 'd5a91429-5739-47e2-a06b-3470a27159e7',
    }
    assert {r['name']: r['id'] for r in checks.ROLES['definitions'].values()} == expected
    used = {a['role'] for a in checks.ROLES['assignments']} - {'serviceBusConsumer'} | {'serviceBusDataOwner', 'serviceBusDataReceiver'}
    assert used == checks.ROLES['definitions'].keys(), 'every definition is used'
