"""Expressions of Bicep and HCL as one small tree: scanner, parser, evaluator.

Written by hand because what is asked of the templates is their meaning: what each of them would
deploy, resource by resource. The public grammars stop at the text (and that of Bicep hangs `a ? b :
c.d` the wrong way round). Whether the text is well-formed Bicep and HCL is checked elsewhere.

Nodes are tuples: (kind, ...). Evaluation takes a `look_up(name)` for names and `functions` for calls.
"""
import re

IDENTIFIER = re.compile(r'[A-Za-z_][\w-]*')
BICEP_IDENTIFIER = re.compile(r'[A-Za-z_]\w*')
NUMBER = re.compile(r'\d+(\.\d+)?')
LEVELS = [('??',), ('||',), ('&&',), ('==', '!=', '=~', '!~'), ('<=', '>=', '<', '>'), ('+', '-'), ('*', '/', '%')]


class SyntaxProblem(Exception):
    """The text is not what was expected."""


class Missing(Exception):
    """A name, member or item that is not there."""


class Parser:
    """Scanner and expression parser over one text; `hcl` chooses the dialect."""

    def __init__(self, text, where, hcl):
        self.text, self.pos, self.where, self.hcl = text, 0, where, hcl
        self.identifiers = IDENTIFIER if hcl else BICEP_IDENTIFIER
        self.free = 0  # > 0 within parentheses, where line breaks mean nothing

    def fail(self, why):
        line = self.text.count('\n', 0, self.pos) + 1
        raise SyntaxProblem(f'{self.where}:{line}: {why}, found {self.text[self.pos:self.pos + 30]!r}')

    def space(self, lines=False):
        while self.pos < len(self.text):
            c, two = self.text[self.pos], self.text[self.pos:self.pos + 2]
            if c in ' \t\r' or (c == '\n' and (lines or self.free)):
                self.pos += 1
            elif two == '//' or (self.hcl and c == '#'):
                end = self.text.find('\n', self.pos)
                self.pos = len(self.text) if end < 0 else end
            elif two == '/*':
                self.pos = self.text.index('*/', self.pos) + 2
            else:
                return

    def at(self, token, lines=False):
        self.space(lines)
        if not self.text.startswith(token, self.pos):
            return False
        if token[-1].isalnum():
            after = self.text[self.pos + len(token):self.pos + len(token) + 1]
            return not (after.isalnum() or after == '_')
        return True

    def take(self, token, lines=False):
        if self.at(token, lines):
            self.pos += len(token)
            return True
        return False

    def need(self, token, lines=True):
        if not self.take(token, lines):
            self.fail(f'{token!r} expected')

    def identifier(self):
        self.space()
        found = self.identifiers.match(self.text, self.pos)
        if not found:
            self.fail('a name expected')
        self.pos = found.end()
        return found[0]

    # Expressions.

    def expression(self):
        condition = self.binary(0)
        mark = self.pos
        self.space(lines=True)
        if self.at('?') and not self.text.startswith(('?.', '??'), self.pos):
            self.need('?')
            self.space(lines=True)
            yes = self.expression()
            self.need(':')
            self.space(lines=True)
            return 'cond', condition, yes, self.expression()
        self.pos = mark
        return condition

    def binary(self, level):
        if level == len(LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while True:
            self.space()
            operator = next((o for o in LEVELS[level] if self.text.startswith(o, self.pos)), None)
            if operator is None or (operator in '<>' and self.text.startswith('=>', self.pos)):
                return left
            self.pos += len(operator)
            self.space(lines=True)
            left = 'bin', operator, left, self.binary(level + 1)

    def unary(self):
        self.space()
        for operator in '!-':
            if self.take(operator):
                return 'un', operator, self.unary()
        return self.postfix(self.primary())

    def postfix(self, node):
        while True:
            if self.text.startswith('!', self.pos) and not self.hcl and self.text[self.pos + 1:self.pos + 2] != '=':
                self.pos += 1
            elif self.text.startswith('.?', self.pos):
                self.pos += 2
                node = 'maybe', node, ('lit', self.identifier())
            elif self.text.startswith('.', self.pos):
                self.pos += 1
                node = 'member', node, self.identifier()
            elif self.text.startswith('[*]', self.pos):
                self.pos += 3
                node = 'splat', node
            elif self.text.startswith('[?', self.pos) or self.text.startswith('[', self.pos):
                maybe = self.text[self.pos + 1] == '?'
                self.pos += 1 + maybe
                index = self.within(self.expression)
                self.need(']')
                node = 'maybe' if maybe else 'index', node, index
            elif node[0] == 'name' and self.text.startswith('(', self.pos):
                node = 'call', node[1], self.arguments()
            elif node[0] == 'member' and self.text.startswith('(', self.pos):
                node = 'call', node[2], self.arguments()  # a namespace, such as sys.
            elif node[0] == 'splat' and self.text.startswith('.', self.pos):
                continue
            else:
                return self.over_splat(node)

    @staticmethod
    def over_splat(node):
        """`a[*].b.c` is a list of `x.b.c`: what follows a splat is done for every item."""
        steps, inner = [], node
        while inner[0] in ('member', 'index'):
            steps.insert(0, inner)
            inner = inner[1]
        if inner[0] != 'splat' or not steps:
            return node
        body = 'name', '$item'
        for step in steps:
            body = step[0], body, step[2]
        return 'each', inner[1], body

    def within(self, parse):
        self.free += 1
        node = parse()
        self.space()
        self.free -= 1
        return node

    def arguments(self):
        self.need('(')
        found = []
        self.free += 1
        while not self.at(')'):
            found.append(self.argument())
            if not self.take(','):
                break
        self.free -= 1
        self.need(')')
        return found

    def argument(self):
        self.space()
        simple = re.compile(r'(\w+|\([\w,\s]*\))\s*=>').match(self.text, self.pos)
        if self.hcl or not simple:
            return self.expression()
        names = re.findall(r'\w+', simple[1])
        self.pos = simple.end()
        self.space(lines=True)
        return 'lambda', names, self.expression()

    def primary(self):
        self.space()
        c = self.text[self.pos:self.pos + 1]
        if c == '(':
            self.need('(')
            node = self.within(self.expression)
            self.need(')')
            return node
        if c == '[':
            return self.bracketed(self.array)
        if c == '{':
            return self.bracketed(self.object)
        if self.hcl and self.text.startswith('<<', self.pos):
            self.fail('heredocs are not used here')
        if c == ('"' if self.hcl else "'"):
            return self.string(c)
        number = NUMBER.match(self.text, self.pos)
        if number:
            self.pos = number.end()
            return 'lit', float(number[0]) if number[1] else int(number[0])
        name = self.identifier()
        constants = {'true': True, 'false': False, 'null': None}
        return ('lit', constants[name]) if name in constants else ('name', name)

    def bracketed(self, parse):
        free, self.free = self.free, 0
        node = parse()
        self.free = free
        return node

    def string(self, quote):
        if self.text.startswith("'''", self.pos):
            end = self.text.index("'''", self.pos + 3)
            raw, self.pos = self.text[self.pos + 3:end], end + 3
            return 'lit', raw
        self.pos += 1
        parts, run = [], ''
        escapes = {'n': '\n', 't': '\t', 'r': '\r'}
        while True:
            c = self.text[self.pos:self.pos + 1]
            if c in ('', '\n'):
                self.fail('a string does not end')
            if c == quote:
                self.pos += 1
                break
            if c == '\\':
                follows = self.text[self.pos + 1]
                run += escapes.get(follows, follows)
                self.pos += 2
            elif self.text.startswith('${', self.pos):
                if run:
                    parts.append(('lit', run))
                    run = ''
                self.pos += 2
                parts.append(self.within(self.expression))
                self.need('}')
            else:
                run += c
                self.pos += 1
        if run or not parts:
            parts.append(('lit', run))
        return parts[0] if len(parts) == 1 and parts[0][0] == 'lit' else ('text', parts)

    def loop_head(self):
        """`for x in e:` or `for (x, i) in e:`; the names in the order (item, index) of each dialect."""
        self.need('for')
        self.space(lines=True)
        if self.take('('):
            names = [self.identifier()]
            self.need(',')
            names.append(self.identifier())
            self.need(')')
        else:
            names = [self.identifier()]
            if self.take(','):
                names.append(self.identifier())
        self.need('in')
        self.space(lines=True)
        source = self.expression()
        self.need(':')
        self.space(lines=True)
        return names, source

    def condition_after(self):
        self.space(lines=True)
        return self.expression() if self.take('if') else None

    def array(self):
        self.need('[')
        self.space(lines=True)
        if self.at('for'):
            names, source = self.loop_head()
            if not self.hcl and self.take('if'):
                self.need('(')
                condition = self.within(self.expression)
                self.need(')')
                body = self.expression()
            else:
                body = self.expression()
                condition = self.condition_after() if self.hcl else None
            self.need(']')
            return 'for', names, source, None, body, condition
        items = []
        while not self.at(']', lines=True):
            items.append(self.argument())
            self.space(lines=True)
            self.take(',', lines=True)
        self.need(']')
        return 'array', items

    def object(self):
        self.need('{')
        self.space(lines=True)
        if self.hcl and self.at('for'):
            names, source = self.loop_head()
            key = self.expression()
            self.need('=>')
            self.space(lines=True)
            body = self.expression()
            condition = self.condition_after()
            self.need('}')
            return 'for', names, source, key, body, condition
        entries = []
        while not self.at('}', lines=True):
            if self.hcl and self.at('('):
                key = self.primary()
            elif self.at('"') or self.at("'"):
                key = self.string(self.text[self.pos])
            else:
                key = 'lit', self.identifier()
            if not (self.hcl and self.take('=')):
                self.need(':')
            self.space(lines=True)
            entries.append((key, self.expression()))
            self.space()
            self.take(',')
            self.space(lines=True)
        self.need('}')
        return 'object', entries


def text_of(value):
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return str(value)


class Evaluator:
    """Evaluates nodes. `look_up(name)` answers names, `functions` calls, `member` what is behind a dot."""

    def __init__(self, look_up, functions, lazy=()):
        self.look_up, self.functions, self.lazy = look_up, functions, set(lazy)

    def of(self, node, scope=None):
        scope = scope or {}
        return getattr(self, f'_{node[0]}')(node, scope)

    def _lit(self, node, scope):
        return node[1]

    def _name(self, node, scope):
        return scope[node[1]] if node[1] in scope else self.look_up(node[1])

    def _text(self, node, scope):
        return ''.join(text_of(self.of(part, scope)) for part in node[1])

    def _array(self, node, scope):
        return [self.of(item, scope) for item in node[1]]

    def _object(self, node, scope):
        return {text_of(self.of(key, scope)): self.of(value, scope) for key, value in node[1]}

    def _cond(self, node, scope):
        return self.of(node[2] if self.of(node[1], scope) else node[3], scope)

    def _un(self, node, scope):
        value = self.of(node[2], scope)
        return not value if node[1] == '!' else -value

    def _bin(self, node, scope):
        operator, left = node[1], self.of(node[2], scope)
        if operator == '&&':
            return bool(left) and bool(self.of(node[3], scope))
        if operator == '||':
            return bool(left) or bool(self.of(node[3], scope))
        if operator == '??' and left is not None:
            return left
        right = self.of(node[3], scope)
        return {
            '??': lambda: right, '==': lambda: left == right, '!=': lambda: left != right,
            '<': lambda: left < right, '>': lambda: left > right, '<=': lambda: left <= right, '>=': lambda: left >= right,
            '+': lambda: left + right, '-': lambda: left - right, '*': lambda: left * right,
            '/': lambda: left / right, '%': lambda: left % right,
        }[operator]()

    def _member(self, node, scope):
        return member(self.of(node[1], scope), node[2])

    def _index(self, node, scope):
        return member(self.of(node[1], scope), self.of(node[2], scope))

    def _maybe(self, node, scope):
        value = self.of(node[1], scope)
        return None if value is None else value.get(self.of(node[2], scope))

    def _splat(self, node, scope):
        value = self.of(node[1], scope)
        return value if isinstance(value, list) else [value]

    def _each(self, node, scope):
        return [self.of(node[2], {**scope, '$item': item}) for item in self._splat((None, node[1]), scope)]

    def _lambda(self, node, scope):
        return lambda *given: self.of(node[2], {**scope, **dict(zip(node[1], given))})

    def _call(self, node, scope):
        name = node[1]
        if name not in self.functions:
            raise Missing(f'function {name} is not known to the tests')
        if name in self.lazy:
            return self.functions[name](*[lambda n=n: self.of(n, scope) for n in node[2]])
        return self.functions[name](*[self.of(argument, scope) for argument in node[2]])

    def _for(self, node, scope):
        _, names, source, key, body, condition = node
        found = self.of(source, scope)
        pairs = list(found.items()) if isinstance(found, dict) else list(enumerate(found))
        out = {} if key else []
        for place, item in pairs:
            inner = dict(scope)
            if len(names) == 1:
                inner[names[0]] = item
            else:
                # HCL puts the key first, Bicep the item.
                first, second = (place, item) if self.key_first else (item, place)
                inner[names[0]], inner[names[1]] = first, second
            if condition is not None and not self.of(condition, inner):
                continue
            if key:
                out[text_of(self.of(key, inner))] = self.of(body, inner)
            else:
                out.append(self.of(body, inner))
        return out

    key_first = False


def member(value, name):
    if hasattr(value, 'member'):
        return value.member(name)
    try:
        return value[name]
    except (KeyError, IndexError, TypeError) as error:
        raise Missing(f'{name!r} of {str(value)[:120]}') from error
