"""Where an asset is: on a site, which belongs to a client (§2.4, §2.6)."""
from . import errors


class Placing:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches

    def write(self, row, values, existing):
        """site_id alone places the asset, or names; unknown names land on
        the client and site called Unknown (§2.4)."""
        names = [values.pop(n, None) for n in ("client_name", "site_name")]
        site = None
        if values.get("site_id", 0) > 0:
            site = self.store.get("Site", values["site_id"])
            if site is None:
                raise errors.foreign_key_400(self.platform.database(),
                                             "device", "dsite")
        elif values.get("client_id", 0) > 0:
            if self.store.get("Client", values["client_id"]) is None:
                raise errors.foreign_key_400(self.platform.database(),
                                             "device", "darea")
            if values["client_id"] != row.get("client_id"):
                site = self._first_site(values["client_id"])
        elif any(names):
            site = self._named_site(*names)
        elif existing is None:
            if self.switches["halo_no_site"] == "refuse":
                raise errors.not_null_400(self.platform.database(), "device",
                                          "dsite")
            site = self.platform.unknown_site()
        for name in ("site_id", "client_id"):
            values.pop(name, None)
        if site is not None:
            row["site_id"] = site["id"]
            row["client_id"] = int(site["client_id"])

    def _first_site(self, client_id):
        sites = self.store.find("Site", "client_id", float(client_id))
        return min(sites, key=lambda s: s["id"]) if sites \
            else self.platform.unknown_site()

    def _named_site(self, client, site):
        for row in self.store.rows("Client"):
            if client and row.get("name", "").casefold() != client.casefold():
                continue
            sites = self.store.find("Site", "client_id", float(row["id"]))
            for own in sites:
                if site and own.get("name", "").casefold() == site.casefold():
                    return own
            if client and not site:
                return self._first_site(row["id"])
        return self.platform.unknown_site()
