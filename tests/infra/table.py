"""What is deployed, as a document: made from either language, the same from both.

`python tests/infra/table.py` writes docs/azure-resources.md anew.
"""
import re
import sys

import checks
import system

FILE = system.ROOT / 'docs/azure-resources.md'
HEAD = """# What is deployed

Made from the templates by `python tests/infra/table.py`; a test holds that Bicep and Terraform make the
same of it, and that it is up to date. Environment `dev`; `<token>` stands for six characters that make
names unique. Role assignments and diagnostic settings are below, not among the resources.
"""
WITHOUT = ('Microsoft.Authorization/roleAssignments', 'Microsoft.Insights/diagnosticSettings', 'Microsoft.Insights/metricAlerts',
           'Microsoft.Insights/scheduledQueryRules', 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments')


def plain(text):
    text = str(text).replace('abcdef', '<token>')
    return re.sub(r'(guid|uuid)\(.*\)', '(a hash)', text)


def row(*cells):
    return '| ' + ' | '.join(plain(cell).replace('|', '\\|') for cell in cells) + ' |'


def table(head, rows):
    return '\n'.join([row(*head), '| ' + ' | '.join('---' for _ in head) + ' |', *rows]) + '\n'


def names(found):
    """{kind: names}, children with the name of their parent."""
    out = {}
    for key, resource in system.comparable(found).items():
        if resource.kind not in WITHOUT:
            if 'roleName' in resource.body.get('properties', {}):
                out.setdefault(resource.kind, []).append(resource.body['properties']['roleName'])
                continue
            name = 'workbook' if key.endswith('/workbook') else resource.name
            steps = resource.kind.count('/') - 1
            above = resource.id.split('/')[-1 - 2 * steps] if steps else ''
            out.setdefault(resource.kind, []).append(f'{above}/{name}' if above and above != 'default' else name)
    return {kind: sorted(map(plain, found)) for kind, found in sorted(out.items())}


def document(language):
    found = {posture: system.deployed(language, posture) for posture in ('default', 'lockedDown')}
    kinds = {posture: names(resources) for posture, resources in found.items()}
    out = [HEAD, '## Resources\n\nIn both postures:\n']
    both = {k: [n for n in v if n in kinds['lockedDown'].get(k, [])] for k, v in kinds['default'].items()}
    out.append(table(('type', 'names'), [row(f'`{k}`', ', '.join(f'`{n}`' for n in v)) for k, v in both.items() if v]))
    only = {k: [n for n in v if n not in kinds['default'].get(k, [])] for k, v in kinds['lockedDown'].items()}
    out.append('In posture `lockedDown` besides:\n')
    out.append(table(('type', 'names'), [row(f'`{k}`', ', '.join(f'`{n}`' for n in v)) for k, v in only.items() if v]))
    out.append('## Settings\n\nPosture `default`; `lockedDown` has the same.\n')
    assert {a: s.keys() for a, s in checks.settings(found['default']).items()} == {a: s.keys() for a, s in checks.settings(found['lockedDown']).items()}
    by_setting = {}
    for app, settings in checks.settings(found['default']).items():
        for name, value in settings.items():
            shown = re.sub(r'(client|connection)\(.*?\)', r'(\1)', value)
            by_setting.setdefault((name, shown), []).append(app)
    count = len(checks.settings(found['default']))
    rows = [row(f'`{n}`', f'`{v}`' if v else '', 'all' if len(apps) == count else ', '.join(apps)) for (n, v), apps in sorted(by_setting.items())]
    out.append(table(('setting', 'value', 'apps'), rows))
    out.append('## Roles\n')
    held = {posture: checks.roles(resources) for posture, resources in found.items()}
    assert held['default'] <= held['lockedDown']
    rows = [row(*entry, 'both' if entry in held['default'] else 'lockedDown') for entry in sorted(held['lockedDown'])]
    out.append(table(('who', 'role', 'on', 'posture'), rows))
    out.append('## Alerts\n')
    lists = {posture: checks.alerts(resources) for posture, resources in found.items()}
    rows = [
        row(name, severity, what, how, f'[{runbook}](runbooks/{runbook}.md)', 'both' if name in lists['default'] else 'lockedDown')
        for name, (severity, what, how, runbook, _) in sorted(lists['lockedDown'].items())
    ]
    out.append(table(('alert', 'severity', 'looks at', 'condition', 'runbook', 'posture'), rows))
    out.append('## Diagnostic settings\n')
    seen = {}
    for posture, resources in found.items():
        for setting in checks.of_kind(resources, 'Microsoft.Insights/diagnosticSettings'):
            p = setting.body['properties']
            what = ', '.join(entry.get('categoryGroup') or entry['category'] for entry in [*(p.get('logs') or []), *(p.get('metrics') or [])])
            seen.setdefault((setting.scope.split('/providers/', 1)[1], what), []).append(posture)
    out.append(table(('of', 'what', 'posture'), [row(f'`{of}`', what, 'both' if len(where) == 2 else where[0]) for (of, what), where in sorted(seen.items())]))
    return '\n'.join(out)


if __name__ == '__main__':
    FILE.write_text(document(sys.argv[1] if len(sys.argv) > 1 else 'bicep'))
