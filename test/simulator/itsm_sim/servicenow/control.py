"""Control endpoints of the ServiceNow side (/__sim/...)."""
import collections

from ..control import BadRequest, PlatformControl, listing


class ServiceNowControl(PlatformControl):
    RAW = {"import_update_set", "import_xml"}   # their bodies are XML

    def get_stats(self, query, doc):
        stats = self.front.log.counters()
        platform = self.platform
        stats["tokens_issued"] = platform.auth.issued
        stats["records"] = {
            table: len(rows) for table, rows in
            sorted(platform.store.rows.items()) if rows}
        stats["duplicates"] = self._duplicates()
        stats["orphans"] = self._orphans()
        stats["faults_fired"] = self.front.faults.fired
        stats["turned_away"] = platform.limits.turned_away
        return stats

    def _duplicates(self):
        store = self.platform.store
        by_key = collections.defaultdict(list)
        for row in store.of("cmdb_ci"):
            if row.get("correlation_id"):
                by_key[row["correlation_id"]].append(
                    {"sys_id": row["sys_id"], "class": row.table,
                     "name": row.get("name", "")})
        native = collections.defaultdict(set)
        for row in store.of("sys_object_source"):
            native[(row.get("name", ""), row.get("id", ""))].add(
                row.get("target_sys_id", ""))
        owners = collections.defaultdict(set)
        for (source, key), targets in native.items():
            for target in targets:
                owners[(source, target)].add(key)
        relations = collections.Counter(
            (r.get("parent", ""), r.get("child", ""), r.get("type", ""))
            for r in store.of("cmdb_rel_ci"))
        return {
            "correlation_id": listing(
                {"correlation_id": k, "records": v}
                for k, v in by_key.items() if len(v) > 1),
            # one CI that several of a source's records fell onto
            "merged": listing(
                {"target": k[1], "source": k[0], "native_keys": sorted(v)}
                for k, v in owners.items() if len(v) > 1),
            "native_key": listing(
                {"source": k[0], "native_key": k[1], "targets": sorted(v)}
                for k, v in native.items() if len(v) > 1),
            "relations": listing(
                {"parent": k[0], "child": k[1], "type": k[2], "rows": n}
                for k, n in relations.items() if n > 1)}

    def _orphans(self):
        """Relations and native keys that point to no CI."""
        store = self.platform.store
        cis = store.by_id.get("cmdb_ci", {})
        return {
            "relations": listing(
                r["sys_id"] for r in store.of("cmdb_rel_ci")
                if r.get("parent") not in cis or r.get("child") not in cis),
            "native_keys": listing(
                r.get("id", "") for r in store.of("sys_object_source")
                if store.get(self._root(r), r.get("target_sys_id", "")) is None)}

    def _root(self, row):
        table = self.platform.schema.get(row.get("target_table", ""))
        return table.root.name if table is not None else "cmdb_ci"

    def get_dump(self, query, doc):
        names = [n for n in query.get("tables", "").split(",") if n]
        inherit = query.get("inherit") == "1"
        dump = {}
        for name in names:
            table = self.platform.schema.get(name)
            if table is None:
                raise BadRequest("unknown table " + name)
            if inherit:
                rows = self.platform.store.of(name)
            else:
                rows = self.platform.store.rows.get(name, {}).values()
            dump[name] = [self._raw(r) for r in
                          sorted(rows, key=lambda r: r["sys_id"])]
        return dump

    def _raw(self, row):
        columns = self.platform.schema.tables[row.table].columns
        return {n: "***" if columns[n].kind == "password" and v else v
                for n, v in row.items() if n in columns}

    # -- arranging ----------------------------------------------------------

    def post_load(self, query, doc):
        from .base_rows import BaseRows
        loader = BaseRows(self.platform)
        if not isinstance(doc, dict):
            raise BadRequest("an object of table to rows is expected")
        special = {"acl", "data_policies", "abort_rules", "transform_maps"}
        for table, rows in doc.items():
            if not isinstance(rows, list) or not all(
                    isinstance(r, dict) for r in rows):
                raise BadRequest("%s: a list of rows is expected" % table)
            if table not in special and self.platform.schema.get(table) is None:
                raise BadRequest("unknown table " + table)
        loaded = {}
        for table, rows in doc.items():
            if table == "acl":
                self.platform.acl.load(rows)
            elif table in special:
                getattr(self.platform, table).extend(rows)
            else:
                loaded[table] = [self._load_row(loader, table, row)
                                 for row in rows]
        return {"sys_ids": loaded}

    def _load_row(self, loader, table, row):
        row = dict(row)
        if table == "oauth_entity" and "sys_id" not in row:
            for known in self.platform.store.find("oauth_entity", "client_id",
                                                  row.get("client_id", "")):
                row["sys_id"] = known["sys_id"]
        if table == "sys_properties" and "sys_id" not in row:
            for known in self.platform.store.find("sys_properties", "name",
                                                  row.get("name", "")):
                row["sys_id"] = known["sys_id"]
        fresh = None if "sys_id" in row else self.platform.new_sys_id()
        put = loader.put(table, row, fresh)
        self.platform.row_written(table, put)
        return put["sys_id"]

    def post_import_update_set(self, query, body):
        """What Import Update Set from XML, Preview and Commit do."""
        from .update_set import UpdateSets
        return UpdateSets(self.platform).import_update_set(body)

    def post_import_xml(self, query, body):
        """What Import XML on a list does."""
        from .update_set import UpdateSets
        return UpdateSets(self.platform).import_xml(body)

    def post_delete(self, query, doc):
        """{"table": [sys_ids]}: rows vanish, as if somebody else did it."""
        count = 0
        for table, ids in doc.items():
            for sys_id in ids:
                row = self.platform.store.get(table, sys_id)
                if row is not None:
                    self.platform.records.delete(row, "admin")
                    self.platform.row_written(row.table, row)
                    count += 1
        return {"deleted": count}

    def get_limits(self, query, doc):
        return self.platform.limits.describe()

    def post_limits(self, query, doc):
        self.platform.limits.configure(doc)
        return self.platform.limits.describe()

    def delete_limits(self, query, doc):
        self.platform.limits.reset()
        return self.platform.limits.describe()
