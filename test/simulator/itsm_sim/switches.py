"""Named switches: what the references only assume, or what instances differ
in.  The defaults are the harsher reading.  Each platform has its own list."""

COMMON = [
    # name, default, meaning[, the values of a text]
    ("latency_ms", 0, "added to every API call"),
    ("gzip_responses", True, "gzip for clients that accept it ([A])"),
]


class Switches:
    def __init__(self, known, initial=None):
        self.known = {entry[0]: entry for entry in known}
        self._values = {}
        self._initial = {}
        self.reset()
        self.update(initial or {})
        self._initial = dict(initial or {})

    def reset(self):
        self._values = {name: entry[1] for name, entry in self.known.items()}
        self._values.update(self._initial)

    def __getitem__(self, name):
        return self._values[name]

    def update(self, values):
        """Raises ValueError, and changes nothing, if one is unknown or of
        another type than its default."""
        for name, value in values.items():
            if name not in self.known:
                raise ValueError("unknown switch " + name)
            self._check(name, value, *self.known[name][1:])
        self._values.update(values)

    @staticmethod
    def _check(name, value, default, meaning, choices=None):
        number = (int, float)
        if isinstance(default, bool):
            good = isinstance(value, bool)
        elif isinstance(default, number):
            good = isinstance(value, number) and not isinstance(value, bool)
        else:
            good = isinstance(value, str)
        if not good:
            raise ValueError("switch %s takes a %s"
                             % (name, type(default).__name__))
        if choices and value not in choices:
            raise ValueError("switch %s takes one of %s"
                             % (name, ", ".join(choices)))

    def listing(self):
        listing = {}
        for name, entry in self.known.items():
            listing[name] = {"value": self._values[name], "default": entry[1],
                             "meaning": entry[2]}
            if len(entry) > 3:
                listing[name]["choices"] = list(entry[3])
        return listing
