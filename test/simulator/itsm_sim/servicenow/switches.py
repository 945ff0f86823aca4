"""Switches of the ServiceNow side; the defaults are the harsher reading."""

SWITCHES = [
    # name, default, meaning
    ("client_credentials", False,
     "client_credentials grant on (§1.1: off by default); the same as "
     "property glide.oauth.inbound.client.credential.grant_type.enabled"),
    ("refresh_rotates", False,
     "a refresh returns a new refresh token and ends the old one (§1.1: "
     "documented is the access token only)"),
    ("client_credentials_refresh_token", False,
     "client_credentials also returns a refresh token (§1.1 [A])"),
    ("access_token_seconds", 1800, "life of an access token (§1.1)"),
    ("refresh_token_seconds", 8640000, "life of a refresh token (§1.1)"),
    ("basic_auth_restricted", False,
     "Basic authentication answers 401, as on newly made instances (§1.2)"),
    ("mfa", False, "Basic authentication answers 401 with X-MFA_TOKEN (§1.2)"),
    ("api_key_policies", "*",
     "APIs with a policy for API keys, comma list of table, stats, cmdb, "
     "identifyreconcile, batch, import; * all; on others a key gives 401 (§1.3)"),
    ("oauth_unscoped_denied", False,
     "bearer tokens get 403 'Access to unscoped api' everywhere (§1.5)"),
    ("rest_role_required", False,
     "role snc_platform_rest_api_access is needed for any call (§12)"),
    ("hardened_dictionary", False,
     "sys_dictionary and sys_db_object readable with admin or "
     "personalize_dictionary only (§12 [A], hardened instances)"),
    ("tolerate_missing_accept", False,
     "a missing Accept header is JSON instead of 400 (§2.1 [A])"),
    ("content_type_on_delete", True,
     "DELETE without Content-Type is 400 (§2.1)"),
    ("max_url_length", 12000,
     "longer request lines get an HTML 414 page (§2.3: 23,000 fails; "
     "ServiceNow's client stops at 10,000)"),
    ("link_header_limit", 16000,
     "a longer Link header breaks the response with an HTML 500 (§2.4)"),
    ("v1_empty_list_404", True, "v1 lists without a row are 404 (§2.3)"),
    ("shuffle_unordered", True,
     "lists without ORDERBY come in another order each time (§2.4)"),
    ("caret_escape", False, "^^ in a query value is one ^ (§2.5 [A])"),
    ("no_count_header", "absent",
     "X-Total-Count under sysparm_no_count: 'absent' or 'page' (§2.4)"),
    ("patch_without_change_bumps", False,
     "PATCH with equal values bumps sys_mod_count (§2.9 [A]: it does not)"),
    ("unique_violation_status", 403, "403 or 400 (§2.8 [A])"),
    ("bad_reference_dropped", False,
     "a text that is no sys_id in a reference column is dropped instead of "
     "stored (§2.8 [A])"),
    ("contract_dates_after_draft", "drop",
     "dates and money of a contract not in draft: 'drop' silently, 'refuse' "
     "with 403, or 'allow' (§10.5)"),
    ("retired_sync", True, "operational_status and install_status are "
     "synchronised when one is Retired (§10.12)"),
    ("life_cycle_sync", False,
     "the life-cycle pair is derived from the legacy status columns; "
     "no mapping gives TBD (§10.13)"),
    ("sam_rules", False,
     "Software Asset Management rules abort models without licence type or "
     "with a product of another publisher (§10.4)"),
    ("choice_cache_seconds", 5,
     "a choice or identification rule made through REST counts for IRE only "
     "after this time (§5.7); /__sim/load is immediate"),
    ("ire_shuffle", True, "IRE answers come in random order (§5.5)"),
    ("ire_omit_has_error", False,
     "hasError and hasWarning are left out (§5.5: documented classic samples)"),
    ("ire_equal_item_operation", "UPDATE",
     "operation of a resubmitted equal item: UPDATE [L] or NO_CHANGE (§5.4)"),
    ("ire_stamps_references", True,
     "an item that only names a CI also gets last_discovered and "
     "discovery_source (§5.4: IRE always sets them)"),
    ("ire_choice_refusal", True,
     "IRE drops values that are not in a choice list (§2.8 for the Table API)"),
    ("ire_empty_clears", True,
     "an empty string in an IRE item clears the column where no rule "
     "governs it (§5.4 [A])"),
    ("ire_duplicate_threshold", 5,
     "more matches than this are MULTIPLE_DUPLICATE_RECORDS; up to it the "
     "oldest wins and the others get duplicate_of; 0: always an error (§5.6)"),
    ("ire_required_attributes", True,
     "mandatory columns are enforced on insert (§5.4; property "
     "glide.required.attribute.enabled=false turns it off too)"),
    ("ire_recency_skip", True,
     "an item with an older source_recency_timestamp than the stored one is "
     "skipped without error (§5.2)"),
    ("ire_reclassification", "allow",
     "'allow', or 'deny' with RECLASSIFICATION_NOT_ALLOWED (§5.6)"),
    ("ire_lock_conflicts", True,
     "payloads in flight at one time that write the same CI get LOCK_TIMEOUT "
     "for it (§5.7)"),
    ("ire_oversize_ms", 20,
     "each item past the 500 that guidance allows takes this long (§5.7)"),
    ("ire_hold_ms", 15, "how long a payload holds its locks at least"),
    ("instance_create_status", 200, "Instance API POST: 200 or 201 (§3)"),
    ("instance_refusal_status", 200,
     "status of an IRE refusal in the Instance API (§3: not recorded)"),
    ("instance_delete_relation_reply", "empty",
     "'empty' 200 without body, 'body' 200 with the CI, or '204' (§3)"),
    ("instance_default_limit", 1000,
     "default sysparm_limit of the Instance API: documentation 10000, "
     "in-product spec 1000 (§3)"),
    ("batch_budget_seconds", 30, "time a batch may take (§6)"),
    ("batch_request_ms", 0,
     "time each sub-request is taken to need, without waiting for it (§6)"),
    ("batch_max_input", 5242880, "bytes of one batch sub-request (§6)"),
    ("batch_max_output", 10485760, "bytes of one batch sub-response (§6)"),
    ("batch_counts", "each",
     "rate rules count a batch 'each' (every sub-request, and the call) or "
     "by 'call' (§6 [A]); a rule's own batch_counts wins"),
    ("max_body", 10485760, "request bodies over this are 400 (§2.11)"),
    ("max_gzip_body", 1048576, "gzipped request bodies over this are 400 (§2.11)"),
    ("session_conflicts", True,
     "a second request on a session cookie in use gets 202 (§0.12)"),
    ("hibernating", False, "every call gets 200 and an HTML page (§2.3)"),
]
