"""Lists: filters, what is inactive, order, pages, envelope (§2.1, §3)."""
import random

from . import dates
from .errors import bad_value

ORDERS = [("order", "orderdesc")] + [
    ("order%d" % n, "orderdesc%d" % n) for n in range(2, 6)]
CHANGE = ("last_modified", "dlastupdate")


def integer(params, name, default=None):
    if params.get(name, "") == "":
        return default
    try:
        return int(params[name])
    except ValueError:
        raise bad_value(name, params[name])


def boolean(params, name, default=False):
    if params.get(name, "") == "":
        return default
    value = params[name].strip().lower()
    if value not in ("true", "false"):
        raise bad_value(name, params[name])
    return value == "true"


def csv_ints(text):
    """Ids of a comma list; what is no number matches nothing."""
    return {int(p) for p in text.split(",") if p.strip().lstrip("-").isdigit()}


def _parse(kind, params, name):
    if kind == "int":
        return integer(params, name)
    if kind == "bool":
        return boolean(params, name)
    if kind == "csv":
        return csv_ints(params[name])
    return params[name]


def same(member):
    """A filter for the id of another row."""
    return ("int", lambda p, row, value: row.get(member) == value)


def among(member):
    return ("csv", lambda p, row, value: row.get(member) in value)


class Listing:
    def __init__(self, resource):
        self.resource = resource
        self.switches = resource.switches
        self.random = random.Random(resource.platform.seed)

    def answer(self, call):
        params = call.params
        rows = self._filtered(call)
        if self.resource.rows is None:
            # configuration tables: everything, in order of their ids
            return [self.resource.row(r, call) for r in
                    sorted(rows, key=lambda r: r["id"])]
        rows = self._ordered(rows, params)
        page, size, total, rows = self._cut(rows, params)
        if boolean(params, "idonly"):
            shown = [{"id": r["id"]} for r in rows]
        else:
            shown = [self.resource.row(r, call) for r in rows]
        envelope = {"page_no": page, "page_size": size, "record_count": total,
                    "columns_id": 0, "columns": []}
        envelope[self.resource.rows] = shown
        return envelope

    # -- which rows ---------------------------------------------------------

    def _filtered(self, call):
        params, resource = call.params, self.resource
        tests = []
        for name, (kind, test) in resource.filters.items():
            if params.get(name, "") != "":
                value = _parse(kind, params, name)
                tests.append((test, value))
        active = self._active(params)
        window = self._window(params)
        needle = params.get("search", "").strip().casefold()
        found = []
        for row in resource.all_rows(call):
            if active is not None and self._is_active(row) not in active:
                continue
            if not all(test(resource.platform, row, value)
                       for test, value in tests):
                continue
            if needle and not self._matches(row, needle, params):
                continue
            if window and not window[0] <= row.get("last_modified", "") \
                    <= window[1]:
                continue
            found.append(row)
        return found

    def _matches(self, row, needle, params):
        searched = self.resource.searched
        if boolean(params, "search_inventory_number_only"):
            searched = ("inventory_number",)
        return any(needle in str(self.resource.value(row, name)
                                 or "").casefold() for name in searched)

    def _is_active(self, row):
        member = self.resource.active_member
        if member == "inactive":
            return not row.get("inactive", False)
        return bool(row.get(member, False))

    def _active(self, params):
        """The states that are listed: {True}, {False} or both (§2.1)."""
        resource = self.resource
        if resource.active_member is None:
            return None
        inactive = boolean(params, "includeinactive")
        if not resource.inactive_pair:
            return {True, False} if inactive else {True}
        pair = params.get("activeinactive", "").lower().split(",")
        if len(pair) == 2:
            return {state for state, word in zip((True, False), pair)
                    if word.strip() == "true"}
        alone = self.switches["halo_includeinactive_alone"] == "both"
        active = boolean(params, "includeactive", alone or not inactive)
        return {state for state, wanted in ((True, active), (False, inactive))
                if wanted}

    def _window(self, params):
        """Times between which rows were changed, or None (§6 [A])."""
        names = ("lastupdatefromdate", "lastupdatetodate")
        if (self.switches["halo_change_window"] == "ignore"
                or not self.resource.has_change_window
                or not any(params.get(n) for n in names)):
            return None
        bounds = []
        for name, default in zip(names, ("", "9999")):
            try:
                bounds.append(dates.parse(params[name])
                              if params.get(name) else default)
            except ValueError:
                raise bad_value(name, params[name])
        return bounds

    # -- in which order, and how many ---------------------------------------

    def _ordered(self, rows, params):
        rows = list(rows)
        if self.switches["halo_shuffle_unordered"]:
            self.random.shuffle(rows)
        else:
            rows.sort(key=lambda r: r["id"])
        for name, descending in reversed(ORDERS):
            member = params.get(name, "")
            if member not in self.resource.members or (
                    member in CHANGE
                    and not self.switches["halo_order_by_change"]):
                continue            # ignored in silence (§0 rule 7)
            rows.sort(key=lambda r: _rank(self.resource.value(r, member)),
                      reverse=boolean(params, descending))
        return rows

    def _cut(self, rows, params):
        """(page_no, page_size, record_count, rows) (§2.1)."""
        if self.resource.ignores_paging:
            params = {"count": params.get("count", "")}
        if boolean(params, "pageinate"):
            size = max(1, integer(params, "page_size", 50))
            if self.switches["halo_page_cap"]:
                size = min(size, int(self.switches["halo_page_cap"]))
            page = max(1, integer(params, "page_no", 1))
            return page, size, len(rows), rows[(page - 1) * size:page * size]
        unpaged = 0 if self.resource.ignores_paging \
            else int(self.switches["halo_unpaged"])
        count = integer(params, "count", unpaged)
        if count and self.switches["halo_count_cap"]:
            count = min(count, int(self.switches["halo_count_cap"]))
        if count > 0:
            rows = rows[:count]
        return 1, 50, len(rows), rows


def _rank(value):
    if value is None:
        return (0, 0)
    if isinstance(value, (bool, int, float)):
        return (1, value)
    return (2, str(value).casefold())
