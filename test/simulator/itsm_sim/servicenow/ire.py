"""Identification and Reconciliation API (§5): requests and locks.

The work on a payload is in ire_run.py; here are the four endpoints, their
options, and the locks that payloads in flight hold.
"""
import asyncio

from ..wire import json_reply
from . import bodies
from .errors import ApiError, bad_body, no_resource
from .ire_run import Run

OPTIONS = {"partial_payloads": True, "partial_commits": True,
           "deduplicate_payloads": True, "generate_summary": False}
GUIDANCE = 500
PATHS = {(): (False, False), ("query",): (False, True),
         ("enhanced",): (True, False), ("queryEnhanced",): (True, True)}


def parse_options(text):
    """§5.1: a chunk without its colon is a 500 of the platform's parser."""
    options = dict(OPTIONS)
    if text:
        for chunk in text.split(","):
            name, colon, value = chunk.partition(":")
            if not colon or ":" in value:
                raise ApiError(500, "Chunk [%s] is not a valid entry" % chunk,
                               None)
            if name.strip() in options:
                options[name.strip()] = value.strip().lower() == "true"
    if options["partial_payloads"]:
        # it forces the next two
        options["partial_commits"] = options["deduplicate_payloads"] = True
    return options


def require_role(user, *roles):
    if not user.roles & set(roles + ("admin",)):
        raise ApiError(403, "User Not Authorized",
                       "Failed API level ACL Validation")


class Ire:
    def __init__(self, platform):
        self.platform = platform
        self.held = {}          # lock key -> payloads in flight that hold it

    async def handle(self, request, parts):
        if tuple(parts) not in PATHS:
            raise no_resource()
        enhanced, dry = PATHS[tuple(parts)]
        if request.method != "POST":
            raise ApiError(405, "Method not supported",
                           request.method + " method not supported for API")
        require_role(request.user, "itil", "asset")
        bodies.require_json(request)
        options = (parse_options(request.query.get("options", ""))
                   if enhanced else
                   {"partial_payloads": False, "partial_commits": False,
                    "deduplicate_payloads": False, "generate_summary": False})
        doc = bodies.read_json(request)
        if not isinstance(doc, dict):
            raise bad_body("The payload is not a JSON object")
        for member in ("items", "relations", "referenceItems"):
            if not isinstance(doc.get(member, []), list):
                raise bad_body(member + " is not a list")
        run = Run(self.platform, doc,
                  request.query.get("sysparm_data_source"), options,
                  enhanced, dry, request.user, request.inject)
        # More than 500 CIs are no error, but slow (§5.7)
        excess = max(0, len(doc.get("items", [])) - GUIDANCE)
        await asyncio.sleep(
            excess * self.platform.switches["ire_oversize_ms"] / 1000)
        if dry or not self.platform.switches["ire_lock_conflicts"]:
            return json_reply(200, {"result": run.execute()})
        return await self._locked(run)

    async def _locked(self, run):
        """§5.7: payloads that write the same CI at one time collide.

        The locks are held a little longer than the work takes, since real
        payloads take seconds where this process takes milliseconds.
        """
        busy = set(self.held)
        run.busy = lambda keys: not busy.isdisjoint(keys)
        mine = set()
        try:
            result = run.execute()
            mine = run.lock_keys
            for key in mine:
                self.held[key] = self.held.get(key, 0) + 1
            await asyncio.sleep(self.platform.switches["ire_hold_ms"] / 1000)
        finally:
            for key in mine:
                self.held[key] -= 1
                if not self.held[key]:
                    del self.held[key]
        return json_reply(200, {"result": result})
