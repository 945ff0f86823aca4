"""Encoded queries (§2.5).

A query is compiled to closures over rows.  Invalid parts, that is unknown
columns, unknown operators, unknown script functions, are dropped and the
rest runs: a typo in a filter returns everything [C, L], unless property
glide.invalid_query.returns_no_rows is true.
"""
import re

from .dates import Dates

OPERATORS = [
    "GT_OR_EQUALS_FIELD", "LT_OR_EQUALS_FIELD", "GT_FIELD", "LT_FIELD",
    "ISNOTEMPTY", "EMPTYSTRING", "IN_HIERARCHY", "STARTSWITH", "INSTANCEOF",
    "RELATIVEGT", "RELATIVEGE", "RELATIVELT", "RELATIVELE", "ENDSWITH",
    "ANYTHING", "NOT LIKE", "BETWEEN", "DYNAMIC", "ISEMPTY", "NSAMEAS",
    "SAMEAS", "NOT IN", "NOTON", "LIKE", "IN", "ON", "!=", ">=", "<=", "!*",
    "=", "<", ">", "*", "%"]
CONDITION = re.compile(r"([a-z0-9_]+(?:\.[a-z0-9_]+)*)(%s)(.*)\Z"
                       % "|".join(re.escape(o) for o in OPERATORS), re.S)
ALIASES = {"*": "LIKE", "!*": "NOT LIKE", "%": "ENDSWITH"}
RLQUERY = re.compile(r"RLQUERY([a-z0-9_]+)\.([a-z0-9_]+),"
                     r"(>=|<=|!=|=|<|>)(\d+)(,m2m)?\Z")
JOIN = re.compile(r"JOIN([a-z0-9_]+)\.([a-z0-9_]+)=([a-z0-9_]+)\.([a-z0-9_]+)"
                  r"(?:!(.*))?\Z", re.S)
DYNAMIC_ME = "90d1921e5f510100a9ad2572f2b477fe"
MAX_WALK = 8


class Invalid(Exception):
    """A part that the platform would drop."""


class FieldDenied(Exception):
    """A condition on a column that the caller may not read (§2.3)."""


class Query:
    """A compiled query: alternatives of (test, index hints), and the order."""

    def __init__(self):
        self.alternatives = []      # [(tests, hints)]
        self.order = []             # [(path, descending)]
        self.group_by = []
        self.invalid = False


class Queries:
    def __init__(self, platform):
        self.platform = platform
        self.dates = Dates(platform)

    # -- use ----------------------------------------------------------------

    def matches(self, table, text, row):
        query = self.compile(table, text)
        return self._test(query, row)

    @staticmethod
    def _test(query, row):
        return any(all(t(row) for t in tests)
                   for tests, _ in query.alternatives)

    def run(self, table, text, user=None, extra=()):
        """(rows in order, query).  ``extra``: (column, value) equalities."""
        query = self.compile(table, text, user, extra)
        if query.invalid and self.platform.truth(
                "glide.invalid_query.returns_no_rows"):
            return [], query
        found, seen = [], set()
        for tests, hints in query.alternatives:
            for row in self._candidates(table, hints):
                key = row["sys_id"]
                if key not in seen and all(t(row) for t in tests):
                    seen.add(key)
                    found.append(row)
        return self._sort(table, found, query), query

    def _candidates(self, table, hints):
        """The smallest set that an equality or a keyset bound promises."""
        store = self.platform.store
        best = None
        for kind, column, values in hints:
            if kind == "after":
                if column == "sys_id" and best is None:
                    root = self.platform.schema.tables[table].root.name
                    ids = store.by_id.get(root, {})
                    best = [ids[i] for i in store.ids_after(table, values)]
                continue
            rows = []
            for value in values:
                rows.extend(store.find(table, column, value))
            if best is None or len(rows) < len(best):
                best = rows
        return store.of(table) if best is None else best

    def _sort(self, table, rows, query):
        if not query.order:
            if self.platform.switches["shuffle_unordered"]:
                # "Order without ORDERBY is not defined" (§2.4)
                self.platform.random.shuffle(rows)
            return rows
        for path, descending in reversed(query.order):
            key = self._sort_key(table, path)
            rows.sort(key=key, reverse=descending)
        return rows

    def _sort_key(self, table, path):
        column = self.column_at(table, path)
        get = self.getter(table, path)
        if column is None:
            return lambda row: 0
        if column.is_ref:
            show = self.platform.render.reference_text
            return lambda row: show(column, get(row)).casefold()
        if column.kind in ("int", "intchoice", "decimal", "currency"):
            return lambda row: _number(get(row))
        return lambda row: get(row).casefold()

    # -- columns ------------------------------------------------------------

    def column_at(self, table, path):
        """The Column at the end of a dotted path, or None."""
        names = path.split(".")
        if len(names) > MAX_WALK:
            return None
        info = self.platform.schema.tables.get(table)
        for name in names[:-1]:
            column = info.columns.get(name) if info else None
            if column is None or not column.is_ref:
                return None
            info = self.platform.schema.tables.get(column.reference)
        return info.columns.get(names[-1]) if info else None

    def getter(self, table, path):
        """row -> text at a dotted path; '' where a reference is empty."""
        names = path.split(".")
        if len(names) == 1:
            return lambda row: row.get(path, "")
        steps, info = [], self.platform.schema.tables[table]
        for name in names[:-1]:
            column = info.columns[name]
            steps.append(column)
            info = self.platform.schema.tables[column.reference]
        last = names[-1]
        target = self.platform.render.target

        def get(row):
            for column in steps:
                row = target(column, row.get(column.name, ""))
                if row is None:
                    return ""
            return row.get(last, "")
        return get

    # -- compiling ----------------------------------------------------------

    def compile(self, table, text, user=None, extra=()):
        query = Query()
        groups = []                 # groups of the alternative being read
        alternatives = [groups]
        for column, value in extra:
            groups.append([("%s=%s" % (column, value))])
        for op, part in self._parts(text):
            if op == "NQ":
                groups = []
                alternatives.append(groups)
                op = "AND"
            if op == "ORDER":
                self._order(table, part, query)
            elif op == "OR" and groups:
                groups[-1].append(part)
            elif part:
                groups.append([part])
        for number, groups in enumerate(alternatives):
            if not groups and number:
                continue
            query.alternatives.append(self._alternative(
                table, groups, user, query))
        return query

    def _parts(self, text):
        """(connective, text) of each part between carets."""
        if self.platform.switches["caret_escape"]:
            text = text.replace("^^", "\0")
        pieces = text.split("^")
        at = 0
        while at < len(pieces):
            piece = pieces[at].replace("\0", "^")
            at += 1
            op = "AND"
            if piece.startswith("NQ"):
                op, piece = "NQ", piece[2:]
            elif piece.startswith("OR") and not piece.startswith("ORDERBY"):
                op, piece = "OR", piece[2:]
            if piece in ("", "EQ"):
                if op == "NQ":
                    yield op, ""
                continue
            if piece.startswith(("ORDERBY", "GROUPBY")):
                yield "ORDER", piece
                continue
            if piece.startswith("RLQUERY"):
                inner = []
                while at < len(pieces) and pieces[at] != "ENDRLQUERY":
                    inner.append(pieces[at])
                    at += 1
                at += 1
                piece += "\1" + "^".join(inner)
            yield op, piece

    def _order(self, table, part, query):
        if part.startswith("GROUPBY"):
            if self.column_at(table, part[7:]):
                query.group_by.append(part[7:])
            return
        descending = part.startswith("ORDERBYDESC")
        path = part[11 if descending else 7:]
        if self.column_at(table, path) is None:
            query.invalid = True
        else:
            query.order.append((path, descending))

    def _alternative(self, table, groups, user, query):
        tests, hints = [], []
        for group in groups:
            group_tests, group_hints = [], []
            for part in group:
                try:
                    test, hint = self._condition(table, part, user)
                except Invalid:
                    query.invalid = True
                    continue
                group_tests.append(test)
                group_hints.append(hint)
            if len(group_tests) == 1:
                tests.append(group_tests[0])
                hints += [h for h in group_hints if h]
            elif group_tests:
                tests.append(_any(group_tests))
                if all(h and h[0] == "any" and h[1] == group_hints[0][1]
                       for h in group_hints):
                    values = [v for h in group_hints for v in h[2]]
                    hints.append(("any", group_hints[0][1],
                                  list(dict.fromkeys(values))))
        return tests, hints

    def _condition(self, table, part, user):
        if part.startswith("RLQUERY"):
            return self._related(table, part, user), None
        if part.startswith("JOIN"):
            return self._join(table, part, user), None
        if part.startswith("123TEXTQUERY321="):
            return self._text_search(part[16:]), None
        match = CONDITION.match(part)
        if not match:
            raise Invalid(part)
        path, op, value = match.groups()
        op = ALIASES.get(op, op)
        column = self.column_at(table, path)
        if column is None:
            raise Invalid(part)
        if user is not None and self.platform.acl.column_hidden(
                user, column.table, column.name):
            raise FieldDenied(column.name)
        get = self.getter(table, path)
        test = self._test_for(table, column, get, op, value, user)
        return test, self._hint(column, path, op, value)

    @staticmethod
    def _hint(column, path, op, value):
        if "." in path or "javascript:" in value or column.kind in (
                "date", "datetime", "bool"):
            return None
        if op == "=" and value:
            return ("any", path, [value])
        if op == "IN":
            return ("any", path, [v for v in dict.fromkeys(value.split(","))])
        if op == ">" and path == "sys_id":
            return ("after", path, value)
        return None

    def _test_for(self, table, column, get, op, value, user):
        if op in ("ISEMPTY", "EMPTYSTRING"):
            return lambda row: get(row) == ""
        if op == "ISNOTEMPTY":
            return lambda row: get(row) != ""
        if op == "ANYTHING":
            return lambda row: True
        if op in ("SAMEAS", "NSAMEAS") or op.endswith("_FIELD"):
            return self._against_column(table, column, get, op, value)
        if op == "INSTANCEOF":
            if column.kind != "class" and column.name != "sys_class_name":
                raise Invalid(op)
            tables = self.platform.schema.tables
            return lambda row: (get(row) in tables
                                and tables[get(row)].is_a(value))
        if op == "DYNAMIC":
            if value != DYNAMIC_ME or user is None:
                raise Invalid(op)
            return lambda row: get(row) == user.sys_id
        if op == "IN_HIERARCHY":
            return self._in_hierarchy(column, get, value)
        if column.kind in ("date", "datetime"):
            return self._time_test(column, get, op, value, user)
        if op.startswith("RELATIVE") or op in ("ON", "NOTON"):
            raise Invalid(op)
        if value.startswith("javascript:"):
            value = self.dates.script_text(value[11:], user)
            if value is None:
                raise Invalid(op)
        if column.kind in ("int", "intchoice", "decimal", "currency"):
            return _number_test(get, op, value)
        return self._string_test(column, get, op, value)

    def _string_test(self, column, get, op, value):
        # Comparisons are without case [A]; a sys_id is compared as it is.
        want = value.casefold()
        if op in ("LIKE", "NOT LIKE", "STARTSWITH", "ENDSWITH") and column.is_ref:
            show, raw = self.platform.render.reference_text, get
            get = lambda row: show(column, raw(row))        # noqa: E731
        if column.kind == "bool" and op in ("=", "!="):
            want = "true" if want in ("true", "1", "yes") else "false"
            return _compare(lambda row: get(row) or "false", op, want)
        if op == "IN":
            wanted = {v.casefold() for v in value.split(",")}
            return lambda row: get(row).casefold() in wanted
        if op == "NOT IN":
            wanted = {v.casefold() for v in value.split(",")}
            return lambda row: get(row).casefold() not in wanted
        if op == "LIKE":
            return lambda row: want in get(row).casefold()
        if op == "NOT LIKE":
            return lambda row: want not in get(row).casefold()
        if op == "STARTSWITH":
            return lambda row: get(row).casefold().startswith(want)
        if op == "ENDSWITH":
            return lambda row: get(row).casefold().endswith(want)
        if op == "BETWEEN":
            low, at, high = want.partition("@")
            if not at:
                raise Invalid(op)
            return lambda row: low <= get(row).casefold() <= high
        return _compare(lambda row: get(row).casefold(), op, want)

    def _against_column(self, table, column, get, op, other):
        if self.column_at(table, other) is None:
            raise Invalid(op)
        that = self.getter(table, other)
        if op == "SAMEAS":
            return lambda row: get(row) == that(row)
        if op == "NSAMEAS":
            return lambda row: get(row) != that(row)
        sign = {"GT_FIELD": ">", "LT_FIELD": "<", "GT_OR_EQUALS_FIELD": ">=",
                "LT_OR_EQUALS_FIELD": "<="}[op]
        key = (_number if column.kind in ("int", "intchoice", "decimal",
                                          "currency") else str.casefold)

        def test(row):
            left, right = get(row), that(row)
            return bool(left and right) and _holds(key(left), sign, key(right))
        return test

    def _in_hierarchy(self, column, get, top):
        target = self.platform.render.target

        def test(row):
            at, hops = get(row), 0
            while at and hops < 50:
                if at == top:
                    return True
                found = target(column, at)
                at = found.get("parent", "") if found else ""
                hops += 1
            return False
        return test

    def _time_test(self, column, get, op, value, user):
        """Literals are read in the caller's time zone (§2.5)."""
        span = self.dates.span
        if op.startswith("RELATIVE"):
            bound = self.dates.relative(value, user)
            if bound is None:
                raise Invalid(op)
            sign = {"GT": ">", "GE": ">=", "LT": "<", "LE": "<="}[op[8:]]
            bound = bound[:10] if column.kind == "date" else bound
            return _time_compare(get, sign, bound)
        if op in ("ON", "NOTON"):
            pieces = value.split("@")
            if len(pieces) == 1:
                low, high = span(column, pieces[0], user)
            else:
                low = span(column, pieces[1], user)[0]
                high = span(column, pieces[-1], user)[1]
            if low is None or high is None:
                raise Invalid(op)
            inside = lambda row: bool(get(row)) and low <= get(row) <= high  # noqa: E731
            return inside if op == "ON" else (lambda row: not inside(row))
        if op == "BETWEEN":
            pieces = value.split("@")
            if len(pieces) != 2:
                raise Invalid(op)
            low = span(column, pieces[0], user)[0]
            high = span(column, pieces[1], user)[1]
            if low is None or high is None:
                raise Invalid(op)
            return lambda row: bool(get(row)) and low <= get(row) <= high
        if op in ("IN", "NOT IN"):
            wanted = {span(column, v, user)[0] for v in value.split(",")}
            if op == "IN":
                return lambda row: get(row) in wanted
            return lambda row: get(row) not in wanted
        if op in ("LIKE", "NOT LIKE", "STARTSWITH", "ENDSWITH"):
            return self._string_test(column, get, op, value)
        if value == "" and op in ("=", "!="):
            return _compare(get, op, "")
        low, high = span(column, value, user)
        if low is None:
            raise Invalid(op)
        if op in ("=", "!="):
            hit = lambda row: bool(get(row)) and low <= get(row) <= high  # noqa: E731
            return hit if op == "=" else (lambda row: not hit(row))
        # "after the 3rd" starts when the 3rd has ended
        return _time_compare(get, op, high if op in (">", "<=") else low)

    def _related(self, table, part, user):
        head, _, inner = part.partition("\1")
        match = RLQUERY.match(head)
        if not match:
            raise Invalid(part)
        other, field, sign, number, _ = match.groups()
        info = self.platform.schema.tables.get(other)
        if info is None or field not in info.columns:
            raise Invalid(part)
        query = self.compile(other, inner, user)
        store, number = self.platform.store, int(number)

        def test(row):
            hits = [r for r in store.find(other, field, row["sys_id"])
                    if self._test(query, r)]
            return _holds(len(hits), sign, number)
        return test

    def _join(self, table, part, user):
        match = JOIN.match(part)
        if not match:
            raise Invalid(part)
        left, left_field, other, other_field, inner = match.groups()
        tables = self.platform.schema.tables
        if (left != table or other not in tables
                or left_field not in tables[table].columns
                or other_field not in tables[other].columns):
            raise Invalid(part)
        query = self.compile(other, inner or "", user)
        store = self.platform.store

        def test(row):
            value = row.get(left_field, "")
            return bool(value) and any(
                self._test(query, r)
                for r in store.find(other, other_field, value))
        return test

    @staticmethod
    def _text_search(words):
        wanted = words.casefold().split()

        def test(row):
            text = " ".join(row.values()).casefold()
            return all(w in text for w in wanted)
        return test


def _any(tests):
    return lambda row: any(t(row) for t in tests)


def _number(text):
    try:
        return float(text)
    except ValueError:
        return float("-inf")


def _holds(left, sign, right):
    if sign == "=":
        return left == right
    if sign == "!=":
        return left != right
    if sign == "<":
        return left < right
    if sign == "<=":
        return left <= right
    if sign == ">":
        return left > right
    return left >= right


def _compare(get, op, want):
    if op == "=":
        return lambda row: get(row) == want
    if op == "!=":
        return lambda row: get(row) != want
    if op in ("<", "<=", ">", ">="):
        return lambda row: get(row) != "" and _holds(get(row), op, want)
    raise Invalid(op)


def _time_compare(get, op, bound):
    if op not in ("<", "<=", ">", ">="):
        raise Invalid(op)
    return lambda row: get(row) != "" and _holds(get(row), op, bound)


def _number_test(get, op, value):
    if op in ("IN", "NOT IN"):
        wanted = {v.strip() for v in value.split(",")}
        if op == "IN":
            return lambda row: get(row) in wanted
        return lambda row: get(row) not in wanted
    if op in ("LIKE", "STARTSWITH", "ENDSWITH", "NOT LIKE"):
        tests = {"LIKE": lambda v: value in v,
                 "NOT LIKE": lambda v: value not in v,
                 "STARTSWITH": lambda v: v.startswith(value),
                 "ENDSWITH": lambda v: v.endswith(value)}
        return lambda row: tests[op](get(row))
    if op == "BETWEEN":
        low, at, high = value.partition("@")
        if not at:
            raise Invalid(op)
        return lambda row: (get(row) != ""
                            and _number(low) <= _number(get(row)) <= _number(high))
    if value == "":
        return _compare(get, op, "")
    want = _number(value)
    if op == "=":
        return lambda row: get(row) != "" and _number(get(row)) == want
    if op == "!=":
        return lambda row: get(row) == "" or _number(get(row)) != want
    return lambda row: get(row) != "" and _holds(_number(get(row)), op, want)
