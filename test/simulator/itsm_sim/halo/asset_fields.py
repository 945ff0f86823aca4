"""The fields that an asset has through its type (§2.4, §2.6, §2.8)."""
from . import errors


class AssetFields:
    def __init__(self, platform):
        self.store = platform.store
        self.platform = platform
        self.switches = platform.switches

    # -- reading ------------------------------------------------------------

    def key_field(self, row, name):
        """A read-only copy of a field of the asset, chosen by the type: its
        keyfield_id is the id of the slot (§2.6, §2.8)."""
        kind = self.store.get("AssetType", row.get("assettype_id")) or {}
        slot = kind.get(name.replace("key_field", "keyfield") + "_id")
        for field in kind.get("fields", []):
            if field["id"] == slot:
                return row.get("_fields", {}).get(field["field_id"])
        return None

    def shown(self, row):
        """The type's own fields with the asset's values (§2.6)."""
        kind = self.store.get("AssetType", row.get("assettype_id")) or {}
        values = row.get("_fields", {})
        shown = []
        for slot in kind.get("fields", []):
            field = self.store.get("Field", slot["field_id"]) or {}
            entry = {"id": slot["field_id"], "name": field.get("name", ""),
                     "mandatory": self._mandatory(slot, field),
                     "validate": field.get("validate", "X")}
            if values.get(slot["field_id"]):
                entry["value"] = entry["display"] = values[slot["field_id"]]
            shown.append(entry)
        return shown

    # -- writing ------------------------------------------------------------

    def write(self, row, values):
        """Entries by id or name; what the type lacks is ignored when
        _dontaddnewfields is true, else added to the type (§2.4)."""
        kind = self.store.get("AssetType", row["assettype_id"])
        stored = dict(row.get("_fields", {}))
        for entry in values["fields"]:
            field = self._field_of(kind, entry, values)
            if field is None or "value" not in entry:
                continue
            value = entry["value"]
            if isinstance(value, bool):
                value = "true" if value else "false"
            if value == "":
                stored.pop(field, None)
            else:
                stored[field] = value if isinstance(value, str) else str(value)
        row["_fields"] = stored

    def _field_of(self, kind, entry, values):
        slots = [s["field_id"] for s in kind.get("fields", [])]
        name = str(entry.get("name", "")).casefold()
        for field_id in slots:
            field = self.store.get("Field", field_id) or {}
            if entry.get("id") == field_id or (
                    "id" not in entry and name
                    and field.get("name", "").casefold() == name):
                return field_id
        if values.get("_dontaddnewfields") \
                or not self.switches["halo_adds_fields"]:
            return None
        return self._new_field(kind["id"], entry)

    def _new_field(self, type_id, entry):
        field = self.store.get("Field", entry.get("id"))
        if field is None and entry.get("name") and "id" not in entry:
            field = self.store.put("Field", {
                "id": self.store.next_id("Field"), "name": str(entry["name"]),
                "kind": "T", "validate": "X", "mandatory": False})
        if field is None:
            return None
        self.platform.resources["assettype"].add_slot(type_id, field["id"])
        return field["id"]

    @staticmethod
    def _mandatory(slot, field):
        return bool(slot.get("mandatory") or field.get("mandatory"))

    def check_mandatory(self, row):
        kind = self.store.get("AssetType", row["assettype_id"])
        for slot in kind.get("fields", []):
            field = self.store.get("Field", slot["field_id"]) or {}
            if self._mandatory(slot, field) \
                    and not row.get("_fields", {}).get(slot["field_id"]):
                raise errors.string_400("%s is required"
                                        % field.get("name", "A field"))
