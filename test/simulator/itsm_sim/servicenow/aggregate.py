"""Aggregate API (§9)."""
from ..wire import json_reply
from .errors import ApiError, invalid_table, no_resource

FUNCTIONS = ("avg", "min", "max", "sum")


class Aggregate:
    def __init__(self, platform):
        self.platform = platform

    def handle(self, request, parts):
        if len(parts) != 1 or not parts[0]:
            raise no_resource()
        if request.method != "GET":
            raise ApiError(405, "Method not supported",
                           request.method + " method not supported for API")
        table = self.platform.schema.get(parts[0])
        if table is None:
            raise invalid_table(parts[0])
        if not self.platform.acl.allows(request.user, table.name, "read"):
            raise ApiError(403, "Insufficient rights to query records")
        asked = self._asked(request, table)
        count = request.query.get("sysparm_count", "").lower() == "true"
        if not asked and not count:
            raise ApiError(400, "No request parameter for aggregate operation "
                                "specified")
        # the same ACLs as the Table API
        rows, query = self.platform.table_api.search(request, table)
        rows = [r for r in rows
                if not self.platform.acl.row_hidden(request.user, r)]
        groups = self._names(request, "sysparm_group_by", table) \
            or query.group_by
        if not groups:
            return json_reply(200, {"result": {
                "stats": self._stats(table, rows, count, asked)}})
        return json_reply(200, {"result": self._grouped(
            request, table, rows, groups, count, asked)})

    def _names(self, request, parameter, table):
        return [n for n in request.query.get(parameter, "").split(",")
                if n and self.platform.queries.column_at(table.name, n)]

    def _asked(self, request, table):
        found = {}
        for function in FUNCTIONS:
            names = self._names(request, "sysparm_%s_fields" % function, table)
            if names:
                found[function] = names
        return found

    def _stats(self, table, rows, count, asked):
        stats = {}
        if count:
            stats["count"] = str(len(rows))
        for function, names in asked.items():
            stats[function] = {n: self._value(function, table, n, rows)
                               for n in names}
        return stats

    def _value(self, function, table, name, rows):
        get = self.platform.queries.getter(table.name, name)
        values = [v for v in (get(r) for r in rows) if v != ""]
        if function in ("avg", "sum"):
            numbers = [float(v) for v in values if _is_number(v)]
            if not numbers:
                return ""
            total = sum(numbers)
            if function == "avg":
                return "%.4f" % (total / len(numbers))
            return "%g" % total
        if not values:
            return ""
        key = float if all(_is_number(v) for v in values) else str
        return (min if function == "min" else max)(values, key=key)

    def _grouped(self, request, table, rows, groups, count, asked):
        getters = [self.platform.queries.getter(table.name, g) for g in groups]
        buckets = {}
        for row in rows:
            buckets.setdefault(tuple(g(row) for g in getters), []).append(row)
        wanted = self._having(request)
        show = request.query.get("sysparm_display_value", "false") == "true"
        result = []
        for values in self._order(request, buckets, groups):
            members = buckets[values]
            if wanted and not wanted(len(members)):
                continue
            fields = []
            for name, value in zip(groups, values):
                if show:
                    column = self.platform.queries.column_at(table.name, name)
                    value = self.platform.render.display(
                        column, members[0], value, request.user)
                fields.append({"field": name, "value": value})
            result.append({"stats": self._stats(table, members, count, asked),
                           "groupby_fields": fields})
        return result

    @staticmethod
    def _order(request, buckets, groups):
        wanted = request.query.get("sysparm_order_by", "")
        descending = wanted.upper().endswith("^DESC")
        name = wanted.partition("^")[0]
        if name.upper() == "COUNT":
            return sorted(buckets, key=lambda k: len(buckets[k]),
                          reverse=descending)
        if name in groups:
            at = groups.index(name)
            return sorted(buckets, key=lambda k: k[at], reverse=descending)
        return sorted(buckets)

    @staticmethod
    def _having(request):
        """``count^state^>^3``"""
        parts = request.query.get("sysparm_having", "").split("^")
        if len(parts) != 4 or parts[0] != "count" or not _is_number(parts[3]):
            return None
        bound = float(parts[3])
        tests = {">": lambda n: n > bound, "<": lambda n: n < bound,
                 ">=": lambda n: n >= bound, "<=": lambda n: n <= bound,
                 "=": lambda n: n == bound, "!=": lambda n: n != bound}
        return tests.get(parts[2])


def _is_number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False
