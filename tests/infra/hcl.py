"""What a Terraform folder would deploy, with given variables: a list of resource instances with their
attributes and blocks, as HCL has them. `arm.py` says what they are in Azure's own terms.
"""
import hashlib
import ipaddress
import json
import re
from pathlib import Path

import azure
from arm import COMPUTED, identity_of
from bicep import Refused
from syntax import Evaluator, Missing, Parser, text_of


class Block:
    """The attributes and blocks between a pair of braces."""

    def __init__(self, parser):
        self.attributes, self.blocks = {}, []
        parser.need('{')
        while not parser.take('}', lines=True):
            name = parser.identifier()
            parser.space()
            if parser.at('=') and not parser.at('=='):
                parser.need('=')
                parser.space(lines=True)
                self.attributes[name] = parser.expression()
                continue
            labels = []
            while not parser.at('{'):
                labels.append(parser.string('"')[1])
                parser.space()
            self.blocks.append((name, labels, Block(parser)))


class Instance:
    """One instance of a resource: what is written down, and what Azure would add."""

    def __init__(self, kind, address, values):
        self.kind, self.address, self.values = kind, address, values
        for block in values.get('identity', []):
            block.setdefault('principal_id', f'principal({values["name"]})')

    def member(self, name):
        if name in self.values:
            return self.values[name]
        if name == 'id':
            return identity_of(self)[1]
        if name == 'output':
            return {'properties': {'defaultHostName': f'{self.values["name"]}.azurewebsites.net'}}
        found = COMPUTED.get(self.kind, {}).get(name)
        if found is None:
            raise Missing(f'{name} of {self.address}: the tests know no such answer of Azure')
        return found(self.values)


class Folder:
    """All .tf files of one folder, evaluated with their variables."""

    def __init__(self, folder, given):
        self.folder, self.given, self.memo, self.busy = Path(folder), given, {}, set()
        self.variables, self.locals, self.resources, self.outputs = {}, {}, {}, {}
        self.providers = {}
        for path in sorted(self.folder.glob('*.tf')):
            self.parse(path)
        self.evaluator = Hcl(self.look_up, self.functions(), lazy=('can', 'try'))
        unknown = set(given) - set(self.variables)
        if unknown:
            raise Refused(f'unknown variable {", ".join(sorted(unknown))}')
        problems = [problem for name in self.variables for problem in self.problems(name)]
        if problems:
            raise Refused(' '.join(problems))

    def parse(self, path):
        p = Parser(path.read_text(), path.name, hcl=True)
        while True:
            p.space(lines=True)
            if p.pos >= len(p.text):
                return
            word, labels = p.identifier(), []
            p.space()
            while not p.at('{'):
                labels.append(p.string('"')[1])
                p.space()
            block = Block(p)
            if word == 'locals':
                self.locals.update(block.attributes)
            elif word == 'variable':
                self.variables[labels[0]] = block
            elif word == 'output':
                self.outputs[labels[0]] = block.attributes['value']
            elif word == 'provider':
                self.providers[labels[0]] = block
            elif word in ('resource', 'data'):
                self.resources[(word, *labels)] = block

    def variable(self, name):
        block = self.variables[name]
        if name in self.given:
            return self.given[name]
        if 'default' not in block.attributes:
            raise Refused(f'variable {name} is missing')
        return self.evaluator.of(block.attributes['default'])

    def problems(self, name):
        for kind, _, block in self.variables[name].blocks:
            assert kind == 'validation', kind
            if not self.evaluator.of(block.attributes['condition']):
                yield self.evaluator.of(block.attributes['error_message'])

    def look_up(self, name):
        return {
            'var': Names(self.variable), 'local': Names(self.local), 'data': Names(self.data),
            'path': {'module': str(self.folder)},
        }.get(name) or Names(lambda label: self.resource(('resource', name, label)))

    def remembered(self, key, make):
        if key not in self.memo:
            if key in self.busy:
                raise Missing(f'{key} depends on itself')
            self.busy.add(key)
            self.memo[key] = make()
            self.busy.discard(key)
        return self.memo[key]

    def local(self, name):
        if name not in self.locals:
            raise Missing(f'local.{name} is not declared')
        return self.remembered(f'local.{name}', lambda: self.evaluator.of(self.locals[name]))

    def data(self, kind):
        assert kind == 'azurerm_client_config', kind
        return Names(lambda label: {'subscription_id': azure.SUBSCRIPTION, 'tenant_id': azure.TENANT})

    def resource(self, key):
        if key not in self.resources:
            raise Missing(f'{key[1]}.{key[2]} is not declared')
        return self.remembered(key, lambda: self.instances(key))

    def instances(self, key):
        block, address = self.resources[key], f'{key[1]}.{key[2]}'
        if 'count' in block.attributes:
            count = self.evaluator.of(block.attributes['count'])
            return [self.instance(key[1], f'{address}[{i}]', block, {}) for i in range(count)]
        if 'for_each' in block.attributes:
            each = self.evaluator.of(block.attributes['for_each'])
            pairs = each.items() if isinstance(each, dict) else ((item, item) for item in each)
            return {
                k: self.instance(key[1], f'{address}["{k}"]', block, {'each': {'key': k, 'value': v}}) for k, v in pairs
            }
        return self.instance(key[1], address, block, {})

    def instance(self, kind, address, block, scope):
        return Instance(kind, address, self.body(block, scope))

    def body(self, block, scope):
        skip = ('for_each', 'count', 'depends_on')
        values = {name: self.evaluator.of(node, scope) for name, node in block.attributes.items() if name not in skip}
        for name, labels, inner in block.blocks:
            if name == 'dynamic':
                name = labels[0]
                content = next(b for n, _, b in inner.blocks if n == 'content')
                source = self.evaluator.of(inner.attributes['for_each'], scope)
                pairs = source.items() if isinstance(source, dict) else enumerate(source)
                for place, item in pairs:
                    entry = {name: {'key': place, 'value': item}}
                    values.setdefault(name, []).append(self.body(content, {**scope, **entry}))
                values.setdefault(name, [])
            else:
                values.setdefault(name, []).append(self.body(inner, scope))
        return values

    def deployed(self):
        found = []
        for key in self.resources:
            if key[0] != 'resource':
                continue
            value = self.resource(key)
            found += value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
        for name in self.locals:
            self.local(name)
        for node in self.outputs.values():
            self.evaluator.of(node)
        return found

    def functions(self):
        def can(node):
            try:
                node()
                return True
            except (Missing, ValueError):
                return False

        def regex(pattern, text):
            found = re.search(pattern, text)
            if not found:
                raise ValueError('no match')
            return found[0]

        def subnet(prefix, bits, index):
            network = ipaddress.ip_network(prefix)
            return str(list(network.subnets(bits))[index])

        def merge(*parts):
            return {key: value for part in parts for key, value in part.items()}

        def one(items):
            assert len(items) <= 1, items
            return items[0] if items else None

        return {
            'can': can,
            'cidrhost': lambda prefix, index: str(ipaddress.ip_network(prefix)[index]),
            'cidrsubnet': subnet,
            'coalesce': lambda *values: next(value for value in values if value is not None),
            'compact': lambda items: [item for item in items if item],
            'concat': lambda *parts: [item for part in parts for item in part],
            'contains': lambda items, item: item in items,
            'endswith': str.endswith,
            'file': lambda path: Path(path).read_text(),
            'join': lambda by, items: by.join(items),
            'jsondecode': json.loads,
            'length': len,
            'lookup': lambda whole, key, default: whole.get(key, default),
            'lower': str.lower,
            'merge': merge,
            'one': one,
            'regex': regex,
            'replace': lambda text, old, new: text.replace(old, new),
            'sha1': lambda text: azure.TOKEN + hashlib.sha1(text.encode()).hexdigest(),
            'split': lambda by, text: text.split(by),
            'startswith': str.startswith,
            'strcontains': lambda text, part: part in text,
            'substr': lambda text, start, count: text[start:start + count],
            'toset': lambda items: list(dict.fromkeys(items)),
            'tostring': text_of,
            'uuidv5': lambda space, text: f'uuid({text})',
        }


class Names:
    """Something whose members are worked out when they are asked for."""

    def __init__(self, find):
        self.find = find

    def member(self, name):
        return self.find(name)


class Hcl(Evaluator):
    key_first = True


def deploy(folder, given):
    """The resource instances of the folder; `Refused` where a validation refuses."""
    return Folder(folder, given).deployed()
