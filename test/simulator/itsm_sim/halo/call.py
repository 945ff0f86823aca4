"""One call of the API, or one edit by somebody at the screen."""
from .body import bind, read_array
from .listing import boolean


class Call:
    def __init__(self, platform, caller, params=None, writes=False):
        self.platform = platform
        self.caller = caller
        self.params = params or {}
        self.writes = writes
        self.events = []        # what webhooks are told after the write

    def flag(self, name):
        return boolean(self.params, name)

    def event(self, kind, number, key, shown=None):
        """created 0, updated 1, deleted 2"""
        self.events.append((number, key, shown))

    def flush(self):
        """The events of what stays stored."""
        assets = self.platform.resources["asset"]
        for number, key, shown in self.events:
            if shown is None:
                row = self.platform.store.get("Asset", key)
                if row is None:
                    continue
                shown = assets.full(row)
            self.platform.webhooks.happened(self.caller, number, key, shown)
        self.events = []


def bound_elements(resource, call, raw):
    """The objects of a body: bound all before any is written, as the
    platform's model binding does (§5.3)."""
    doc, locate = read_array(raw)
    members = resource.writable(call)
    return [bind(element, number, members, locate)
            for number, element in enumerate(doc)]
