"""What became of an asset: /AssetChange (§2.8, §6)."""
from . import dates
from . import members as m
from .listing import integer, same
from .resource import Resource

# members whose change is no change of the record
BOOKKEEPING = {"last_modified", "dlastupdate", "changeguid", "guid", "_fields"}


class History:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store

    def write(self, call, row, existing):
        """/AssetChange (§6)."""
        before = existing or {}
        for name in sorted(set(row) | set(before)):
            if name not in BOOKKEEPING and not name.startswith("_") \
                    and row.get(name) != before.get(name) and name != "id":
                self._change(call, row, 0, name, before.get(name),
                             row.get(name))
        was, now = before.get("_fields", {}), row.get("_fields", {})
        for key in sorted(set(was) | set(now)):
            if was.get(key) != now.get(key):
                field = self.store.get("Field", key) or {}
                self._change(call, row, key, field.get("name", ""),
                             was.get(key), now.get(key))

    def _change(self, call, row, field_id, name, old, new):
        self.store.put("AssetChange", {
            "id": self.store.next_id("AssetChange"), "asset_id": row["id"],
            "field_id": field_id, "field_name": name, "field_desc": name,
            "old_value": "" if old is None else str(old),
            "new_value": "" if new is None else str(new),
            "who": call.caller.name, "who_id": call.caller.agent_id,
            "datetime": dates.stamp(self.platform.now())})


class AssetChange(Resource):
    """Must be filtered; unfiltered it times out (§2.8, §6)."""
    name, rows = "AssetChange", "changehistory"
    members = m.members("""
        id int; asset_id int; field_id int; field_name text; field_desc text
        old_value text; new_value text; who text; who_id int; datetime date
        """)
    scope, area, can = "assets", "Assets", ("list",)
    searched = ("field_name",)
    filters = {"asset_id": same("asset_id")}

    def list(self, call):
        if integer(call.params, "asset_id") is None:
            raise self.platform.gateway_timeout()
        return super().list(call)
