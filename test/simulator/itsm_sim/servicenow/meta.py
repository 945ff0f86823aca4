"""CMDB Meta API (§4): class, attributes, identification rule in one call."""
from ..wire import json_reply
from .errors import ApiError, no_resource, not_found
from .ire import require_role


def _flag(value):
    return "true" if value else "false"


class Meta:
    def __init__(self, platform):
        self.platform = platform

    def handle(self, request, parts):
        if len(parts) != 1 or not parts[0]:
            raise no_resource()
        if request.method != "GET":
            raise ApiError(405, "Method not supported",
                           request.method + " method not supported for API")
        require_role(request.user, "itil")
        table = self.platform.schema.get(parts[0])
        if table is None or not table.is_a("cmdb_ci"):
            raise not_found()
        return json_reply(200, {"result": {
            "name": table.name, "label": table.label,
            "parent": table.parent.name if table.parent else "",
            "children": [c.name for c in table.children],
            "is_extendable": "true", "icon": "", "icon_url": "",
            "attributes": [self._attribute(table, c)
                           for c in table.columns.values()],
            "relationship_rules": self._relationship_rules(table),
            "identification_rules": self._rules(table)}})

    @staticmethod
    def _attribute(table, column):
        # flags are strings here and booleans below, as documented (§4)
        return {"element": column.name, "label": column.label,
                "type": column.type, "max_length": str(column.max_length),
                "is_mandatory": _flag(column.mandatory),
                "is_read_only": _flag(column.read_only),
                "is_inherited": _flag(column.table != table.name),
                "is_display": _flag(column.name == table.display_column),
                "default_value": column.default or None}

    def _relationship_rules(self, table):
        rules = []
        if "cmdb_rel_type_suggest" not in self.platform.schema.tables:
            return rules
        for row in self.platform.store.of("cmdb_rel_type_suggest"):
            if table.name in (row.get("parent"), row.get("child")):
                rules.append({"parent": row.get("parent", ""),
                              "child": row.get("child", ""),
                              "relation_type": row.get("relation_type", "")})
        return rules

    def _rules(self, table):
        store = self.platform.store
        for ancestor in table.chain:
            for rule in store.find("cmdb_identifier", "applies_to",
                                   ancestor.name):
                if rule.get("active") != "false":
                    return self._rule(rule)
        return {}

    def _rule(self, rule):
        entries = sorted(
            self.platform.store.find("cmdb_identifier_entry", "identifier",
                                     rule["sys_id"]),
            key=lambda r: int(r.get("order") or 100))
        return {"name": rule.get("name", ""),
                "applies_to": rule.get("applies_to", ""), "active": True,
                "is_independent": rule.get("independent") == "true",
                "description": rule.get("description", ""),
                "related_rules": [],
                "identifiers": [{
                    "table": e.get("table", ""),
                    "attributes": e.get("attributes", ""),
                    "order": e.get("order", "100"),
                    "active": e.get("active") != "false",
                    "condition": e.get("condition") or None,
                    "allow_null_attribute":
                        e.get("allow_null_attribute") == "true",
                    "allow_fallback": e.get("allow_fallback") == "true",
                    "exact_count_match": e.get("exact_count_match") == "true",
                    "referenced_field": None} for e in entries]}
