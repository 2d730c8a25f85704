"""Writes what the Bicep files would deploy as plain ARM templates, one per posture, for tools that cannot
read Bicep with all of its language: `python tests/infra/template.py <folder>`.
"""
import json
import sys
from pathlib import Path

import system


def template(posture):
    resources = []
    for resource in system.deployed('bicep', posture):
        if resource.kind == 'Microsoft.Web/sites/config':
            continue  # taken for a site by checkov
        below = resource.id.split('/providers/')[-1].split('/')
        name = '/'.join(below[2::2]) if '(' not in resource.id else resource.name
        resources.append({'type': resource.kind, 'apiVersion': resource.version, 'name': name, **resource.body})
    schema = 'https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#'
    return {'$schema': schema, 'contentVersion': '1.0.0.0', 'resources': resources}


if __name__ == '__main__':
    for posture in ('default', 'lockedDown'):
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{posture}.json').write_text(json.dumps(template(posture), indent=2) + '\n')
