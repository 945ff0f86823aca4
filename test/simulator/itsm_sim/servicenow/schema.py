"""Tables, columns and class inheritance, read from the data files.

A data file is a JSON object with any of the members ``tables``, ``choices``,
``relationship_types``, ``identification_rules``, ``rows``, ``acl``,
``data_policies``, ``abort_rules``, ``transform_maps``.  Files of one folder
are read in the order of their names, folders in the order given; column sets
merge, rows append.
"""
import glob
import json
import os

# A column is written as "TYPE [LENGTH|TARGET]; flag; key=value".
TYPES = {
    "string": ("string", 40), "int": ("integer", 40), "bool": ("boolean", 40),
    "date": ("glide_date", 40), "datetime": ("glide_date_time", 40),
    "ref": ("reference", 32), "list": ("glide_list", 4000),
    "choice": ("string", 40), "intchoice": ("integer", 40),
    "currency": ("currency", 20), "html": ("html", 8000),
    "journal": ("journal_input", 4000), "url": ("url", 1024),
    "guid": ("GUID", 32), "class": ("sys_class_name", 80),
    "decimal": ("decimal", 15), "password": ("password2", 255),
}

# Every table has these; none is writable through IRE (§5.2).
SYSTEM_COLUMNS = {
    "sys_id": "guid; label=Sys ID; read_only",
    "sys_created_on": "datetime; label=Created; read_only",
    "sys_created_by": "string 40; label=Created by; read_only",
    "sys_updated_on": "datetime; label=Updated; read_only",
    "sys_updated_by": "string 40; label=Updated by; read_only",
    "sys_mod_count": "int; label=Updates; read_only",
}
PROTECTED = set(SYSTEM_COLUMNS) | {"sys_domain", "sys_domain_path"}


class Column:
    __slots__ = ("name", "kind", "type", "max_length", "label", "mandatory",
                 "default", "reference", "ref_key", "choice", "read_only",
                 "unique", "display", "table", "is_ref", "is_time")

    def __init__(self, table, name, spec):
        parts = [p.strip() for p in spec.split(";")]
        head = parts[0].split()
        if head[0] not in TYPES:
            raise ValueError("%s.%s: unknown type %r" % (table, name, head[0]))
        self.table, self.name, self.kind = table, name, head[0]
        self.type, self.max_length = TYPES[head[0]]
        self.reference = ""
        if head[0] in ("ref", "list"):
            self.reference = head[1] if len(head) > 1 else ""
        elif len(head) > 1:
            self.max_length = int(head[1])
        # A few references hold the target's name instead of its sys_id:
        # sys_dictionary.internal_type and .reference (§12).
        self.ref_key = "sys_id"
        self.label = name.replace("_", " ").capitalize()
        self.default = ""
        self.mandatory = self.read_only = self.unique = self.display = False
        self.choice = head[0] in ("choice", "intchoice")
        for part in parts[1:]:
            key, eq, value = part.partition("=")
            if eq and key in ("label", "default", "ref_key"):
                setattr(self, key, value)
            elif not eq and key in ("mandatory", "read_only", "unique",
                                    "display"):
                setattr(self, key, True)
            elif part:
                raise ValueError("%s.%s: unknown flag %r" % (table, name, part))
        self.is_ref = self.kind == "ref"
        self.is_time = self.kind == "datetime"


class Table:
    def __init__(self, name):
        self.name = name
        self.label = name
        self.parent = None          # Table
        self.parent_name = ""
        self.children = []
        self.own = {}               # name -> Column
        self.number_prefix = ""
        self.number_digits = 7
        self.ws_access = True
        self.columns = {}           # with inherited ones, after link()
        self.chain = []             # this table, its parent, ... the root
        self.display_column = ""

    @property
    def root(self):
        return self.chain[-1]

    def is_a(self, name):
        return any(t.name == name for t in self.chain)

    def descendants(self):
        """This table and all below it."""
        found = [self]
        for child in self.children:
            found += child.descendants()
        return found

    @property
    def in_hierarchy(self):
        return self.parent is not None or bool(self.children)


class Schema:
    def __init__(self):
        self.tables = {}
        self.choices = []               # (table, element, [(value, label)])
        self.rows = {}                  # table -> [row]
        self.acl = []
        self.data_policies = []
        self.abort_rules = []
        self.transform_maps = []
        self.relationship_types = []
        self.identification_rules = []

    def get(self, name):
        return self.tables.get(name)

    def read_dir(self, path):
        files = sorted(glob.glob(os.path.join(path, "*.json")))
        if not files:
            raise ValueError("no *.json in data folder %s" % path)
        for name in files:
            with open(name, encoding="utf-8") as handle:
                try:
                    self.merge(json.load(handle))
                except (ValueError, KeyError, TypeError) as exc:
                    raise ValueError("%s: %s" % (name, exc)) from exc

    def merge(self, doc):
        for name, spec in doc.get("tables", {}).items():
            self._merge_table(name, spec)
        for table, columns in doc.get("choices", {}).items():
            for element, values in columns.items():
                self.choices.append((table, element, values))
        for table, rows in doc.get("rows", {}).items():
            self.rows.setdefault(table, []).extend(rows)
        for member in ("acl", "data_policies", "abort_rules",
                       "transform_maps", "relationship_types",
                       "identification_rules"):
            getattr(self, member).extend(doc.get(member, []))

    def _merge_table(self, name, spec):
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table(name)
        table.label = spec.get("label", table.label)
        table.parent_name = spec.get("extends", table.parent_name)
        table.number_prefix = spec.get("number_prefix", table.number_prefix)
        table.number_digits = spec.get("number_digits", table.number_digits)
        table.ws_access = spec.get("ws_access", table.ws_access)
        for column, text in spec.get("columns", {}).items():
            table.own[column] = Column(name, column, text)

    def link(self):
        """Resolve inheritance; call after the last merge."""
        for table in self.tables.values():
            table.children = []
        for table in self.tables.values():
            table.parent = None
            if table.parent_name:
                if table.parent_name not in self.tables:
                    raise ValueError("%s extends unknown table %s"
                                     % (table.name, table.parent_name))
                table.parent = self.tables[table.parent_name]
                table.parent.children.append(table)
        for table in self.tables.values():
            chain, at = [], table
            while at is not None:
                if at in chain:
                    raise ValueError("inheritance loop at " + table.name)
                chain.append(at)
                at = at.parent
            table.chain = chain
        for table in self.tables.values():
            self._link_columns(table)

    def _link_columns(self, table):
        columns = {n: Column(table.root.name, n, s)
                   for n, s in SYSTEM_COLUMNS.items()}
        if table.in_hierarchy:
            columns["sys_class_name"] = Column(
                table.root.name, "sys_class_name", "class; label=Class")
        for ancestor in reversed(table.chain):
            columns.update(ancestor.own)
        table.columns = columns
        table.display_column = ""
        for ancestor in table.chain:
            for column in ancestor.own.values():
                if column.display:
                    table.display_column = column.name
                    break
            if table.display_column:
                break
        if not table.display_column:
            for guess in ("name", "number"):
                if guess in columns:
                    table.display_column = guess
                    break
