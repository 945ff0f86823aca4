"""What the front and the control endpoints ask of a platform.

A platform is a package beside this module with a subclass of ``Platform``;
``cli.Process`` makes one of each, and ``front.Front.platform_for`` chooses by
the path of a request.
"""
from . import faults as faultlib
from .wire import Reply


class Gate:
    """Where requests wait for a free worker; this one lets everybody in."""

    async def enter(self):
        """None, or the reply that turns the request away."""
        return None

    def leave(self):
        pass


class Platform:
    name = ""                       # part of control paths: /__sim/NAME/...
    server = None                   # the Server header
    method_override = False         # X-HTTP-Method-Override counts
    fault_kinds = faultlib.COMMON

    def serves(self, path):
        """Whether a path is this platform's."""
        raise NotImplementedError

    def start(self):
        """Everything as a fresh instance has it; also what a reset does."""
        raise NotImplementedError

    def control(self, front):
        """The platform's control endpoints, a control.PlatformControl."""
        raise NotImplementedError

    def attach(self, front):
        """Called once the front is there, and after each reset."""

    def endpoint(self, method, path):
        """A stable name for counters."""
        raise NotImplementedError

    def is_read(self, method, path):
        return method in ("GET", "HEAD")

    def is_auth(self, endpoint):
        """Whether an endpoint hands out tokens, which are no API calls."""
        return False

    def gate(self):
        return Gate()

    async def exchange(self, request, answer):
        """The whole of one request; ``await answer()`` is its reply."""
        return await answer()

    def refuse(self, request):
        """A reply that comes before anything else, or None."""
        return None

    async def serve(self, request):
        raise NotImplementedError

    def unreadable(self):
        """The reply to a request whose body could not be read."""
        return Reply(400)

    def defect(self):
        """The reply when the simulator itself failed."""
        return Reply(500)

    def expire_tokens(self):
        """No access token that was given out is good any more."""

    def secrets(self):
        """What the request log must not show."""
        return set()

    # -- how faults look there ----------------------------------------------

    def fault_reply(self, fault):
        """The answer that a fault gives in the platform's stead, or None."""
        return None

    def spoil(self, fault, reply):
        """An answer after the deed, for the kinds that faults.spoil() does
        not know; changes the reply or returns another."""
        return reply
