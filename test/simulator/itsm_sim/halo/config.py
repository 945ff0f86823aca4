"""Asset configuration (§2.8): types, groups, fields, statuses, lookups."""
from . import errors
from . import members as m
from .listing import boolean, integer, same
from .resource import Resource


class AssetType(Resource):
    name, members = "AssetType", m.ASSET_TYPE
    scope, write_scope, area = "assets", "config", "Assets"
    required = ("name",)
    filters = {"assetgroup_id": same("assetgroup_id")}
    joins = {"assetgroup_name": ("assetgroup_id", "AssetGroup", "name")}

    def details(self, shown, row, call):
        params = call.params if call else {}
        if call is None or call.writes or boolean(params, "includedetails") \
                or boolean(params, "fieldsandlayoutonly"):
            shown["fields"] = row.get("fields", [])
            shown["allowed_status"] = [
                {"xtype_id": row["id"], "status_id": key}
                for key in row.get("allowed_status", [])]

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if "fields" in values:
            self._slots(row, values["fields"])
        if "allowed_status" in values:
            row["allowed_status"] = [
                item.get("status_id", item.get("id"))
                for item in values["allowed_status"]]

    def _slots(self, row, items):
        """fields[].id is the slot in the type, field_id the /Field row, and
        keyfield_id "1", "2", "3" marks the key fields; the type's keyfield_id
        holds the slot's id (§2.8)."""
        slots = {s["field_id"]: s for s in row.get("fields", [])}
        kept = dict(slots) if self.switches["halo_type_fields"] == "add" \
            else {}
        for number, item in enumerate(items):
            field = self.store.get("Field", item.get("field_id"))
            if field is None:
                raise errors.foreign_key_400(self.platform.database(),
                                             "xtype", "field_id")
            slot = dict(slots.get(field["id"]) or {
                "id": self.store.next_id("slot"), "field_id": field["id"],
                "sequence": number + 1, "type": field.get("validate", "X")})
            slot.update({n: v for n, v in item.items()
                         if n not in ("id", "field_id")})
            slot["field_name"] = field.get("name", "")
            kept[field["id"]] = slot
        row["fields"] = list(kept.values())
        for mark in ("1", "2", "3"):
            name = "keyfield%s_id" % ("" if mark == "1" else mark)
            marked = [s["id"] for s in row["fields"]
                      if str(s.get("keyfield_id", "")) == mark]
            if marked:
                row[name] = marked[0]
            elif row.get(name) not in [s["id"] for s in row["fields"]]:
                row.pop(name, None)

    def add_slot(self, type_id, field_id):
        """A slot at the end, as a write of an asset makes it (§2.4)."""
        row = dict(self.store.get("AssetType", type_id))
        field = self.store.get("Field", field_id)
        row["fields"] = row.get("fields", []) + [{
            "id": self.store.next_id("slot"), "field_id": field_id,
            "field_name": field.get("name", ""),
            "type": field.get("validate", "X"),
            "sequence": len(row.get("fields", [])) + 1}]
        self.store.put("AssetType", row)


class AssetTypeInfo(Resource):
    """The same rows, lighter."""
    name, scope, area, can = "AssetTypeInfo", "assets", "Assets", ("list",)

    def list(self, call):
        return [{"id": r["id"], "name": r.get("name", "")}
                for r in sorted(self.store.rows("AssetType"),
                                key=lambda r: r["id"])]


class AssetGroup(Resource):
    name, members = "AssetGroup", m.ASSET_GROUP
    scope, write_scope, area = "assets", "config", "Assets"
    required = ("name",)


class Field(Resource):
    """GET and DELETE of one need kind: 400 without (§2.8 [L])."""
    name, members = "Field", m.FIELD
    write_scope = "config"
    required = ("name",)
    defaults = {"validate": "X", "mandatory": False}
    filters = {
        "kind": ("text", lambda p, row, value: row.get("kind") == value),
        "type_id": ("int", lambda p, row, value: any(
            s["field_id"] == row["id"] for s in
            (p.store.get("AssetType", value) or {}).get("fields", [])))}

    def fetch(self, call, key):
        if not call.params.get("kind"):
            raise self._no_kind()
        row = super().fetch(call, key)
        if row.get("kind") != call.params["kind"]:
            raise errors.empty(404)
        return row

    @staticmethod
    def _no_kind():
        return errors.string_400("Field kind must be specified")

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if not row.get("kind"):
            raise self._no_kind()

    def in_use(self, key):
        return any(s["field_id"] == key for kind in
                   self.store.rows("AssetType")
                   for s in kind.get("fields", []))


class FieldInfo(Resource):
    """Custom fields of all tables; assets are typeid 5.  Their names start
    with CF (§2.6, §2.8)."""
    name, members = "FieldInfo", m.FIELD_INFO
    write_scope = "config"
    required = ("name", "typeid")
    filters = {"typeid": same("typeid")}

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if not row["name"].startswith("CF"):
            row["name"] = "CF" + row["name"]



class Status(Resource):
    """Serves tickets and assets; what selects those of assets was not found
    (§10 gap 7)."""
    name, members = "Status", m.STATUS
    write_scope = "config"
    required = ("name",)

    def all_rows(self, call):
        rows = super().all_rows(call)
        name, _, value = self.switches["halo_status_filter"].partition("=")
        if name and call.params.get(name) == value:
            rows = [r for r in rows if r.get("type") == ASSET_STATUS]
        return rows

    def row(self, row, call=None):
        shown = super().row(row, call)
        shown.pop("type", None)
        return shown

    def full(self, row, call=None):
        shown = super().full(row, call)
        shown.pop("type", None)
        return shown


ASSET_STATUS = 2            # in our own rows; no answer shows it


class Lookup(Resource):
    """Rows of all lookups; without lookupid everything (§2.8).  The kinds of
    relations and the events are where switches put them (§10 gaps 1, 5)."""
    name, can = "Lookup", ("list",)

    def list(self, call):
        rows = [dict(r) for r in self.store.rows("Lookup")]
        kinds = int(self.switches["halo_relation_lookup"])
        rows.append({"id": kinds, "lookupid": 11,
                     "name": "Asset Relationship Types"})
        rows += [{"id": r["id"], "lookupid": kinds, "name": r["name"]}
                 for r in self.store.rows("RelationKind")]
        rows += [{"id": number, "lookupid": 64, "name": name}
                 for number, name in self.platform.webhooks.asset_events()]
        wanted = integer(call.params, "lookupid")
        if wanted is not None:
            rows = [r for r in rows if r["lookupid"] == wanted]
        return sorted(rows, key=lambda r: (r["lookupid"], r["id"]))
