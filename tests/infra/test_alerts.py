"""Every alert tells somebody, names a runbook that exists, and looks at something that is there."""
import json
import re

import pytest

import checks
import system

ALERTS = json.loads((system.ROOT / 'infra/alerts.json').read_text())
RUNBOOKS = system.ROOT / 'docs/runbooks'
OBSERVABILITY = (system.ROOT / 'docs/observability.md').read_text()
SOURCES = [path.read_text() for folder in ('functions', 'crates') for path in sorted((system.ROOT / folder).rglob('*.rs'))]
QUERIES = {
    **{f'alert {a["name"]}': '\n'.join([*ALERTS['prelude'], *a['query']]) for a in ALERTS['log']},
    **{path.name: path.read_text() for path in sorted((system.ROOT / 'infra/kql').glob('*.kql'))},
    'workbook.json': '\n'.join(
        item['content']['query'] for item in json.loads((system.ROOT / 'infra/workbook.json').read_text())['items'] if item['type'] == 3),
}
TABLES = {'AppMetrics', 'AppTraces', 'AppRequests', 'AppDependencies'}
# What names a metric in a query.
METRIC = re.compile(r"Name == '([\w.]+)'|signal\('([\w.]+)'\)|Name in \(([^)]*)\)")

# What the issue of these alerts asks for, and the alerts that answer it.
ASKED = {
    'oldest message age and active count': {'oldest-message', 'bus-active-messages', 'backlog-by-source'},
    'dead-letter growth per subscription': {'bus-dead-letters', 'dead-letters-by-source', 'dead-letters-old'},
    'payments queue and poison queue': {'payments-queue-length', 'backlog-by-source', 'dead-letters-by-source'},
    'outbox lag': {'outbox-lag', 'events-parked', 'sweep-silent'},
    'stuck orders': {'orders-stuck'},
    'function failures': {'function-failures'},
    'API 5xx and latency': {'api-server-errors', 'api-latency'},
    'Cosmos DB throttling': {'store-throttled', 'store-request-units'},
    'Service Bus throttling': {'bus-throttled', 'bus-cpu'},
    'Event Grid delivery failures and dead letters': {'grid-delivery-failures', 'grid-dead-letters', 'grid-dropped'},
}


def instruments():
    """{metric: Counter, Gauge or Histogram} of all that the code makes, its tests aside."""
    found = {}
    for source in SOURCES:
        code = source.split('#[cfg(test)]\nmod ')[0]
        found |= {name: kind for kind, name in re.findall(r'\b(Counter|Gauge|Histogram)::new\(\s*"([\w.]+)"', code)}
    return found


def asked(query):
    """(metrics, what is done with them) for every part of the query that looks at metrics."""
    places = list(METRIC.finditer(query))
    for place, after in zip(places, [*places[1:], None]):
        names = [place[1] or place[2]] if not place[3] else re.findall(r"'([\w.]+)'", place[3])
        yield names, query[place.end():after.start() if after else len(query)]


def test_every_alert_tells_somebody_and_has_a_runbook(found):
    alerts = checks.alerts(found)
    for name, (severity, _, _, runbook, told) in alerts.items():
        assert told, f'{name} tells nobody'
        assert severity in range(5), name
        assert runbook and (RUNBOOKS / f'{runbook}.md').exists(), f'{name}: docs/runbooks/{runbook}.md'
    (budget,) = checks.of_kind(found, 'Microsoft.Consumption/budgets')
    notices = budget.body['properties']['notifications']
    assert {(n['threshold'], n['thresholdType']) for n in notices} == {(50, 'Actual'), (80, 'Actual'), (100, 'Actual'), (100, 'Forecasted')}
    assert all(n['contactEmails'] and n['contactGroups'] for n in notices)


def test_everything_that_was_asked_for_has_an_alert(language):
    names = set(checks.alerts(system.deployed(language, 'lockedDown')))
    for what, wanted in ASKED.items():
        assert wanted <= names, what
    assert 'firewall-health' in names


def test_every_metric_alert_looks_at_something_that_is_deployed(found):
    ids = {r.id for r in found}
    for alert in checks.of_kind(found, 'Microsoft.Insights/metricAlerts'):
        (scope,) = alert.body['properties']['scopes']
        rule = alert.body['properties']['criteria']['allOf'][0]
        assert scope.removesuffix('/queueServices/default') in ids, alert.name
        steps = scope.split('/providers/')[1].split('/')
        kind = '/'.join([steps[0], *steps[1::2]])
        assert rule['metricNamespace'] == kind, f'{alert.name}: {rule["metricNamespace"]} is not what {kind} reports under'


def test_alerts_without_anything_to_measure_are_not_deployed(language):
    default, nat = (set(checks.alerts(system.deployed(language, v))) for v in ('default', 'lockedDown, NAT gateway'))
    assert not {'firewall-health', 'bus-cpu', 'store-request-units'} & default
    assert 'bus-cpu' in nat and 'firewall-health' not in nat


@pytest.mark.parametrize('name', QUERIES)
def test_queries_ask_for_what_is_there(name):
    """Tables that exist, metrics that docs/observability.md lists, log lines that the code writes."""
    query = QUERIES[name]
    used = set(re.findall(r'\b(App[A-Z]\w+)\b', query)) - {'AppRoleName'}
    assert used and used <= TABLES, used
    functions = {f for app in json.loads((system.ROOT / 'infra/topology.json').read_text())['apps'] for f in app['functions']}
    for metric in {name for names, _ in asked(query) for name in names} - functions:
        assert metric in instruments(), f'no code makes the metric {metric}'
        assert f'`{metric}`' in OBSERVABILITY, f'{metric} is not a metric of docs/observability.md'
    for attribute in re.findall(r'Properties\.(\w+)', query):
        assert any(f'("{attribute}", ' in source for source in SOURCES), f'no metric has the attribute {attribute}'
    for line in re.findall(r"Message has '([^']+)'", query):
        assert line.startswith('{') or any(line in source for source in SOURCES), f'no code says {line!r}'
    # Log lines are flat JSON: what an event says lies at the top, what its spans say below `span`.
    assert 'flatten_event(true)' in (system.ROOT / 'crates/handler/src/logging.rs').read_text()
    assert '.fields.' not in query
    for line in re.findall(r"parse_json\(Message\)\.message == '([^']+)'", query):
        assert any(f'"{line}"' in source for source in SOURCES), f'no code says {line!r}'
    assert query.count('(') == query.count(')') and query.count("'") % 2 == 0


@pytest.mark.parametrize('name', QUERIES)
def test_queries_read_a_metric_as_the_apps_send_it(name):
    """Counters and histograms arrive as what was added, histograms without extremes, gauges as they are."""
    kinds = instruments()
    for names, rest in asked(QUERIES[name]):
        for kind in {kinds.get(metric) for metric in names}:
            if kind == 'Counter':
                assert 'sum(Sum)' in rest and 'max(' not in rest, rest
            elif kind == 'Histogram':
                assert 'sum(Sum) / sum(ItemCount)' in rest and 'max(' not in rest, rest
            elif kind == 'Gauge':
                assert 'sum(Sum)' not in rest, rest
    sent = (system.ROOT / 'crates/handler/src/telemetry/azure_monitor.rs').read_text()
    assert 'concat!("bulkhead:", env!' in sent, 'queries tell requests of the handler by this from those of the host'


def test_the_apps_make_the_signals_that_the_platform_lacks():
    """Depth and age per subscription and queue, dead letters, the outbox: each has a gauge and an alert on it."""
    watched = {metric for alert in ALERTS['log'] for names, _ in asked('\n'.join(alert['query'])) for metric in names}
    gauges = {name for name, kind in instruments().items() if kind == 'Gauge'}
    assert gauges <= watched, gauges - watched
    assert gauges >= {'backlog.count', 'backlog.oldest.age', 'dead_letters.count', 'dead_letters.oldest.age', 'outbox.oldest_pending.age'}


def test_every_log_alert_has_its_columns():
    for alert in ALERTS['log']:
        last = alert['query'][-1]
        for column in [alert['column'], *[d['name'] for d in alert['dimensions']]]:
            assert re.search(rf'\b{column}\b', last), f'{alert["name"]}: {column} is not in its last line'
        if alert['operator'] == 'GreaterThan':
            assert 'TimeGenerated' in last, alert['name']


def test_every_runbook_is_needed_and_says_the_same_things():
    needed = {a['runbook'] for a in [*ALERTS['metric'], *ALERTS['log']]} | {'budget', 'break-glass'}
    assert {p.stem for p in RUNBOOKS.glob('*.md')} == needed
    for path in RUNBOOKS.glob('*.md'):
        text = path.read_text()
        for heading in ('## What it means', '## Look', '## Do', '## Afterwards'):
            assert heading in text, f'{path.name} has no {heading!r}'
        for alert in [*ALERTS['metric'], *ALERTS['log']]:
            assert (f'`{alert["name"]}`' in text) == (alert['runbook'] == path.stem), f'{path.name} and {alert["name"]}'


def test_saved_queries_and_the_workbook_are_deployed(found):
    searches = {r.name: r.body['properties']['query'] for r in checks.of_kind(found, 'Microsoft.OperationalInsights/workspaces/savedSearches')}
    assert searches == {p.stem: p.read_text() for p in (system.ROOT / 'infra/kql').glob('*.kql')}
    (workbook,) = checks.of_kind(found, 'Microsoft.Insights/workbooks')
    assert json.loads(workbook.body['properties']['serializedData'])['version'] == 'Notebook/1.0'
