"""Relations between assets (§2.7): one row per ordered pair (parent, child)
with a kind and a sibling flag."""
from .errors import exception_400, foreign_key_400

TABLE = "AssetRelation"
ENDS = ("parent", "child", "sibling")


class Relations:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches

    # -- reading ------------------------------------------------------------

    def of(self, asset_id, end):
        """(other asset, relation) of the parents, children or siblings."""
        mine, other = ("child_id", "parent_id") if end == "parent" \
            else ("parent_id", "child_id")
        found = [(r[other], r) for r in self.store.find(TABLE, mine, asset_id)
                 if r["sibling_id"] == (end == "sibling")]
        if end == "sibling":        # peers see each other
            found += [(r["parent_id"], r)
                      for r in self.store.find(TABLE, "child_id", asset_id)
                      if r["sibling_id"]]
        return found

    def rows(self, asset_id, end, assets, call):
        """The list as the asset shows it: Device_List rows (§2.7 [A])."""
        rows = []
        for other, relation in self.of(asset_id, end):
            asset = self.store.get("Asset", other)
            if asset is None or not call.caller.sees(assets, asset):
                continue
            rows.append(dict(assets.row(asset, call),
                             relationship_id=relation["relationship_id"],
                             parent_id=relation["parent_id"],
                             child_id=relation["child_id"],
                             sibling_id=relation["sibling_id"]))
        return rows

    def neighbours(self, asset_id):
        return {other for end in ENDS for other, _ in self.of(asset_id, end)}

    def reach(self, asset_id, end):
        """All ascendants or descendants, however far; circles end."""
        seen, todo = [], [asset_id]
        while todo:
            for other, _ in self.of(todo.pop(), end):
                if other not in seen and other != asset_id:
                    seen.append(other)
                    todo.append(other)
        return seen

    # -- writing ------------------------------------------------------------

    def write(self, asset_id, values):
        """What the lists of a body do.  add_, edit_ and delete_ exist on 2026
        builds only; on others they are unknown members, lost in silence."""
        for end in ENDS:
            whole = values.get("%s_assets" % end)
            if whole is not None:
                self._whole(asset_id, end, whole)
            for item in values.get("add_%s_assets" % end, []):
                self._add(asset_id, end, item)
            for item in values.get("edit_%s_assets" % end, []):
                key = self._key(asset_id, end, item)
                if key in self.store.table(TABLE):
                    self._put(key, end, item)
            for item in values.get("delete_%s_assets" % end, []):
                self._delete(asset_id, end, item)

    def _whole(self, asset_id, end, items):
        way = self.switches["halo_relation_lists"]
        if way == "by_build":
            way = "replace" if self.switches["halo_build"] == "2025" \
                else "ignore"
        if way == "ignore":
            return
        if way == "replace":
            for _, row in self.of(asset_id, end):
                self.store.remove(TABLE, (row["parent_id"], row["child_id"]))
        for item in items:
            key = self._key(asset_id, end, item)
            if key is not None:
                self._put(key, end, item)

    def _add(self, asset_id, end, item):
        key = self._key(asset_id, end, item)
        if key is None:
            return
        if key in self.store.table(TABLE):
            way = self.switches["halo_relation_add"]
            if way == "keep":
                return
            if way == "refuse":
                raise exception_400("The relationship already exists")
        self._put(key, end, item)

    def _delete(self, asset_id, end, item):
        key = self._key(asset_id, end, item)
        if key is None:
            return
        row = self.store.get(TABLE, key)
        if end == "sibling" and row is None:
            key = (key[1], key[0])
            row = self.store.get(TABLE, key)
        if row is not None and row["sibling_id"] == (end == "sibling"):
            self.store.remove(TABLE, key)

    def _key(self, asset_id, end, item):
        """(parent, child), or None when the item names no other asset."""
        other = item.get("id")
        if self.switches["halo_relation_item"] == "ends":
            other = item.get("parent_id" if end == "parent" else "child_id")
        if not other or other == asset_id:
            return None
        return (other, asset_id) if end == "parent" else (asset_id, other)

    def _put(self, key, end, item):
        kind = item.get("relationship_id", 0)
        self._check(key, kind)
        self.store.put(TABLE, {"parent_id": key[0], "child_id": key[1],
                               "relationship_id": kind,
                               "sibling_id": end == "sibling"}, key)

    def _check(self, key, kind):
        """Both ends and the kind exist; a table of the tenant may restrict
        the kinds between two types."""
        if self.switches["halo_bad_reference"] == "refuse":
            database = self.platform.database()
            for asset_id in key:
                if self.store.get("Asset", asset_id) is None:
                    raise foreign_key_400(database, TABLE, "id")
            if kind and self.store.get("RelationKind", kind) is None:
                raise foreign_key_400(database, TABLE, "relationship_id")
        types = [(self.store.get("Asset", k) or {}).get("assettype_id")
                 for k in key]
        allowed = [r["relationship"] for r in self.store.rows("RelationRule")
                   if [r["upstream_type"], r["downstream_type"]] == types]
        if allowed and kind not in allowed:
            raise exception_400("This relationship is not allowed between "
                                "these asset types")

    def forget(self, asset_id):
        """Deleting an end removes its relations (§2.7 [A])."""
        for member in ("parent_id", "child_id"):
            for row in self.store.find(TABLE, member, asset_id):
                self.store.remove(TABLE, (row["parent_id"], row["child_id"]))
