"""Reconciliation rules (§5.4): which source may change which attribute.

They work on update only; what is refused is masked, which is no error.
"""
import re

DURATION = re.compile(r"(?:(\d+) )?(\d+):(\d+):(\d+)\Z")


class Reconciler:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store

    def wrote(self, row, values, source):
        now = self.platform.clock.now()
        for name in values:
            self.store.set_writer(row, name, source, now)

    def filter(self, row, values, source):
        """(changes allowed, names masked)."""
        rules = self._rules_of(row)
        allowed, masked = {}, []
        for name, new in values.items():
            if name == "sys_id":
                continue
            governing = self._governing(rules, name)
            if new == row.get(name, ""):
                allowed[name] = new
            elif not governing:
                if new != "" or self.platform.switches["ire_empty_clears"]:
                    allowed[name] = new
            elif self._may(row, name, new, source, governing):
                allowed[name] = new
            else:
                masked.append(name)
        return allowed, masked

    def _rules_of(self, row):
        """[(distance of the class, rule row)]"""
        if "cmdb_reconciliation_definition" not in self.platform.schema.tables:
            return []
        found = []
        table = self.platform.schema.tables[row.table]
        for distance, ancestor in enumerate(table.chain):
            for rule in self.store.find("cmdb_reconciliation_definition",
                                        "applies_to", ancestor.name):
                if rule.get("active") == "false":
                    continue
                if rule.get("condition") and not self.platform.queries.matches(
                        row.table, rule["condition"], row):
                    continue
                found.append((distance, rule))
        return found

    @staticmethod
    def _governing(rules, name):
        """Attribute-specific beats "all attributes"; then the nearest class."""
        specific, general = [], []
        for distance, rule in rules:
            names = [a.strip() for a in rule.get("attributes", "").split(",")
                     if a.strip()]
            if name in names:
                specific.append((distance, rule))
            elif not names:
                general.append((distance, rule))
        chosen = specific or general
        if not chosen:
            return []
        nearest = min(d for d, _ in chosen)
        return [r for d, r in chosen if d == nearest]

    def _may(self, row, name, new, source, governing):
        priority = {}
        for rule in governing:
            key = rule.get("discovery_source", "")
            number = int(rule.get("priority") or 100)
            priority[key] = min(number, priority.get(key, number))
        last = (row.writers or {}).get(name)
        old = row.get(name, "")
        if new == "":
            return self._null_allowed(name, source, governing)
        if old == "" and self.platform.truth(
                "glide.reconciliation.override.null", True):
            return True         # an empty field may be filled by anyone
        if last is not None and last[0] == source:
            return True
        if source not in priority:
            return False        # a source without any rule comes last
        if last is None or last[0] not in priority:
            return True
        if priority[last[0]] >= priority[source]:
            return True
        return self._gone_stale(row, last)

    @staticmethod
    def _null_allowed(name, source, governing):
        return any(rule.get("discovery_source") == source and name in [
            a.strip() for a in rule.get("null_update", "").split(",")]
            for rule in governing)

    def _gone_stale(self, row, last):
        """A data refresh rule gives way after its duration."""
        table = self.platform.schema.tables[row.table]
        for rule in self.store.find("cmdb_datasource_staleness",
                                    "discovery_source", last[0]):
            if rule.get("active") == "false" or not table.is_a(
                    rule.get("applies_to", "")):
                continue
            match = DURATION.match(rule.get("duration", ""))
            if match:
                days, hours, minutes, seconds = (int(g or 0)
                                                 for g in match.groups())
                life = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
                if self.platform.clock.now() - last[1] > life:
                    return True
        return False
