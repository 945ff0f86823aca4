"""The tenant: its parts, its data at start, and what serves a path."""
import copy
import random

from ..platform import Platform
from ..wire import html_reply
from . import errors
from . import faults as faultlib
from .accounts import add_accounts
from .access import Anyone
from .answers import json_value
from .assets import Asset, AssetSoftware
from .auth import Auth
from .call import Call
from .config import (AssetGroup, AssetType, AssetTypeInfo, Field, FieldInfo,
                     Lookup, Status)
from .control import HaloControl
from .custom import CustomFields
from .errors import EMPTY, HaloError
from .history import AssetChange
from .links import Links
from .people import Agent, Client, Site, Users
from .post import Poster
from .rate import Rate
from .relations import Relations
from .routes import Routes
from .service_model import ServiceModel
from .services import Service, ServiceCategory, ServiceStatus
from .store import Store
from .vendors import (ClientContract, CRMNote, ExternalLink, SoftwareLicence,
                      Supplier, SupplierContract)
from .webhooks import Notification, Webhook, WebhookEvent, Webhooks

RESOURCES = [Asset, AssetChange, AssetSoftware, AssetType, AssetTypeInfo,
             AssetGroup, Field, FieldInfo, Status, Lookup, Client, Site, Users,
             Agent, Supplier, SupplierContract, ClientContract,
             SoftwareLicence, CRMNote, ExternalLink, Service, ServiceCategory,
             ServiceStatus, Webhook, Notification, WebhookEvent]


# What is no resource of its own: links, accounts, the tenant's settings
TABLES = ("AssetRelation", "RelationKind", "RelationRule", "Environment",
          "Application", "ServiceAsset", "AssetUser", "LicenceAsset",
          "ContractCI", "slot")


class Tenant(Platform):
    """``data`` are documents of table to rows; ``accounts`` has halo_clients
    and halo_users of the command line."""

    name = "halo"
    fault_kinds = faultlib.KINDS

    def __init__(self, data, clock, switches, accounts, seed=None):
        self.data = data
        self.clock = clock
        self.switches = switches
        self.accounts = accounts
        self.seed = seed
        self.webhooks = None
        self.start()

    def start(self):
        if self.webhooks is not None:
            self.webhooks.stop()
        self.random = random.Random(self.seed)
        self.store = Store()
        for table in TABLES + tuple(kind.name for kind in RESOURCES):
            self.store.table(table)
        self.rate = Rate(self.clock, self.switches)
        self.auth = Auth(self)
        self.relations = Relations(self)
        self.webhooks = Webhooks(self)
        self.service_model = ServiceModel(self)
        self.poster = Poster(self)
        self.custom = CustomFields(self)
        for name, table, left, right in (
                ("service_assets", "ServiceAsset", "service_id", "asset_id"),
                ("asset_users", "AssetUser", "asset_id", "user_id"),
                ("licence_assets", "LicenceAsset", "licence_id", "asset_id"),
                ("contract_items", "ContractCI", "contract_id", "asset_id")):
            setattr(self, name, Links(self.store, table, left, right))
        self.resources = {kind.name.lower(): kind(self) for kind in RESOURCES}
        self.routes = Routes(self)
        for document in self.data:
            self.load(document)
        add_accounts(self.store, self.accounts.halo_clients,
                     self.accounts.halo_users)
        self.store.forget()

    def load(self, document):
        """Raw rows by table, ids made where none is given; their ids."""
        loaded = {}
        for table, rows in document.items():
            loaded[table] = [self._load_row(table, copy.deepcopy(row))
                             for row in rows]
        self.store.forget()
        return loaded

    def _load_row(self, table, row):
        if table == "AssetRelation":
            key = (row["parent_id"], row["child_id"])
            row = dict({"relationship_id": 0, "sibling_id": False}, **row)
            self.store.put(table, row, key)
            return list(key)
        if table == "Lookup":           # ids are unique in a lookup only
            key = "%s-%s" % (row["lookupid"], row["id"])
            self.store.put(table, row, key)
            return key
        before = self.store.get(table, row.get("id")) or {}
        if "id" not in row:
            resource = self.resources.get(table.lower())
            row["id"] = resource.new_key() if resource is not None \
                else self.store.next_id(table)
        self.store.put(table, dict(before, **row))
        return row["id"]

    # -- small services -----------------------------------------------------

    def now(self):
        return self.clock.now() + self.switches["halo_clock_skew_seconds"]

    def database(self):
        """What the database's messages call it (§5.3)."""
        return self.switches["halo_tenant"] or "local"

    def custom_fields(self, resource, row):
        return self.custom.shown(resource, row)

    def write_custom_fields(self, resource, row, items):
        self.custom.write(resource, row, items)

    def known(self, table, items):
        """Ids of a list of {"id": n} that exist; the others are lost, or
        kept when references are not checked."""
        keep = self.switches["halo_bad_reference"] == "store"
        return [i["id"] for i in items if i.get("id") and (
            keep or self.store.get(table, i["id"]) is not None)]

    def unknown_site(self):
        """The site called Unknown of the client called Unknown (§2.4)."""
        for client in self.store.find("Client", "name", "Unknown"):
            for site in self.store.find("Site", "client_id",
                                        float(client["id"])):
                return site
        raise errors.not_null_400(self.database(), "device", "dsite")

    @staticmethod
    def gateway_timeout():
        """Heavy unfiltered reads (§5.2); the caller need not wait for it."""
        return HaloError(504, EMPTY)

    def at_screen(self, name=None):
        """A call by somebody at the screen: no token, all rights."""
        agent = self.store.get("Agent", min(self.store.table("Agent")))
        return Call(self, Anyone(agent, self.switches, name), writes=True)

    # -- what the front asks ------------------------------------------------

    def serves(self, path):
        return self.routes.serves(path)

    def endpoint(self, method, path):
        return self.routes.endpoint(method, path)

    def is_auth(self, endpoint):
        return endpoint.endswith("/halo/auth/token")

    def control(self, front):
        return HaloControl(front, self)

    def expire_tokens(self):
        self.auth.expire_all()

    def secrets(self):
        return self.auth.secrets()

    def fault_reply(self, fault):
        return faultlib.fault_reply(fault, self)

    def spoil(self, fault, reply):
        return faultlib.spoil(fault, reply)

    async def serve(self, request):
        try:
            reply = self.routes.serve(request)
        except HaloError as error:
            reply = json_value(error.status, error.value, error.headers)
            if error.status == 504:
                reply = html_reply(504, "Gateway Time-out")
        except Exception:               # a defect leaves nothing half done
            self.store.rollback(0)
            raise
        self.store.forget()
        return reply
