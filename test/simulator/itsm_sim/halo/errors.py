"""Refusals: empty bodies, and the three shapes of a 400 (§5.2, §5.3)."""


class HaloError(Exception):
    """Ends a request; ``value`` is the JSON of its body, EMPTY for none."""

    def __init__(self, status, value, headers=None):
        super().__init__("%s %r" % (status, value))
        self.status = status
        self.value = value
        self.headers = headers or {}


EMPTY = object()


def empty(status, headers=None):
    """401, 403, 404 and 500 have no body (§0 rule 8)."""
    return HaloError(status, EMPTY, headers)


def string_400(text):
    """Shape 1: a JSON string."""
    return HaloError(400, text)


def exception_400(message):
    """Shape 2: a serialised exception."""
    return HaloError(400, {
        "ClassName": "System.Exception", "Message": message, "Data": None,
        "InnerException": None, "HelpURL": None, "StackTraceString": None,
        "RemoteStackTraceString": None, "RemoteStackIndex": 0,
        "ExceptionMethod": None, "HResult": -2146233088, "Source": None,
        "WatsonBuckets": None})


def model_400(path, text):
    """Shape 3: model state, path to messages."""
    return HaloError(400, {path: [text]})


def bad_value(name, value):
    """Shape 3 for a path id or a parameter of a query."""
    return model_400(name, "The value '%s' is not valid." % value)


def not_null_400(tenant, table, column):
    """The database's own words when a member that the table needs is missing
    (§5.3)."""
    return exception_400(
        "A database error occurred (515) - Cannot insert the value NULL into "
        "column '%s', table 'D_%s.dbo.%s'; column does not allow nulls. "
        "INSERT fails." % (column, tenant, table.upper()))


def foreign_key_400(tenant, table, column):
    return exception_400(
        "A database error occurred (547) - The statement conflicted with the "
        "FOREIGN KEY constraint of column '%s', table 'D_%s.dbo.%s'."
        % (column, tenant, table.upper()))
