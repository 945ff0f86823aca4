"""Custom fields of a table (/FieldInfo), by id or name, CF... (§2.6)."""


class CustomFields:
    def __init__(self, platform):
        self.store = platform.store

    def _of(self, resource):
        return self.store.find("FieldInfo", "typeid", resource.typeid)

    def shown(self, resource, row):
        values = row.get("_custom", {})
        shown = []
        for field in self._of(resource):
            entry = {"id": field["id"], "name": field["name"],
                     "label": field.get("label", ""),
                     "type": field.get("type", 0)}
            if values.get(field["id"]) is not None:
                entry["value"] = entry["display"] = values[field["id"]]
            shown.append(entry)
        return shown

    def write(self, resource, row, items):
        """Names that do not exist are lost in silence (§0 rule 7)."""
        stored = dict(row.get("_custom", {}))
        for item in items:
            for field in self._of(resource):
                named = item.get("id") == field["id"] if "id" in item \
                    else item.get("name") == field["name"]
                if named and "value" in item:
                    if item["value"] == "":
                        stored.pop(field["id"], None)
                    else:
                        stored[field["id"]] = item["value"]
        row = dict(self.store.get(resource.name, row["id"]), _custom=stored)
        self.store.put(resource.name, row)
