"""The error envelope of the REST APIs (§2.3)."""


class ApiError(Exception):
    """Ends a request with ``{"error":{message,detail},"status":"failure"}``."""

    def __init__(self, status, message, detail=None, headers=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.detail = detail
        self.headers = headers or {}

    def envelope(self):
        return {"error": {"message": self.message, "detail": self.detail},
                "status": "failure"}


class OperationRefused(Exception):
    """The data layer refused a write: business rule, data policy, unique key.

    The Table API answers it with 403 "Operation Failed"; IRE puts it on the
    item.
    """

    def __init__(self, detail):
        super().__init__(detail)
        self.detail = detail


def not_found():
    # The same text for "absent" and "hidden by an ACL" (§2.3).
    return ApiError(404, "No Record found",
                    "Record doesn't exist or ACL restricts the record retrieval")


def no_resource():
    return ApiError(400, "Requested URI does not represent any resource")


def invalid_table(name):
    return ApiError(400, "Invalid table " + name)


def bad_body(detail):
    return ApiError(400, "Exception while reading request", detail)
