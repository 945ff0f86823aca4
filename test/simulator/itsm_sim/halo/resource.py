"""What all resources share (§0, §3): list, get, post, delete.

A resource is a subclass, or an instance with its own tables of members and
filters; the hooks are ``prepare`` (names to ids, defaults, refusals),
``linked`` (rows of other tables) and ``details`` (what a single object shows
beyond its own members)."""
from . import dates, errors
from .body import Unset
from .listing import Listing


class Resource:
    name = ""
    rows = None             # envelope key, None: a bare array (§3.1)
    members = {}
    row_members = None      # of a row in a list; None: all that are no lists
    always = ()             # there although they have no value (§2.1)
    scope = None            # X of read:X and edit:X, "admin", or None
    write_scope = None      # if it differs
    area = None             # access level of the agent (§7)
    required = ()           # on create, else error 515 (§5.3)
    searched = ("name",)
    filters = {}            # parameter -> (kind, test(platform, row, value))
    inactive_pair = False   # has includeactive and includeinactive
    has_change_window = False   # has lastupdatefromdate and -todate (§6)
    active_member = None    # "inactive", "active" or "is_active"
    can = ("list", "get", "post", "delete")
    typeid = 0              # of its custom fields in /FieldInfo (§2.8, §3.9)
    joins = {}              # member -> (member with the id, table, member)
    defaults = {}
    ignores_paging = False
    uuid = False

    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches
        self.listing = Listing(self)

    # -- reading ------------------------------------------------------------

    def all_rows(self, call):
        """Rows that the caller may see; others are simply missing (§7 [A])."""
        return [r for r in self.store.rows(self.name)
                if call.caller.sees(self, r)]

    def fetch(self, call, key):
        """The row, or the 404 with an empty body (§2.3)."""
        row = self.store.get(self.name, key)
        if row is None or not call.caller.sees(self, row):
            raise errors.empty(404)
        return row

    def get(self, call, key):
        row = self.fetch(call, key)
        return self.full(row, call)

    def member_names(self):
        build = self.switches["halo_build"]
        return [m.name for m in self.members.values() if m.since <= build]

    def value(self, row, name):
        """What a member of a row is, stored or computed."""
        if name in self.joins:
            own, table, other = self.joins[name]
            target = self.store.get(table, _as_id(row.get(own)))
            return None if target is None else target.get(other)
        return row.get(name)

    def _shown(self, row, names):
        shown = {}
        for name in names:
            value = self.value(row, name)
            member = self.members.get(name)
            if member is not None and member.kind == "date" and not value \
                    and self.switches["halo_unset_dates"] == "1900":
                value = dates.UNSET
            if value is None or value == "" or (
                    value == 0 and member is not None and member.table):
                if (name not in self.always
                        or self.switches["halo_omit_empty"] == "all"):
                    continue            # no value: left out (§0)
                value = 0 if member.table else ""
            shown[name] = value
        return shown

    def row(self, row, call=None):
        """The object as lists have it."""
        names = self.row_members
        if names is None:
            names = [n for n in self.member_names()
                     if self.members[n].kind != "list"]
        return self._shown(row, names)

    def full(self, row, call=None):
        """The object as GET {id} and POST answer it."""
        shown = self._shown(row, [n for n in self.member_names()
                                  if self.members[n].kind != "list"])
        if self.typeid:
            fields = self.platform.custom_fields(self, row)
            if fields:
                shown["customfields"] = fields
        self.details(shown, row, call)
        return shown

    def details(self, shown, row, call):
        pass

    def list(self, call):
        return self.listing.answer(call)

    # -- writing ------------------------------------------------------------

    def writable(self, call):
        build = self.switches["halo_build"]
        return {n: m for n, m in self.members.items() if m.since <= build}

    def write(self, call, values):
        """Creates or updates one row and returns it (§0 rules 2 and 4)."""
        values = dict(values)
        key = self._key(values)
        existing = self._existing(call, key)
        row = dict(existing) if existing is not None else dict(self.defaults)
        self._names_null(values, row)
        self.prepare(call, row, values, existing)
        for name, value in values.items():
            if self.members[name].stored and name != "id":
                self._assign(row, name, value)
        if existing is None:
            row["id"] = self.new_key()
        self.check(call, row, values, existing)
        now = dates.stamp(self.platform.now())
        self.stamp(row, existing, now)
        self.store.put(self.name, row)
        self.linked(call, row, values, existing)
        row = self.store.get(self.name, row["id"])
        self.after(call, row, existing)
        return self.store.get(self.name, row["id"])

    def _key(self, values):
        key = values.get("id")
        if key is Unset or key == "":
            return None
        return key

    def _existing(self, call, key):
        """The row that is updated, or None for a new one: no id, or 0."""
        if key is None or key == 0:
            return None
        row = self.store.get(self.name, key)
        if row is not None and call.caller.sees(self, row):
            return row
        way = self.switches["halo_unknown_id"]
        if way == "create" and row is None:
            return None
        if way == "400":
            raise errors.string_400("%s %s does not exist" % (self.name, key))
        raise errors.empty(404)

    def new_key(self):
        return self.store.next_id(self.name)

    def _names_null(self, values, row):
        """null counts as not sent, or clears, by a switch (§0 [A])."""
        for name in [n for n, v in values.items() if v is Unset]:
            del values[name]
            member = self.members[name]
            if self.switches["halo_null_clears"] and member.stored \
                    and name != "id":
                row.pop(name, None)

    def _assign(self, row, name, value):
        member = self.members[name]
        if member.table:
            if value == -1 and self.switches["halo_minus_one"] == "no_change":
                return
            if value <= 0:
                row.pop(name, None)
                return
        if value == "" or (member.kind == "date"
                           and value.startswith(dates.UNSET)):
            row.pop(name, None)
            return
        row[name] = value

    def prepare(self, call, row, values, existing):
        """Before members are assigned."""

    def check(self, call, row, values, existing):
        """The row as it would be stored; raises its 400."""
        if existing is None:
            for name in self.required:
                if row.get(name) in (None, ""):
                    raise errors.not_null_400(self.platform.database(),
                                              self.name, name)
        self.check_references(call, row, values)

    def check_references(self, call, row, values):
        if self.switches["halo_bad_reference"] == "store":
            return
        for name in values:
            table = self.members[name].table
            value = row.get(name)
            if table is None or not value:
                continue
            target = self.store.get(table, value)
            if target is None or not call.caller.sees(
                    self.platform.resources[table.lower()], target):
                raise errors.foreign_key_400(self.platform.database(),
                                             self.name, name)

    def stamp(self, row, existing, now):
        if "last_modified" in self.members:
            row["last_modified"] = now

    def linked(self, call, row, values, existing):
        if self.typeid and "customfields" in values:
            self.platform.write_custom_fields(self, row,
                                              values["customfields"])

    def after(self, call, row, existing):
        """After the write: history and events."""

    # -- deleting -----------------------------------------------------------

    def delete(self, call, key):
        row = self.fetch(call, key)
        if self.in_use(key):
            # a bare JSON string (§2.5 [L])
            raise errors.string_400(
                "This %s is in use and cannot be deleted." % self.name)
        self.removed(call, row)
        self.store.remove(self.name, key)
        return row

    def in_use(self, key):
        for other in self.platform.resources.values():
            for member in other.members.values():
                if member.table == self.name and not member.readonly \
                        and self.store.find(other.name, member.name, key):
                    return True
        return False

    def removed(self, call, row):
        """Links of the row go with it."""


def _as_id(value):
    return int(value) if isinstance(value, float) else value
