-- The adapters' pure functions, for tests and for looking at what would be sent.  None of them sends anything.

CREATE FUNCTION pgsync_itsm.adapter_build(platform text, settings json, items json)
RETURNS TABLE (method text, path text, body json, nused integer, writes boolean, subrequests integer)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_build';
COMMENT ON FUNCTION pgsync_itsm.adapter_build(text, json, json) IS
'The request that a platform''s adapter makes of the first items of an array; nused says how many fit into it; method GET and no subrequests: nothing is to be sent';

CREATE FUNCTION pgsync_itsm.adapter_read(platform text, settings json, items json, status integer, content_type text, body bytea)
RETURNS TABLE (item_id bigint, verdict text, outcome text, operation text, external_id text, error_class text, message text,
               not_taken json, external_table text, external_number text, excerpt json)
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'adapter_read';
COMMENT ON FUNCTION pgsync_itsm.adapter_read(text, json, json, integer, text, bytea) IS
'What an answer to adapter_build()''s request means: an outcome an item, or one row without an item if the answer as a whole is no use; status null or 0: no answer came';

CREATE FUNCTION pgsync_itsm.adapter_build_lookup(platform text, settings json, lookups json)
RETURNS TABLE (method text, path text, body json, nused integer, writes boolean, subrequests integer)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_build_lookup';
COMMENT ON FUNCTION pgsync_itsm.adapter_build_lookup(text, json, json) IS
'The request that a platform''s adapter makes of the first look-ups of an array';

CREATE FUNCTION pgsync_itsm.adapter_read_lookup(platform text, settings json, lookups json, status integer, content_type text, body bytea)
RETURNS TABLE (lookup_id bigint, verdict text, outcome text, error_class text, message text, key text, external_id text,
               external_table text, label text, attrs json)
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'adapter_read_lookup';
COMMENT ON FUNCTION pgsync_itsm.adapter_read_lookup(text, json, json, integer, text, bytea) IS
'What an answer to adapter_build_lookup()''s request means: a row an answer, and one without a key for a look-up that has none';

CREATE FUNCTION pgsync_itsm.adapter_limits(platform text, settings json, entity_type text, action text, in_doubt boolean DEFAULT false)
RETURNS TABLE (max_items integer, idempotent boolean, max_lookups integer)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_limits';
COMMENT ON FUNCTION pgsync_itsm.adapter_limits(text, json, text, text, boolean) IS
'How many items of a kind one request may hold, whether sending them twice is harmless, and how many look-ups one request may hold';
