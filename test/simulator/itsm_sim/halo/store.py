"""Tables in memory, with a journal so that a refused write leaves nothing.

Rows are never changed in place: a write puts another dict."""


class Store:
    def __init__(self):
        self.tables = {}        # name -> {key: row}
        self.counters = {}      # name -> last id
        self.indexes = {}       # (table, member) -> {value: {key: None}}
        self.journal = []       # (table, key, row before or None)

    def table(self, name):
        return self.tables.setdefault(name, {})

    def rows(self, name):
        return self.table(name).values()

    def get(self, name, key):
        return self.table(name).get(key)

    def next_id(self, name):
        self.counters[name] = self.counters.get(name, 0) + 1
        return self.counters[name]

    def put(self, name, row, key=None):
        """Stores a row under its id, or under ``key`` if it has none."""
        if key is None:
            key = row["id"]
        table = self.table(name)
        before = table.get(key)
        self.journal.append((name, key, before))
        self._set(name, key, row)
        if isinstance(key, int) and key > self.counters.get(name, 0):
            self.counters[name] = key
        return row

    def remove(self, name, key):
        before = self.table(name).get(key)
        if before is not None:
            self.journal.append((name, key, before))
            self._set(name, key, None)
        return before

    def _set(self, name, key, row):
        table = self.table(name)
        before = table.get(key)
        for (indexed, member), index in self.indexes.items():
            if indexed != name:
                continue
            if before is not None:
                index.get(before.get(member), {}).pop(key, None)
            if row is not None:
                index.setdefault(row.get(member), {})[key] = None
        if row is None:
            table.pop(key, None)
        else:
            table[key] = row

    def find(self, name, member, value):
        """Rows whose member has that value, by an index made when first
        asked for."""
        index = self.indexes.get((name, member))
        if index is None:
            index = self.indexes[(name, member)] = {}
            for key, row in self.table(name).items():
                index.setdefault(row.get(member), {})[key] = None
        table = self.table(name)
        return [table[key] for key in index.get(value, ())]

    # -- all or nothing -----------------------------------------------------

    def mark(self):
        return len(self.journal)

    def rollback(self, mark):
        while len(self.journal) > mark:
            name, key, before = self.journal.pop()
            self._set(name, key, before)

    def forget(self):
        """What was written stays."""
        self.journal.clear()
