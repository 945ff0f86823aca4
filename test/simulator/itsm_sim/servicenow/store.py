"""Rows in memory, with indexes and an undo journal.

Knows nothing of the platform's behaviour: that is in records.py.  An index
over a column is made when an equality condition first asks for it and kept
from then on, so an import of some hundred thousand rows pays only for the
columns that are looked up.
"""
import bisect


class Row(dict):
    """Column -> text.  ``table`` is the concrete class of the row."""
    __slots__ = ("table", "writers")

    def __init__(self, table):
        super().__init__()
        self.table = table
        # column -> (data source, time) of the last IRE write, for
        # reconciliation (§5.4)
        self.writers = None


class Store:
    def __init__(self, schema):
        self.schema = schema
        self.rows = {}          # concrete table -> {sys_id: row}
        self.by_id = {}         # root table -> {sys_id: row}
        self.indexes = {}       # root table -> {column: {folded: {sys_id: row}}}
        self.counters = {}      # number prefix -> last number
        self.journal = None
        self._sorted = {}       # table -> sorted sys_ids, until a row comes or goes

    # -- journal: dry runs and the classic IRE call roll back (§5.1) --------

    def begin(self):
        self.journal = []

    def commit(self):
        self.journal = None

    def rollback(self):
        journal, self.journal = self.journal, None
        for undo in reversed(journal):
            undo()

    def mark(self):
        return len(self.journal)

    def rollback_to(self, mark):
        undos, self.journal[mark:] = self.journal[mark:], []
        journal, self.journal = self.journal, None
        for undo in reversed(undos):
            undo()
        self.journal = journal

    def _note(self, undo):
        if self.journal is not None:
            self.journal.append(undo)

    # -- reading ------------------------------------------------------------

    def get(self, table, sys_id):
        """The row, if it is of that table or of a class below it."""
        info = self.schema.tables.get(table)
        if info is None:
            return None
        row = self.by_id.get(info.root.name, {}).get(sys_id)
        if row is None:
            return None
        if info is info.root or self.schema.tables[row.table].is_a(table):
            return row
        return None

    def of(self, table):
        """All rows of a table and of the classes below it."""
        info = self.schema.tables[table]
        if info is info.root:
            return list(self.by_id.get(table, {}).values())
        found = []
        for each in info.descendants():
            found.extend(self.rows.get(each.name, {}).values())
        return found

    def count(self, table):
        return sum(len(self.rows.get(t.name, ()))
                   for t in self.schema.tables[table].descendants())

    def find(self, table, column, value):
        """Rows with that value, text compared without case."""
        info = self.schema.tables[table]
        index = self.index(info.root.name, column)
        hits = index.get(value.casefold())
        if not hits:
            return []
        if info is info.root:
            return list(hits.values())
        return [r for r in hits.values()
                if self.schema.tables[r.table].is_a(table)]

    def find_pair(self, table, one, one_value, two, two_value):
        """Rows with both values, by way of the smaller bucket: a hub CI may
        have thousands of relations on one side."""
        left = self.index(table, one).get(one_value.casefold(), {})
        right = self.index(table, two).get(two_value.casefold(), {})
        if len(right) < len(left):
            left, right = right, left
        return [row for sys_id, row in left.items() if sys_id in right]

    def index(self, root, column):
        indexes = self.indexes.setdefault(root, {})
        index = indexes.get(column)
        if index is None:
            index = indexes[column] = {}
            for sys_id, row in self.by_id.get(root, {}).items():
                index.setdefault(row.get(column, "").casefold(),
                                 {})[sys_id] = row
        return index

    def ids_after(self, table, sys_id):
        """sys_ids of a table in order, those greater than the given one.

        Keyset paging (§2.6) asks this for every page of a scan.
        """
        ids = self._sorted.get(table)
        if ids is None:
            ids = self._sorted[table] = sorted(
                (r["sys_id"].casefold(), r["sys_id"]) for r in self.of(table))
        first = bisect.bisect_right(ids, (sys_id.casefold(), "~"))
        return [i for _, i in ids[first:]]

    # -- writing ------------------------------------------------------------

    def put(self, row):
        root = self.schema.tables[row.table].root.name
        sys_id = row["sys_id"]
        self.rows.setdefault(row.table, {})[sys_id] = row
        self.by_id.setdefault(root, {})[sys_id] = row
        for column, index in self.indexes.get(root, {}).items():
            index.setdefault(row.get(column, "").casefold(), {})[sys_id] = row
        self._sorted.clear()
        self._note(lambda: self.drop(row))

    def drop(self, row):
        root = self.schema.tables[row.table].root.name
        sys_id = row["sys_id"]
        self.rows[row.table].pop(sys_id, None)
        self.by_id[root].pop(sys_id, None)
        for column, index in self.indexes.get(root, {}).items():
            self._unindex(index, row.get(column, ""), sys_id)
        self._sorted.clear()
        self._note(lambda: self.put(row))

    @staticmethod
    def _unindex(index, value, sys_id):
        key = value.casefold()
        hits = index.get(key)
        if hits:
            hits.pop(sys_id, None)
            if not hits:
                del index[key]

    def set(self, row, column, value):
        old = row.get(column, "")
        if old == value:
            return
        root = self.schema.tables[row.table].root.name
        index = self.indexes.get(root, {}).get(column)
        if index is not None:
            self._unindex(index, old, row["sys_id"])
            index.setdefault(value.casefold(), {})[row["sys_id"]] = row
        if value == "":
            row.pop(column, None)       # an empty column is an absent one
        else:
            row[column] = value
        self._note(lambda: self.set(row, column, old))

    def reclass(self, row, table):
        """Move a row to another class of its hierarchy."""
        old = row.table
        del self.rows[old][row["sys_id"]]
        row.table = table
        self.rows.setdefault(table, {})[row["sys_id"]] = row
        self.set(row, "sys_class_name", table)
        self._sorted.clear()

        def undo():
            del self.rows[table][row["sys_id"]]
            row.table = old
            self.rows.setdefault(old, {})[row["sys_id"]] = row
            self._sorted.clear()
        self._note(undo)

    def set_writer(self, row, column, source, when):
        writers = row.writers
        if writers is None:
            writers = row.writers = {}
        old = writers.get(column)
        writers[column] = (source, when)

        def undo():
            if old is None:
                writers.pop(column, None)
            else:
                writers[column] = old
        self._note(undo)

    def next_number(self, prefix, digits):
        last = self.counters.get(prefix, 1000)
        self.counters[prefix] = last + 1
        self._note(lambda: self.counters.__setitem__(prefix, last))
        return "%s%0*d" % (prefix, digits, last + 1)
