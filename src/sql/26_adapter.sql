-- The adapters' pure functions, for tests and for looking at what would be sent.  None of them sends anything.

CREATE FUNCTION pgsync_itsm.adapter_build(platform text, settings json, items json)
RETURNS TABLE (method text, path text, body json, nused integer, writes boolean, subrequests integer, api text)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_build';
COMMENT ON FUNCTION pgsync_itsm.adapter_build(text, json, json) IS
'The request that a platform''s adapter makes of the first items of an array; nused says how many fit into it; method GET and no subrequests: nothing is to be sent';

CREATE FUNCTION pgsync_itsm.adapter_measure(platform text, settings json, items json)
RETURNS TABLE (api text, nused integer, subrequests integer, bytes bigint)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_measure';
COMMENT ON FUNCTION pgsync_itsm.adapter_measure(text, json, json) IS
'How many of the first items of an array one request would take, by which API, and its size';

CREATE FUNCTION pgsync_itsm.adapter_measure_lookup(platform text, settings json, lookups json)
RETURNS TABLE (api text, nused integer, subrequests integer, bytes bigint)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_measure_lookup';
COMMENT ON FUNCTION pgsync_itsm.adapter_measure_lookup(text, json, json) IS
'The same for the first look-ups of an array';

CREATE FUNCTION pgsync_itsm.adapter_read(platform text, settings json, items json, status integer, content_type text, body bytea,
                                         retry_after integer DEFAULT NULL)
RETURNS TABLE (item_id bigint, verdict text, outcome text, operation text, external_id text, error_class text, message text,
               not_taken json, external_table text, external_number text, excerpt json, retry_after_s integer)
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'adapter_read';
COMMENT ON FUNCTION pgsync_itsm.adapter_read(text, json, json, integer, text, bytea, integer) IS
'What an answer to adapter_build()''s request means: an outcome an item, or one row without an item if the answer as a whole is no use; status null or 0: no answer came, and content_type is the class of the failure; retry_after: what a rate-limit rule told';

CREATE FUNCTION pgsync_itsm.adapter_converse(platform text, settings json, items json, answers json)
RETURNS TABLE (request integer, method text, path text, body json, item_id bigint, outcome text, operation text, external_id text,
               external_table text, error_class text, message text, not_taken json, external_number text)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_converse';
COMMENT ON FUNCTION pgsync_itsm.adapter_converse(text, json, json, json) IS
'The requests that follow one another about the same items, as far as answers ({"status", "body"}, in their order) are given, and the outcomes behind the last one';

CREATE FUNCTION pgsync_itsm.adapter_converse_lookup(platform text, settings json, lookups json, answers json)
RETURNS TABLE (request integer, method text, path text, body json, lookup_id bigint, outcome text, key text, external_id text,
               external_table text, error_class text, message text, attrs json, external_number text)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_converse_lookup';
COMMENT ON FUNCTION pgsync_itsm.adapter_converse_lookup(text, json, json, json) IS
'The same for look-ups: the requests, and then a row an answer, its label as message';

CREATE FUNCTION pgsync_itsm.adapter_build_lookup(platform text, settings json, lookups json)
RETURNS TABLE (method text, path text, body json, nused integer, writes boolean, subrequests integer, api text)
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

CREATE FUNCTION pgsync_itsm.adapter_rates(platform text, settings json, items json, status integer, content_type text, body bytea)
RETURNS TABLE (rule text, "limit" bigint, reset bigint, counted integer, exhausted boolean)
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'adapter_rates';
COMMENT ON FUNCTION pgsync_itsm.adapter_rates(text, json, json, integer, text, bytea) IS
'The rate-limit rules that counted parts of a request, as an answer to adapter_build()''s request tells';

CREATE FUNCTION pgsync_itsm.adapter_limits(platform text, settings json, entity_type text, action text, in_doubt boolean DEFAULT false)
RETURNS TABLE (max_items integer, idempotent boolean, max_lookups integer, max_records integer, ends_inside boolean, nkinds integer)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_limits';
COMMENT ON FUNCTION pgsync_itsm.adapter_limits(text, json, text, text, boolean) IS
'How many items of a kind''s lane one request may hold, how many of them records, whether relationships travel with their ends, whether sending it twice is harmless, and how many look-ups one request may hold';

CREATE FUNCTION pgsync_itsm.adapter_lane(platform text, settings json, entity_type text, action text, in_doubt boolean DEFAULT false)
RETURNS TABLE (with_entity_type text, with_action text)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'adapter_lane';
COMMENT ON FUNCTION pgsync_itsm.adapter_lane(text, json, text, text, boolean) IS
'The kinds of items that may share a request with this kind, itself among them';

CREATE FUNCTION pgsync_itsm.adapter_outcomes(platform text)
RETURNS TABLE (layer text, match text, outcome text, reason text, hint text)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'adapter_outcomes';
COMMENT ON FUNCTION pgsync_itsm.adapter_outcomes(text) IS
'What a platform''s adapter makes of everything that comes back: its table of outcomes, in the order of its layers';

CREATE FUNCTION @extschema@.itsm_outcomes(platform text DEFAULT 'servicenow')
RETURNS TABLE (layer text, match text, outcome text, reason text, hint text)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT o.layer, o.match, o.outcome, o.reason, o.hint FROM pgsync_itsm.adapter_outcomes(itsm_outcomes.platform) AS o;
END;
COMMENT ON FUNCTION @extschema@.itsm_outcomes(text) IS
'What becomes of an item, by what the platform answers: outcome, reason, and what you can do';
