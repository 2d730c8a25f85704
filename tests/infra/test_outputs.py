"""What a deployment tells afterwards: the same in both languages, and what the scripts ask for."""
import re

import bicep
import hcl
import system


def told(language, extra):
    given = system.parameters(language, extra)
    if language == 'bicep':
        main = bicep.Module(system.BICEP, given)
        return {system.snake(name): main.output(name) for name in main.outputs}
    folder = hcl.Folder(system.TERRAFORM, given)
    return {name: folder.evaluator.of(node) for name, node in folder.outputs.items()}


def test_both_languages_tell_the_same(variant):
    assert told('bicep', system.VARIANTS[variant]) == told('terraform', system.VARIANTS[variant])


def test_the_scripts_get_what_they_ask_for(language):
    outputs = {name.replace('_', '') for name in told(language, {})}
    table = (system.ROOT / 'scripts/verify-network').read_text()
    asked = set(re.findall(r'host\("\w+", "(\w+)"\)', table)) | set(re.findall(r'"(\w+)"', re.search(r'for name in \((.*?)\)', table)[1]))
    deploy = (system.ROOT / 'scripts/deploy').read_text()
    asked |= set(re.findall(r'"(\w+)"', re.search(r'missing = \[name for name in \((.*?)\)', deploy)[1]))
    assert len(asked) >= 8
    assert {name.lower() for name in asked} <= outputs, asked
    for app in told(language, {})['apps']:
        assert app.keys() == {'app', 'id', 'name', 'packageContainer'}
