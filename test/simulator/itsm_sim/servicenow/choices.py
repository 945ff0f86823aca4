"""Choice lists, read from sys_choice itself, so that a list changed through
REST changes here."""


class Choices:
    def __init__(self, platform):
        self.platform = platform
        self._cache = {}
        self._version = None

    def _rows(self, table, element):
        """Rows of the nearest class that has any: the choices of a child
        class replace those of its parents (§10.11)."""
        store = self.platform.store
        info = self.platform.schema.tables[table]
        for ancestor in info.chain:
            rows = [r for r in store.find("sys_choice", "name", ancestor.name)
                    if r.get("element") == element
                    and r.get("inactive") != "true"
                    and r.get("language", "en") == "en"]
            if rows:
                return rows
        return []

    def of(self, table, element):
        """{value: label}"""
        version = self.platform.choice_version
        if version != self._version:
            self._version = version
            self._cache = {}
        key = (table, element)
        if key not in self._cache:
            self._cache[key] = {r.get("value", ""): r.get("label", "")
                                for r in self._rows(table, element)}
        return self._cache[key]

    def by_label(self, table, element):
        return {label.casefold(): value
                for value, label in self.of(table, element).items()}

    def data_source_registered(self, source):
        """§0.4: an active choice of cmdb_ci.discovery_source that is old
        enough to have reached the cache (§5.7)."""
        if not source:
            return False
        now = self.platform.clock.now()
        wait = self.platform.switches["choice_cache_seconds"]
        for row in self._rows("cmdb_ci", "discovery_source"):
            if row.get("value") == source:
                born = self.platform.rest_births.get(row["sys_id"])
                if born is None or now - born >= wait:
                    return True
        return False
