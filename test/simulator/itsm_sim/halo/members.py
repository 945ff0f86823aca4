"""Members of the resources' objects, as the reference names them.

A line is ``name kind [flags]``: kinds as in body.CONVERTERS, or ``ref TABLE``
for the id of a row there; flags ``ro`` (answered, ignored when sent), ``2026``
(not there on older builds), ``flag`` (steers a write, is not stored)."""


class Member:
    __slots__ = ("name", "kind", "table", "readonly", "since", "stored")

    def __init__(self, text):
        words = text.split()
        self.name, self.kind = words[:2]
        self.table = None
        rest = words[2:]
        if self.kind == "ref":
            self.table, rest = rest[0], rest[1:]
            self.kind = "int"
        self.readonly = "ro" in rest
        self.since = "2026" if "2026" in rest else "2025"
        self.stored = not self.readonly and "flag" not in rest \
            and self.kind != "list"


def members(text):
    found = {}
    for line in text.replace("\n", ";").split(";"):
        if line.strip():
            member = Member(line)
            found[member.name] = member
    return found


# §2.4, §2.6, §2.7, §2.9; third_party_id_string was seen not to persist
ASSET = members("""
id int; inventory_number text; key_field text ro; key_field2 text ro
key_field3 text ro; assettype_id ref AssetType; assettype_name text flag
assetgroup_name text ro
client_id ref Client; client_name text flag; site_id ref Site
site_name text flag; status_id ref Status; status_name text ro; inactive bool
criticality int; criticality_description text ro
business_owner_id ref Users; business_owner_name text ro
business_owner_cab_id int; technical_owner_id ref Agent
technical_owner_name text ro; technical_owner_cab_id int
supplier_id ref Supplier; supplier_name text ro
supplier_contract_id ref SupplierContract; supplier_contract_ref text ro
supplier_reference text; manufacturer_id ref Supplier 2026
contract_id ref ClientContract; contract_ref text ro
service_id ref Service; related_service_name text ro; service_ids text flag
services list; users list; software list; licences list ro
add_licences list; item_id int; sla_id int; priority_id int; notes text
warranty_start date; warranty_end date; commissiondate date
supplier_purchasedate date; supplier_expirydate date
last_modified date ro; dlastupdate date ro; changeguid text ro; guid text ro
import_guid text ro; third_party_id int; third_party_id_string text flag
environment int 2026; owning_service ref Service 2026
owning_businessapp ref Asset 2026; owning_portfolio ref Asset 2026
owning_ci ref Asset 2026; is_linked_businessapp bool ro 2026
is_businessapp_instance bool ro 2026; is_portfolio bool ro 2026
primary_instance_text text ro 2026
fields list; customfields list
parent_assets list; child_assets list; sibling_assets list
add_parent_assets list 2026; add_child_assets list 2026
add_sibling_assets list 2026; edit_parent_assets list 2026
edit_child_assets list 2026; edit_sibling_assets list 2026
delete_parent_assets list 2026; delete_child_assets list 2026
delete_sibling_assets list 2026
_dontaddnewfields bool flag; _donotvalidate bool flag
_validateonly bool flag
""")
# what a row of a list has (§2.1: a reduced object)
ASSET_ROW = """id inventory_number key_field key_field2 key_field3 client_id
client_name site_id site_name assettype_id assettype_name status_id status_name
inactive supplier_id supplier_name""".split()
# members of §2.1's example that are there although they have no value
ASSET_ALWAYS = ("inventory_number key_field key_field2 key_field3 supplier_id "
                "supplier_name").split()

# §3.2
SUPPLIER = members("""
id int; name text; contact_name text; email_address text
support_email_address text; phone_number text; website text; address text
notes text; inactive bool; is_supplier bool; is_manufacturer bool
portal_url text; portal_ref text; accounts_id text; toplevel_id int
contract_count int ro; last_modified date ro; customfields list
""")

# §3.3
SUPPLIER_CONTRACT = members("""
id int; ref text; contract_description text; supplier_id ref Supplier
supplier_name text ro; contact_1 text; contact_2 text; contact_3 text
sla_id int; note text; start_date date; end_date date
costing_information text; dontsendalarm bool; is_default bool; active bool
started bool ro; expired bool ro; renewedfrom_id ref SupplierContract
renewedby_id ref SupplierContract; assets list ro; configuration_items list
add_configuration_items list; contracts list ro; customfields list
""")
CLIENT_CONTRACT = members("""
id int; ref text; client_id ref Client; client_name text ro
start_date date; end_date date; note text; active bool; contracts list
""")

# §3.4
SERVICE = members("""
id int; name text; summary text; service_category_id ref ServiceCategory
service_category_name text ro; showinusercatalog bool
showintechcatalog bool; subscribable bool; service_tickettype_id int
requestdetails_id int; business_owner_id ref Users
business_owner_cab_id int; technical_owner_id ref Agent
technical_owner_cab_id int; compliance_owner_id ref Users
compliance_owner_cab_id int; criticality int; cost float
device_id ref Asset; assets list; linked_services list; customfields list
""")
SERVICE_CATEGORY = members("""
id int; name text; parent_id ref ServiceCategory; seq int; summary text
""")
SERVICE_STATUS = members("id int; name text")

# §3.5, §3.6
USERS = members("""
id int; name text; firstname text; surname text; emailaddress text
client_id ref Client; client_name text ro; site_id float; site_id_int int ro
site_name text ro; title text; phonenumber text; mobilenumber text
department text; department_id int; inactive bool; isserviceaccount bool
linked_agent_id ref Agent; supplier_id ref Supplier; notes text
last_modified date ro; customfields list
""")
CLIENT = members("""
id int; name text; inactive bool; toplevel_id int; notes text
last_modified date ro; customfields list
""")
SITE = members("""
id int; name text; client_id float; client_name text ro; inactive bool
notes text; last_modified date ro; customfields list
""")
AGENT = members("""
id int ro; name text ro; email text ro; inactive bool ro; claims list ro
""")

# §3.7
LICENCE = members("""
id int; name text; type int; count int; client_id ref Client
client_name text ro; site_id ref Site; supplier_id ref Supplier
supplier_name text ro; vendor text; manufacturer text; distributor text
start_date date; end_date date; purchase_price float; billing_cycle text
term_duration text; autorenew bool; product_sku text
vendor_product_sku text; notes text; is_active bool
parent_id ref SoftwareLicence; configuration_items list
add_configuration_items list
""")

# §3.8, §3.9
CRM_NOTE = members("""
id int; client_id ref Client; supplier_id ref Supplier; subject text
note text; who text ro; datetime date ro
""")
EXTERNAL_LINK = members("""
id int; table_id int; module_id int; halo_id int; third_party_id text
third_party_type text; third_party_desc text; third_party_url text
third_party_secondary_id text; details_id int; primary bool
date_created date ro; date_updated date ro
""")

# §2.8
ASSET_TYPE = members("""
id int; name text; assetgroup_id ref AssetGroup; assetgroup_name text ro
keyfield_id int; keyfield2_id int; keyfield3_id int; fields list
allowed_status list; allowall_status bool; is_service bool
is_businessapp bool; is_businessapp_instance bool 2026; is_portfolio bool 2026
primary_instance_type ref AssetType 2026; default_device_template int
owningservice_tab bool 2026; owningbusinessapp_tab bool 2026
owningportfolio_tab bool 2026; owningci_tab bool 2026
""")
ASSET_GROUP = members("id int; name text; use int")
FIELD = members("""
id int; name text; kind text; validate text; lookup int; mandatory bool
systemuse bool ro
""")
FIELD_INFO = members("""
id int; name text; label text; type int; typeid int; mandatory bool
""")
STATUS = members("id int; name text; colour text; type int ro")

# §4.1
WEBHOOK = members("""
id text; name text; type int; url text; method int; content_type text
authentication_type int; basic_username text; basic_password text
certificate_id int; active bool; disabled bool; payload_type int
custom_payload text; batch_method int; batch_delay_seconds int
batch_limit int; infinite_loop_threshold int; notify_on_failure bool
auto_disable_attempts int; log_retention_policy_days int; last_status int ro
""")
NOTIFICATION = members("""
id int; name text; eventno int; type int; delivery_method int
webhook_id text; conditions list
""")
