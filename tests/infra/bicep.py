"""What a Bicep file would deploy, with given parameters: a list of resources with their ids and bodies."""
import ipaddress
import json
from pathlib import Path

import azure
from syntax import Evaluator, Missing, Parser, text_of


class Refused(Exception):
    """The template itself refuses its parameters; the message is its own."""


class Resource:
    """One resource: where it is, and what is said about it."""

    def __init__(self, kind, name, id, body, existing=False, scope=None, version=None):
        self.kind, self.name, self.id, self.body, self.existing, self.scope = kind, name, id, body, existing, scope
        self.version = version

    def member(self, name, path=''):
        if name in ('id', 'name'):
            return getattr(self, name)
        return Path_(self, name).settled()


class Path_:
    """A property of a resource, on its way to a value."""

    def __init__(self, resource, path):
        self.resource, self.path = resource, path

    def member(self, name):
        return Path_(self.resource, f'{self.path}.{name}').settled()

    def settled(self):
        found = azure.runtime(self.resource.kind, self.resource.name, self.path)
        if found is not None:
            return found
        if self.path.split('.')[0] in ('properties', 'identity') and self.path.count('.') == 0:
            return self
        raise Missing(f'{self.path} of {self.resource.kind}: the tests know no such answer of Azure')


class Module:
    """One file, evaluated with its parameters. `group` is the id of the resource group it is deployed to."""

    def __init__(self, path, params, group=None):
        self.path, self.group, self.given = Path(path), group, dict(params)
        self.params, self.vars, self.resources, self.modules, self.outputs = {}, {}, {}, {}, {}
        self.memo, self.busy = {}, set()
        self.parse()
        unknown = set(params) - set(self.params)
        if unknown:
            raise Refused(f'{self.path.name}: unknown parameter {", ".join(sorted(unknown))}')
        self.evaluator = Evaluator(self.look_up, self.functions())

    # Reading.

    def parse(self):
        p = Parser(self.path.read_text(), self.path.name, hcl=False)
        decorators = []
        while True:
            p.space(lines=True)
            if p.pos >= len(p.text):
                return
            if p.take('@'):
                node = p.postfix(p.primary())
                decorators.append((node[1], node[2]))
                continue
            word = p.identifier()
            if word == 'targetScope':
                p.need('=')
                p.expression()
            elif word in ('param', 'output'):
                name = p.identifier()
                p.identifier()  # the type
                p.take('?')
                value = None
                if p.take('='):
                    value = p.expression()
                (self.params if word == 'param' else self.outputs)[name] = (value, decorators)
            elif word == 'var':
                name = p.identifier()
                p.need('=')
                self.vars[name] = p.expression()
            elif word in ('resource', 'module'):
                name = p.identifier()
                p.space()
                kind = p.string("'")[1]
                existing = word == 'resource' and p.take('existing')
                p.need('=')
                condition = None
                if p.take('if'):
                    p.need('(')
                    condition = p.within(p.expression)
                    p.need(')')
                body = p.expression()
                (self.resources if word == 'resource' else self.modules)[name] = (kind, existing, condition, body)
            else:
                p.fail(f'{word} is not known to the tests')
            decorators = []

    # Meaning.

    def look_up(self, name):
        if name in self.memo:
            return self.memo[name]
        if name in self.busy:
            raise Missing(f'{self.path.name}: {name} depends on itself')
        self.busy.add(name)
        if name in self.params:
            value = self.param(name)
        elif name in self.vars:
            value = self.evaluator.of(self.vars[name])
        elif name in self.resources:
            value = self.declared(name, self.resources[name], self.resource)
        elif name in self.modules:
            value = self.declared(name, self.modules[name], self.module)
        else:
            raise Missing(f'{self.path.name}: {name} is not declared')
        self.busy.discard(name)
        self.memo[name] = value
        return value

    def param(self, name):
        default, decorators = self.params[name]
        if name in self.given:
            value = self.given[name]
        elif default is None:
            raise Refused(f'{self.path.name}: parameter {name} is missing')
        else:
            value = self.evaluator.of(default)
        for rule, arguments in decorators:
            limit = self.evaluator.of(arguments[0])
            wrong = {
                'allowed': lambda: value not in limit, 'minValue': lambda: value < limit, 'maxValue': lambda: value > limit,
                'minLength': lambda: len(value) < limit, 'maxLength': lambda: len(value) > limit,
            }.get(rule, lambda: False)()
            if wrong:
                raise Refused(f'{self.path.name}: parameter {name} violates {rule} {limit}')
        return value

    def declared(self, name, declaration, make):
        kind, existing, condition, body = declaration
        if condition is not None and not self.evaluator.of(condition):
            return None
        if body[0] != 'for':
            return make(name, kind, existing, body, {})
        _, names, source, _, inner, _ = body
        found = []
        for i, item in enumerate(self.evaluator.of(source)):
            scope = {names[0]: item} if len(names) == 1 else {names[0]: item, names[1]: i}
            found.append(make(name, kind, existing, inner, scope))
        return found

    def resource(self, name, kind, existing, body, scope):
        entries = {key[1]: value for key, value in body[1]}
        kind, version = kind.split('@')
        given = lambda key: self.evaluator.of(entries[key], scope) if key in entries else None
        own, parent, at = given('name'), given('parent'), given('scope')
        if kind == 'Microsoft.Resources/resourceGroups':
            id = azure.group_id(own)
        else:
            above = parent or at
            id = azure.child_id(above.id if above else self.group, kind, own)
        content = {key: value for key, value in entries.items() if key not in ('name', 'parent', 'scope', 'dependsOn')}
        body = {key: self.evaluator.of(value, scope) for key, value in content.items()}
        return Resource(kind, own, id, body, existing, at.id if at else None, version)

    def module(self, name, path, existing, body, scope):
        entries = {key[1]: value for key, value in body[1]}
        group = self.evaluator.of(entries['scope'], scope) if 'scope' in entries else None
        given = {}
        for key, value in entries['params'][1]:
            given[key[1]] = self.evaluator.of(value, scope)
        inner = Module(self.path.parent / path, given, (group.id if hasattr(group, 'id') else group) or self.group)
        return Deployed(inner)

    def output(self, name):
        if name not in self.outputs:
            raise Missing(f'{self.path.name}: there is no output {name}')
        return self.evaluator.of(self.outputs[name][0])

    def deployed(self):
        """Every resource that is created, those of modules included."""
        found = []
        for name in self.resources:
            value = self.look_up(name)
            found += [r for r in (value if isinstance(value, list) else [value]) if r is not None and not r.existing]
        for name in self.modules:
            value = self.look_up(name)
            for module in value if isinstance(value, list) else [value]:
                if module is not None:
                    found += module.inner.deployed()
        for name in self.vars:
            self.look_up(name)
        return found

    def functions(self):
        folder = self.path.parent

        def refuse(message):
            raise Refused(message)

        def union(*parts):
            if isinstance(parts[0], list):
                return [item for i, part in enumerate(parts) for item in part]
            merged = {}
            for part in parts:
                merged.update(part)
            return merged

        def subnet(prefix, length, index):
            return str(list(ipaddress.ip_network(prefix).subnets(new_prefix=length))[index])

        return {
            'array': lambda value: value if isinstance(value, list) else [value],
            'cidrHost': lambda prefix, index: str(ipaddress.ip_network(prefix)[index + 1]),
            'cidrSubnet': subnet,
            'concat': lambda *parts: [item for part in parts for item in part] if isinstance(parts[0], list) else ''.join(parts),
            'contains': lambda whole, part: part in whole,
            'empty': lambda value: value is None or len(value) == 0,
            'endsWith': lambda text, end: text.lower().endswith(end.lower()),
            'environment': lambda: {'authentication': {'loginEndpoint': 'https://login.microsoftonline.com/'}},
            'fail': refuse,
            'filter': lambda items, keep: [item for item in items if keep(item)],
            'flatten': lambda lists: [item for items in lists for item in items],
            'guid': lambda *parts: f'guid({", ".join(map(text_of, parts))})',
            'indexOf': lambda items, item: items.index(item) if item in items else -1,
            'items': lambda value: [{'key': key, 'value': value[key]} for key in sorted(value)],
            'join': lambda items, by: by.join(items),
            'last': lambda items: items[-1],
            'length': len,
            'loadJsonContent': lambda path: json.loads((folder / path).read_text()),
            'loadTextContent': lambda path: (folder / path).read_text(),
            'map': lambda items, change: [change(item, i) for i, item in enumerate(items)],
            'replace': lambda text, old, new: text.replace(old, new),
            'resourceGroup': lambda subscription, name: f'/subscriptions/{subscription}/resourceGroups/{name}',
            'split': lambda text, by: text.split(by),
            'startsWith': lambda text, start: text.lower().startswith(start.lower()),
            'string': text_of,
            'subscription': lambda: {'id': f'/subscriptions/{azure.SUBSCRIPTION}', 'subscriptionId': azure.SUBSCRIPTION},
            'subscriptionResourceId': lambda kind, name: f'/subscriptions/{azure.SUBSCRIPTION}/providers/{kind}/{name}',
            'take': lambda value, count: value[:count],
            'tenant': lambda: {'tenantId': azure.TENANT},
            'toLower': str.lower,
            'toObject': lambda items, key, value=lambda item: item: {key(item): value(item) for item in items},
            'union': union,
            'uniqueString': lambda *parts: azure.TOKEN + 'ghijklm',
        }


class Deployed:
    """A module that was deployed: its outputs can be asked for."""

    def __init__(self, inner):
        self.inner = inner
        self.outputs = Outputs(inner)

    def member(self, name):
        if name != 'outputs':
            raise Missing(f'{name} of a module')
        return self.outputs


class Outputs:
    def __init__(self, inner):
        self.inner = inner

    def member(self, name):
        return self.inner.output(name)


def deploy(path, params):
    """The resources of the template at `path`; `Refused` where it refuses."""
    return Module(path, params).deployed()
