"""Control endpoints of the Halo side (/__sim/halo/...)."""
import collections

from ..control import BadRequest, PlatformControl, listing
from .access import LEVELS
from .body import bind
from .errors import EMPTY, HaloError

SECRETS = ("client_secret", "password", "basic_password")


class HaloControl(PlatformControl):

    # -- looking ------------------------------------------------------------

    def get_stats(self, query, doc):
        platform = self.platform
        stats = self.front.log.counters()
        stats["by_resource"] = self._by_resource()
        stats["records"] = {name: len(rows) for name, rows in
                            sorted(platform.store.tables.items()) if rows}
        stats["duplicates"] = self._duplicates()
        stats["orphans"] = self._orphans()
        stats["tokens_issued"] = platform.auth.issued
        stats["faults_fired"] = self.front.faults.fired
        stats["rate"] = platform.rate.describe()
        stats["webhooks"] = dict(platform.webhooks.counts,
                                 pending=platform.webhooks.pending)
        return stats

    def _by_resource(self):
        """{"Asset": {"GET": 3, "POST": 2}}, ids or not."""
        found = collections.defaultdict(collections.Counter)
        for endpoint, count in self.front.log.by_endpoint.items():
            method, _, path = endpoint.partition(" ")
            parts = path.split("/")
            if parts[1:2] == ["halo"] and len(parts) > 3:
                name = "token" if parts[2] == "auth" else parts[3]
                found[name][method] += count
        return {name: dict(counts) for name, counts in found.items()}

    def _duplicates(self):
        """Records that nothing but a missing id makes two of (§0 rule 2)."""
        keys = {
            "Asset": ("inventory_number",), "Supplier": ("name",),
            "SupplierContract": ("ref", "supplier_id"),
            "Service": ("name",), "ServiceCategory": ("name",),
            "SoftwareLicence": ("name",), "Users": ("emailaddress",),
            "Client": ("name",), "Site": ("name", "client_id")}
        found = {}
        for table, names in keys.items():
            groups = collections.defaultdict(list)
            for row in self.platform.store.rows(table):
                key = tuple(row.get(n) for n in names)
                if key[0]:
                    groups[key].append(row["id"])
            found[table] = listing(
                {"key": list(k), "ids": ids} for k, ids in groups.items()
                if len(ids) > 1)
        return found

    def _orphans(self):
        """References to rows that are not there."""
        store = self.platform.store
        found = []
        for resource in self.platform.resources.values():
            targets = [m for m in resource.members.values()
                       if m.table and m.stored]
            for row in store.rows(resource.name):
                for member in targets:
                    value = row.get(member.name)
                    if value and store.get(member.table, value) is None:
                        found.append({"resource": resource.name,
                                      "id": row["id"], "member": member.name,
                                      "value": value})
        for row in store.rows("AssetRelation"):
            for name in ("parent_id", "child_id"):
                if store.get("Asset", row[name]) is None:
                    found.append(dict(row, resource="AssetRelation",
                                      member=name))
        return listing(found)

    def get_dump(self, query, doc):
        """?tables=a,b (default all): stored rows, in order of their keys;
        shown=1: as GET {id}?includedetails=true answers them."""
        store = self.platform.store
        names = [n for n in query.get("tables", "").split(",") if n]
        for name in names:
            if name not in store.tables:
                raise BadRequest("unknown table " + name)
        dump = {}
        for name in names or sorted(store.tables):
            rows = [row for _, row in sorted(store.table(name).items())]
            dump[name] = [self._raw(name, row, query.get("shown") == "1")
                          for row in rows]
        return dump

    def _raw(self, name, row, shown):
        resource = self.platform.resources.get(name.lower())
        if shown and resource is not None:
            call = self.platform.at_screen()
            call.params = {"includedetails": "true"}
            return resource.full(row, call)
        return {n: "***" if n in SECRETS and v else v for n, v in row.items()}

    # -- arranging ----------------------------------------------------------

    def post_load(self, query, doc):
        """{"Table": [rows]}: upsert by id, no rules, no events; their ids.
        Also AssetRelation, Agent, Application, RelationKind, RelationRule,
        Environment."""
        _check_tables(doc)
        for table in doc:
            if table not in self.platform.store.tables:
                raise BadRequest("unknown table " + table)
        for agent in doc.get("Agent", []):
            for level in agent.get("access", {}).values():
                if level not in LEVELS:
                    raise BadRequest("a level is one of %s"
                                     % ", ".join(LEVELS))
        return {"ids": self.platform.load(doc)}

    def post_edit(self, query, doc):
        """{"Asset": [objects], "by": name}: somebody works at the screen: the
        rules, the history and the events of a write, no token and no limit."""
        name = doc.pop("by", None)
        _check_tables(doc)
        edited = {}
        for table, objects in doc.items():
            call = self.platform.at_screen(name)
            resource = self._resource(table)
            elements = [bind(o, n, resource.writable(call), lambda path: (1, 0))
                        for n, o in enumerate(objects)]
            edited[table] = self._told(
                lambda: self.platform.poster.write(resource, call, elements))
        return edited

    def post_remove(self, query, doc):
        """{"Asset": [ids]}: deleted at the screen."""
        count = 0
        for table, ids in doc.items():
            resource = self._resource(table)
            for key in ids:
                call = self.platform.at_screen()
                row = self.platform.store.get(resource.name, key) or {}
                call.params = {"kind": row.get("kind", "")}     # for /Field
                self._told(lambda: resource.delete(call, key))
                call.flush()
                count += 1
        self.platform.store.forget()
        return {"deleted": count}

    def _resource(self, name):
        resource = self.platform.resources.get(name.lower())
        if resource is None:
            raise BadRequest("unknown resource " + name)
        return resource

    def _told(self, action):
        try:
            return action()
        except HaloError as error:
            value = "" if error.value is EMPTY else error.value
            raise BadRequest("%d %s" % (error.status, value))
        finally:
            self.platform.store.forget()

    def post_revoke(self, query, doc):
        """All access tokens end now, refresh tokens too with all=true."""
        self.platform.auth.expire_all()
        if doc.get("all"):
            self.platform.auth.refresh.clear()
        return {"revoked": True}

    def get_limits(self, query, doc):
        return self.platform.rate.describe()

    def post_limits(self, query, doc):
        """{"requests": n, "seconds": s}: the switches halo_rate_..."""
        self.front.switches.update(
            {"halo_rate_" + n: doc[n] for n in ("requests", "seconds")
             if n in doc})
        return self.platform.rate.describe()


def _check_tables(doc):
    if not isinstance(doc, dict) or not all(
            isinstance(rows, list) and all(isinstance(r, dict) for r in rows)
            for rows in doc.values()):
        raise BadRequest("an object of table to rows is expected")
