"""What of the Terraform files runs without any provider, run by Terraform itself: the variables with their
validations, and the locals that look at nothing but them. It holds our own reading of HCL to the real one.
"""
import json
import os
import re
import shutil
import subprocess

import pytest

import hcl
import system
from test_parameters import WRONG

TERRAFORM = shutil.which('terraform')
pytestmark = pytest.mark.skipif(TERRAFORM is None, reason='there is no terraform on the PATH')


def run(folder, *arguments, stdin=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith('TF_')}
    environment['CHECKPOINT_DISABLE'] = '1'
    return subprocess.run(
        [TERRAFORM, f'-chdir={folder}', *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The variables, and the locals that need no resource, at the depth at which they find the tables."""
    root = tmp_path_factory.mktemp('infra')
    for table in system.ROOT.glob('infra/*.json'):
        shutil.copy(table, root)
    folder = root / 'terraform'
    folder.mkdir()
    shutil.copy(system.TERRAFORM / 'variables.tf', folder)
    plain = {}
    for path in sorted(system.TERRAFORM.glob('*.tf')):
        for block in re.findall(r'^locals \{\n(.*?)^\}', path.read_text(), re.S | re.M):
            for name, text in re.findall(r'^  ([\w]+)\s*= (.*?)(?=^  [\w]+\s*= |^  #|\Z)', block, re.S | re.M):
                plain[name] = text
    # Take away what looks at a resource, and what looks at that.
    while True:
        gone = {n for n, t in plain.items() if re.search(r'azurerm_|azapi_|data\.', t)
                or any(ref not in plain for ref in re.findall(r'local\.(\w+)', t))}
        if not gone:
            break
        plain = {n: t for n, t in plain.items() if n not in gone}
    (folder / 'locals.tf').write_text('locals {\n' + ''.join(f'  {n} = {t}\n' for n, t in plain.items()) + '}\n')
    shown = ', '.join(f'{n} = local.{n}' for n in plain)
    (folder / 'outputs.tf').write_text(f'output "locals" {{ value = jsonencode({{ {shown} }}) }}\n')
    made = run(folder, 'init', '-backend=false', '-input=false')
    assert made.returncode == 0, made.stderr
    return folder


def plan(folder, extra):
    (folder / 'given.tfvars.json').write_text(json.dumps(system.parameters('terraform', extra)))
    return run(folder, 'plan', '-input=false', '-no-color', '-var-file=given.tfvars.json', '-out=plan')


@pytest.mark.parametrize(('extra', 'named'), WRONG, ids=lambda value: str(value)[:60])
def test_terraform_refuses_what_we_say_it_refuses(folder, extra, named):
    refused = plan(folder, extra)
    assert refused.returncode != 0
    said = ' '.join(re.sub(r'[│╷╵]', ' ', refused.stderr).split())
    for name in named:
        assert re.search(rf'\b{system.snake(name)}\b', said), said


def test_terraform_sees_the_locals_that_we_see(folder, variant):
    accepted = plan(folder, system.VARIANTS[variant])
    assert accepted.returncode == 0, accepted.stderr
    shown = run(folder, 'show', '-json', 'plan')
    theirs = json.loads(json.loads(shown.stdout)['planned_values']['outputs']['locals']['value'])
    assert {'functions_prefix', 'endpoints_prefix', 'tags', 'zone_redundant', 'outside_hosts', 'prefixes', 'metric_alerts'} <= theirs.keys()
    ours = hcl.Folder(system.TERRAFORM, system.parameters('terraform', system.VARIANTS[variant]))
    for name, value in theirs.items():
        assert value == json.loads(json.dumps(ours.local(name))), name
