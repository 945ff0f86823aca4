"""Links of two resources' rows: pairs, written as a list on either side."""


class Links:
    """Pairs (left, right) of one table, as ServiceAsset."""

    def __init__(self, store, table, left, right):
        self.store = store
        self.table = table
        self.sides = (left, right)

    def of(self, side, key):
        """Ids at the other side."""
        other = self.sides[1 - self.sides.index(side)]
        return sorted(r[other] for r in self.store.find(self.table, side, key))

    def add(self, side, key, other):
        pair = (key, other) if side == self.sides[0] else (other, key)
        self.store.put(self.table, dict(zip(self.sides, pair)), pair)

    def remove(self, side, key):
        for row in self.store.find(self.table, side, key):
            self.store.remove(self.table, tuple(row[s] for s in self.sides))

    def replace(self, side, key, others):
        self.remove(side, key)
        for other in others:
            self.add(side, key, other)
