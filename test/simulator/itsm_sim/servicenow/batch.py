"""Batch API (§6): sub-requests one after another, no transaction across."""
import base64
import binascii
import time

from ..wire import Request, json_reply
from . import bodies
from .errors import ApiError

STATUS_TEXT = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
               400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
               404: "Not Found", 405: "Method Not Allowed",
               406: "Not Acceptable", 415: "Unsupported Media Type",
               429: "Too Many Requests", 500: "Internal Server Error",
               502: "Bad Gateway", 503: "Service Unavailable"}


class Batch:
    def __init__(self, platform):
        self.platform = platform
        self.front = None       # set by front.py: the road of sub-requests

    async def handle(self, request):
        if request.method != "POST":
            raise ApiError(405, "Method not supported",
                           request.method + " method not supported for API")
        bodies.require_json(request)
        doc = bodies.read_json(request)
        if not isinstance(doc, dict) or not isinstance(
                doc.get("rest_requests"), list):
            raise ApiError(400, "Invalid batch request",
                           "rest_requests is required")
        subs = doc["rest_requests"]
        self._check(subs)
        cap = self._output_cap(request)
        budget = self.platform.switches["batch_budget_seconds"]
        started, cost = time.monotonic(), 0.0
        serviced, unserviced = [], []
        for sub in subs:
            spent = time.monotonic() - started + cost
            if spent >= budget:
                # what the quota cuts off is handed back by id (§6)
                unserviced.append(str(sub["id"]))
                continue
            item, extra = await self._one(request, sub, cap)
            cost += extra + self.platform.switches["batch_request_ms"] / 1000
            serviced.append(item)
        return json_reply(200, {
            # a number comes back as a string [L]
            "batch_request_id": str(doc.get("batch_request_id", "")),
            "serviced_requests": serviced,
            "unserviced_requests": unserviced})

    @staticmethod
    def _check(subs):
        for sub in subs:
            if not isinstance(sub, dict) or not all(
                    k in sub for k in ("id", "method", "url")):
                raise ApiError(400, "Invalid batch request",
                               "id, method and url are required")
            if not isinstance(sub["url"], str) or not sub["url"].startswith("/"):
                raise ApiError(400, "Invalid batch request",
                               "url must be relative")
            if not isinstance(sub.get("headers", []), list):
                raise ApiError(400, "Invalid batch request",
                               "headers is a list of name and value")

    def _output_cap(self, request):
        """§6: the instance's cap, or lower by the header."""
        cap = self.platform.switches["batch_max_output"]
        asked = request.headers.get("x-batchrequest-max-output-size", "")
        return min(cap, int(asked)) if asked.isdigit() else cap

    async def _one(self, outer, sub, cap):
        started = time.monotonic()
        try:
            body = base64.b64decode(sub.get("body") or "", validate=True)
        except (binascii.Error, ValueError, TypeError):
            return self._refused(sub, 400, "body is not base64"), 0.0
        if len(body) > self.platform.switches["batch_max_input"]:
            return self._refused(sub, 413, "Request size exceeded"), 0.0
        headers = {}
        for pair in sub.get("headers", []):
            if isinstance(pair, dict) and "name" in pair:
                headers[str(pair["name"]).lower()] = str(pair.get("value", ""))
        # Authentication is that of the outer request (§6 [A])
        for name in ("authorization", "x-sn-apikey"):
            headers.pop(name, None)
            if name in outer.headers:
                headers[name] = outer.headers[name]
        request = Request(str(sub["method"]), sub["url"], headers, body,
                          is_sub=True, override=True)
        if request.path.endswith("/batch"):
            return self._refused(sub, 400, "a batch holds no batch"), 0.0
        if "x-sn-apikey" in outer.query:
            request.query["x-sn-apikey"] = outer.query["x-sn-apikey"]
        request.peer_cert = outer.peer_cert
        request.scheme, request.host = outer.scheme, outer.host
        reply = await self.front.serve_sub(request, outer)
        if len(reply.body) > cap:
            return self._refused(sub, 500, "Response size exceeded"), request.spent
        item = {"id": str(sub["id"]),
                "body": base64.b64encode(reply.body).decode(),
                "status_code": reply.status,
                "status_text": STATUS_TEXT.get(reply.status, "Error"),
                "execution_time": int((time.monotonic() - started) * 1000)}
        if not sub.get("exclude_response_headers"):
            item["headers"] = [{"name": n, "value": v}
                               for n, v in reply.headers.items()]
        return item, request.spent

    @staticmethod
    def _refused(sub, status, message):
        return {"id": str(sub["id"]), "body": "", "status_code": status,
                "status_text": STATUS_TEXT.get(status, "Error"),
                "error_message": message, "execution_time": 0, "headers": []}
