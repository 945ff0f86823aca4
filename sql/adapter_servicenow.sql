-- The ServiceNow adapter alone: what it asks, and what it makes of every answer and oddity that the
-- reference tells of.  Nothing is sent.
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
\pset format unaligned
\pset tuples_only on
\pset null -

-- Percent-decoding, for eyes.
CREATE FUNCTION pg_temp.plain(url text) RETURNS text LANGUAGE sql AS $$
    SELECT convert_from(string_agg(CASE WHEN m[1] IS NOT NULL THEN decode(m[1], 'hex') ELSE convert_to(m[2], 'UTF8') END, '' ORDER BY n), 'UTF8')
      FROM regexp_matches(url, '%([0-9A-F]{2})|([^%]+)', 'g') WITH ORDINALITY AS r(m, n)
$$;
CREATE FUNCTION pg_temp.q(url text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.plain(url), '&sysparm_(display_value|exclude_reference_link|suppress_pagination_header|input_display_value)=[a-z]+', '', 'g')
$$;
-- A batch and its parts, decoded.
CREATE FUNCTION pg_temp.parts(body json) RETURNS TABLE (id text, method text, url text, content text) LANGUAGE sql AS $$
    SELECT r ->> 'id', r ->> 'method', pg_temp.q(r ->> 'url'), convert_from(decode(r ->> 'body', 'base64'), 'UTF8')
      FROM json_array_elements(body -> 'rest_requests') AS r
$$;
-- The answer to a batch: arguments are triples of status, total count and body; status 0 is unserviced, NULL missing.
CREATE FUNCTION pg_temp.served(VARIADIC parts text[]) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to(json_build_object('batch_request_id', '1',
        'serviced_requests', coalesce((SELECT json_agg(json_build_object('id', ((n - 1) / 3)::text, 'status_code', parts[n]::int,
                'body', regexp_replace(encode(convert_to(coalesce(parts[n + 2], ''), 'UTF8'), 'base64'), '\n', '', 'g'),
                'headers', CASE WHEN parts[n + 1] IS NULL THEN '[]'::json
                           ELSE json_build_array(json_build_object('name', 'X-Total-Count', 'value', parts[n + 1])) END) ORDER BY n DESC)
            FROM generate_series(1, array_length(parts, 1), 3) AS n WHERE parts[n] <> '0'), '[]'),
        'unserviced_requests', coalesce((SELECT json_agg(((n - 1) / 3)::text)
            FROM generate_series(1, array_length(parts, 1), 3) AS n WHERE parts[n] = '0'), '[]'))::text, 'UTF8')
$$;
-- id: outcome operation external_id table number class | message | not taken
CREATE FUNCTION pg_temp.told(items text, status int, body bytea, settings text DEFAULT '{}', content_type text DEFAULT 'application/json')
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(item_id::text, 'all') || ':', coalesce(outcome, verdict), operation, left(external_id, 8), external_table, external_number,
                     error_class, '| ' || message, '| ' || not_taken::text)
      FROM pgsync_itsm.adapter_read('servicenow', settings::json, items::json, status, content_type, body)
$$;
CREATE FUNCTION pg_temp.told(items text, status int, body text, settings text DEFAULT '{}', content_type text DEFAULT 'application/json')
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT * FROM pg_temp.told(items, status, convert_to(body, 'UTF8'), settings, content_type)
$$;
CREATE FUNCTION pg_temp.found(lookups text, status int, body bytea, settings text DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(lookup_id::text, 'all') || ':', coalesce(outcome, verdict), error_class, '| ' || message, quote_literal(key), left(external_id, 8),
                     external_table, quote_literal(label), attrs::text)
      FROM pgsync_itsm.adapter_read_lookup('servicenow', settings::json, lookups::json, status, 'application/json', body)
$$;
-- Ids are 32 hexadecimal digits.
CREATE FUNCTION pg_temp.id(n int) RETURNS text LANGUAGE sql AS $$ SELECT to_hex(n) || repeat('0', 32 - length(to_hex(n))) $$;

---- Building: CIs ----

\set app '{"item_id":1,"entity_type":"application","action":"CREATE","native_key":"application/0c2e","external_table":"cmdb_ci_business_app","payload":{"name":"LegalEdge \\"™\\"","short_description":"a\\nb"}}'
\set upd '{"item_id":2,"entity_type":"deployment_profile","action":"UPDATE","native_key":"deployment_profile/77fe","external_id":"77fe0000000000000000000000000000","external_table":"cmdb_ci_service_discovered","payload":{"name":"LegalEdge - Prod","model_id":"x","model_category":"y","sys_updated_on":"z","_note":"stays here","comments":null}}'
SELECT method, path, pg_temp.plain(path), nused, writes, subrequests FROM pgsync_itsm.adapter_build('servicenow', '{"source_name":"Get & Sync"}', ('[' || :'app' || ']')::json);
SELECT body FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || :'app' || ',' || :'upd' || ']')::json);
-- what is written plainly is read in another way than what is not; both mean the same
SELECT p.n, b.method, b.body -> 'attributes' AS sent
  FROM unnest(ARRAY[
       '{}', E' {\t"a" : "b" ,\r\n "c":null}\n', '{"a":true,"b":false,"c":12,"d":0}', '{"a":-1,"b":1.50,"c":1e5,"d":-0}', '{"a":12345678901234567890}',
       '{"a":"\n\t\"\\\/\b\f\r","b":"é😀"}', '{"a":"\u0041\u00e9\ud83d\ude00"}', '{"a":"x\u0000y"}', '{"a":"1","b":"2","a":"3"}', '{"":"x","b":""}',
       '{"_a":"1","sys_id":"2","model_id":"3","sys_created_on":"4","b":"5"}', '{"a":{"b":1}}', '{"a":[]}', '[]', '"a"', 'null', '',
       '{"a":"b"', '{"a":"b"}}', '{"a":"b",}', '{"a" "b"}', '{"a":truely}', '{"a":01}', '{"a":tru}', '{"a":"b', '{"a":"\', '{"a":"\q"}', E'{"a":"\n"}', '{a:"b"}', '{''a'':''b''}']) WITH ORDINALITY AS p(payload, n)
 CROSS JOIN LATERAL pgsync_itsm.adapter_build('servicenow', '{"write_api":"instance"}', json_build_array(json_build_object('item_id', 1, 'entity_type', 'application', 'action', 'UPDATE',
       'external_id', repeat('a', 32), 'external_table', 'cmdb_ci_business_app', 'payload', p.payload))) AS b
 ORDER BY p.n;
-- 501 CIs: 500 fit; by bytes fewer; what failed as a whole again and again goes in small parts
CREATE FUNCTION pg_temp.apps(n int, attempts int DEFAULT 1) RETURNS json LANGUAGE sql AS $$
    SELECT json_agg(json_build_object('item_id', i, 'entity_type', 'application', 'action', 'CREATE', 'native_key', 'application/' || i, 'attempts', attempts,
                                      'external_table', 'cmdb_ci_business_app', 'payload', json_build_object('name', 'App ' || i)::text))
      FROM generate_series(1, n) AS i
$$;
SELECT nused, json_array_length(body -> 'items') FROM pgsync_itsm.adapter_build('servicenow', '{}', pg_temp.apps(501));
SELECT nused, json_array_length(body -> 'items'), octet_length(body::text) <= 20000 FROM pgsync_itsm.adapter_build('servicenow', '{"batch_bytes":"20000"}', pg_temp.apps(501));
SELECT nused FROM pgsync_itsm.adapter_build('servicenow', '{"batch_items":"7"}', pg_temp.apps(501));
SELECT nused FROM pgsync_itsm.adapter_build('servicenow', '{"batch_bytes":"1"}', pg_temp.apps(501));
SELECT nused FROM pgsync_itsm.adapter_build('servicenow', '{"batch_items":"nonsense"}', pg_temp.apps(501, 4));
SELECT nused FROM pgsync_itsm.adapter_build('servicenow', '{}', pg_temp.apps(501, 6));

---- Building: relationships ----

CREATE FUNCTION pg_temp.links(pairs int[][], attrs json DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT json_agg((jsonb_build_object('item_id', i, 'entity_type', 'consumes', 'action', 'CREATE', 'parent_external_id', pg_temp.id(pairs[i][1]),
                     'parent_table', 'cmdb_ci_business_app', 'child_external_id', pg_temp.id(pairs[i][2]), 'child_table', 'cmdb_ci_service_auto',
                     'rel_type', 'Consumes::Consumed by', 'rel_type_id', pg_temp.id(9)) || attrs::jsonb)::json ORDER BY i)::text
      FROM generate_subscripts(pairs, 1) AS i
$$;
SELECT body FROM pgsync_itsm.adapter_build('servicenow', '{}', pg_temp.links(ARRAY[[1, 2], [1, 3], [1, 2]])::json);
-- three CIs fit: the third pair needs a fourth
SELECT nused, json_array_length(body -> 'items'), json_array_length(body -> 'relations')
  FROM pgsync_itsm.adapter_build('servicenow', '{"batch_items":"3"}', pg_temp.links(ARRAY[[1, 2], [1, 3], [1, 4], [1, 2]])::json);
SELECT nused FROM pgsync_itsm.adapter_build('servicenow', '{"batch_items":"1"}', pg_temp.links(ARRAY[[1, 2], [1, 3]])::json);
SELECT nused, octet_length(body::text) < 5000
  FROM pgsync_itsm.adapter_build('servicenow', '{"batch_bytes":"5000"}', (SELECT pg_temp.links(array_agg(ARRAY[1, 2])) FROM generate_series(1, 100))::json);

---- Building: Table API in a Batch ----

\set company '{"item_id":10,"entity_type":"company","action":"CREATE","payload":{"name":"Acme","vendor":"true"}}'
\set contact '{"item_id":11,"entity_type":"contact","action":"CREATE","payload":{"email":"ada@example.org","last_name":"Byron"}}'
\set product '{"item_id":12,"entity_type":"software_product","action":"CREATE","payload":{"name":"Office","version":"","manufacturer":"ac000000000000000000000000000000"}}'
\set contract '{"item_id":13,"entity_type":"contract","action":"CREATE","payload":{"vendor_contract":"C-118","vendor":"ac000000000000000000000000000000","_is_internal":"false"}}'
\set covers '{"item_id":14,"entity_type":"covers","action":"CREATE","parent_external_id":"51000000000000000000000000000000","child_external_id":"4f000000000000000000000000000000"}'
\set clear '{"item_id":15,"entity_type":"application","action":"CLEAR","external_id":"4f000000000000000000000000000000","external_table":"cmdb_ci_business_app","payload":{"comments":"old"}}'
\set unlink '{"item_id":16,"entity_type":"consumes","action":"DELETE","external_id":"9c310000000000000000000000000000","external_table":"cmdb_rel_ci"}'
SELECT method, path, nused, writes, subrequests FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || :'company' || ']')::json);
SELECT body #>> '{rest_requests,0,headers}' FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || :'company' || ']')::json);
SELECT p.* FROM pgsync_itsm.adapter_build('servicenow', '{"product_model_table":"cmdb_software_product_model"}',
    ('[' || concat_ws(',', :'company', :'contact', :'product', :'contract', :'covers', :'clear', :'unlink') || ']')::json) AS b, pg_temp.parts(b.body) AS p;
SELECT p.* FROM pgsync_itsm.adapter_build('servicenow', '{}',
    ('[' || replace(:'contract', '"CREATE"', '"UPDATE","external_id":"51000000000000000000000000000000"') || ']')::json) AS b, pg_temp.parts(b.body) AS p;
SELECT nused, subrequests FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(:'company'::json) FROM generate_series(1, 150)));

---- Building: is it there? ----

SELECT p.* FROM pgsync_itsm.adapter_build('servicenow', '{"product_model_table":"cmdb_software_product_model"}',
    replace('[' || concat_ws(',', :'company', :'contact', :'product', :'contract', :'covers',
            replace(:'company', 'Acme', 'Smith ^ Sons'), replace(:'company', 'Acme', 'javascript:gs.log(1)'), replace(:'company', 'Acme', repeat('x', 50)),
            '{"item_id":17,"entity_type":"contact","action":"CREATE","payload":{"user_name":"ada"}}',
            '{"item_id":18,"entity_type":"contact","action":"CREATE","payload":{"last_name":"nobody"}}') || ']',
        '"action"', '"in_doubt":true,"action"')::json) AS b, pg_temp.parts(b.body) AS p;
SELECT method, nused, writes, subrequests FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || replace(:'company', '"action"', '"in_doubt":true,"action"') || ']')::json);
SELECT p.* FROM pgsync_itsm.adapter_build('servicenow', '{"write_api":"instance"}', pg_temp.links(ARRAY[[1, 2]], '{"in_doubt":true}')::json) AS b, pg_temp.parts(b.body) AS p;

---- Building: one call each ----

SELECT b.method, pg_temp.q(b.path), b.body, b.nused, b.writes, b.subrequests
  FROM unnest(ARRAY[:'app', replace(:'upd', 'PATCH', ''), replace(:'app', '"CREATE"', '"CREATE","external_id":"4f000000000000000000000000000000"'),
                    pg_temp.links(ARRAY[[1, 2]]), :'company', :'contract', :'covers', :'clear', :'unlink']) WITH ORDINALITY AS i(item, n),
       pgsync_itsm.adapter_build('servicenow', '{"write_api":"instance"}', (CASE WHEN item LIKE '[%' THEN item ELSE '[' || item || ']' END)::json) AS b
 ORDER BY n;

---- How much, how often, and with whom ----

SELECT e.entity_type, e.action, w.write_api, d.in_doubt, l.max_items, l.max_records, l.ends_inside, l.nkinds, l.idempotent, l.max_lookups
  FROM unnest(ARRAY['application', 'consumes', 'depends_on', 'contract', 'contract', 'consumes', 'application'],
              ARRAY['CREATE', 'CREATE', 'CREATE', 'CREATE', 'UPDATE', 'DELETE', 'CLEAR']) WITH ORDINALITY AS e(entity_type, action, n),
       unnest(ARRAY['ire', 'instance']) AS w(write_api), unnest(ARRAY[false, true]) AS d(in_doubt),
       pgsync_itsm.adapter_limits('servicenow', json_build_object('write_api', w.write_api), e.entity_type, e.action, d.in_doubt) AS l
 ORDER BY w.write_api, e.n, d.in_doubt;
-- the lanes; every kind is in its own, and in those of all that are in its own: the last two list nothing
CREATE TEMP TABLE lanes AS
SELECT w.settings, d.in_doubt, e.entity_type, a.action, l.with_entity_type, l.with_action
  FROM unnest(ARRAY['{}', '{"write_api":"instance"}', '{"runs_on_as":"relation"}']) AS w(settings), unnest(ARRAY[false, true]) AS d(in_doubt),
       unnest(ARRAY['company', 'contact', 'it_service', 'software_product', 'software_package', 'application', 'deployment_profile', 'contract', 'covers',
                    'consumes', 'depends_on', 'runs_on', 'sends_data_to']) AS e(entity_type), unnest(ARRAY['CREATE', 'UPDATE', 'CLEAR', 'DELETE']) AS a(action),
       pgsync_itsm.adapter_lane('servicenow', w.settings::json, e.entity_type, a.action, d.in_doubt) AS l;
SELECT settings, in_doubt, kinds, count(*)
  FROM (SELECT settings, in_doubt, entity_type, action, string_agg(with_entity_type || ' ' || with_action, ', ' ORDER BY with_entity_type, with_action) AS kinds
          FROM lanes GROUP BY settings, in_doubt, entity_type, action HAVING count(*) > 1) AS x
 GROUP BY settings, in_doubt, kinds ORDER BY settings, in_doubt, kinds;
SELECT settings, in_doubt, entity_type, action FROM lanes GROUP BY settings, in_doubt, entity_type, action
HAVING NOT bool_or(entity_type = with_entity_type AND action = with_action);
SELECT l.* FROM lanes AS l
 WHERE NOT EXISTS (SELECT FROM lanes AS b WHERE b.settings = l.settings AND b.in_doubt = l.in_doubt AND b.entity_type = l.with_entity_type
                                            AND b.action = l.with_action AND b.with_entity_type = l.entity_type AND b.with_action = l.action);
SELECT api FROM unnest(ARRAY[:'app', :'company', :'unlink']) WITH ORDINALITY AS i(item, n), unnest(ARRAY['ire', 'instance']) AS w(write_api),
       pgsync_itsm.adapter_build('servicenow', json_build_object('write_api', write_api), ('[' || item || ']')::json) ORDER BY n, write_api;

---- What must never leave ----

SELECT b.method, pg_temp.q(b.path), b.body, b.nused, b.writes
  FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || replace(:'contract', '"false"', '"true"') || ']')::json) AS b;
SELECT pg_temp.told('[' || concat_ws(',', replace(:'contract', '"false"', '"true"'), replace(:'contract', '"false"', '""'), replace(:'contract', '_is_internal', '_x'),
    replace(:'contract', '"CREATE"', '"UPDATE","external_id":"5"')) || ']', 200, pg_temp.served('200', NULL, '{"result":{"sys_id":"5"}}'));
SELECT pg_temp.told('[' || replace(:'contract', '"false"', '"true"') || ']', 500, 'whatever');
SELECT count(*), bool_or(url LIKE '%secret%' OR content LIKE '%secret%') FROM pgsync_itsm.adapter_build('servicenow', '{}', ('[' || concat_ws(',', :'contract',
    replace(replace(:'contract', '"false"', 'true'), 'C-118', 'secret')) || ']')::json) AS b, pg_temp.parts(b.body) AS p;
-- items that cannot be sent do not hold back the others
SELECT pg_temp.told('[' || concat_ws(',',
    replace(:'app', '"external_table":"cmdb_ci_business_app",', ''),
    replace(:'app', '{"name":"LegalEdge \"™\"","short_description":"a\nb"}', '"no json"'),
    replace(:'app', '"a\nb"', '{"a":1}'), replace(:'app', '"a\nb"', '[1]'), :'app',
    replace(replace(:'upd', '"external_id":"77fe0000000000000000000000000000",', ''), '"native_key":"deployment_profile/77fe",', '')) || ']',
    200, '{"result":{"items":[{"operation":"INSERT","sysId":"4f000000000000000000000000000000","inputIndices":[0]}]}}');
SELECT pg_temp.told('[' || concat_ws(',', replace(:'covers', '"child_external_id"', '"x"'), replace(:'clear', '"external_id"', '"x"'),
                                     replace(:'unlink', '"external_id"', '"x"')) || ']', 200, pg_temp.served('200', NULL, '{}'));
SELECT pg_temp.told(pg_temp.links(ARRAY[[1, 2]], '{"rel_type":null}'), 200, '{"result":{}}');
SELECT pg_temp.told(pg_temp.links(ARRAY[[1, 2]], '{"rel_type_id":null}'), 201, '{"result":{}}', '{"write_api":"instance"}');
SELECT pg_temp.told(pg_temp.links(ARRAY[[1, 2]], '{"parent_external_id":null}'), 200, '{"result":{}}');

---- Reading: CIs, one by one ----

CREATE FUNCTION pg_temp.ci(result text, item text DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT t FROM pg_temp.told(json_build_array('{"item_id":1,"entity_type":"application","action":"CREATE","native_key":"application/0c2e",
            "external_table":"cmdb_ci_business_app","payload":{"name":"LegalEdge","comments":"text"}}'::jsonb || item::jsonb)::text,
        200, '{"result":{"items":[' || result || '],"relations":[],"hasError":true}}') AS t
$$;
\set ok '"className":"cmdb_ci_business_app","sysId":"4f000000000000000000000000000000","errors":[],"inputIndices":[0]'
SELECT pg_temp.ci('{"operation":"INSERT",' || :'ok' || '}');
SELECT o, pg_temp.ci('{"operation":"' || o || '",' || :'ok' || '}')
  FROM unnest(ARRAY['UPDATE', 'NO_CHANGE', 'UPDATE_WITH_UPGRADE', 'UPDATE_WITH_DOWNGRADE', 'UPDATE_WITH_SWITCH', 'INSERT_AS_PARTIAL', 'INSERT_AS_INCOMPLETE',
                    'INSERT_INCOMPLETE', 'DELETE', '']) WITH ORDINALITY AS x(o, n) ORDER BY n;
-- every code of the reference
SELECT pg_temp.ci('{"className":"cmdb_ci_business_app","sysId":"Unknown","inputIndices":[0],"errors":[{"error":"' || c || '","message":"what ails it"}]}')
  FROM unnest(ARRAY['IDENTIFICATION_RULE_MISSING', 'MISSING_MATCHING_ATTRIBUTES', 'INVALID_INPUT_DATA', 'DUPLICATE_RELATIONSHIP_TYPES', 'DUPLICATE_PAYLOAD_RECORDS',
                    'MULTIPLE_DUPLICATE_RECORDS', 'MULTI_MATCH', 'REQUIRED_ATTRIBUTE_EMPTY', 'MISSING_DEPENDENCY', 'METADATA_RULE_MISSING', 'MULTIPLE_DEPENDENCIES',
                    'ABANDONED', 'LOCK_TIMEOUT', 'RECLASSIFICATION_NOT_ALLOWED', 'INSERT_NOT_ALLOWED_FOR_SOURCE', 'NO_CLASS_NAME_FOR_INDEPENDENT_CI',
                    'IDENTIFICATION_RULE_FOR_LOOKUP_MISSING', 'IDENTIFICATION_RULE_FOR_RELATED_ITEM_MISSING', 'NO_LOOKUP_RULES_FOR_DEPENDENT_CI', 'QUALIFICATION_LOOP',
                    'TYPE_CONFLICT_IN_QUALIFICATION', 'DUPLICATE_RELATED_PAYLOAD', 'DUPLICATE_LOOKUP_PAYLOAD']) WITH ORDINALITY AS x(c, n) ORDER BY n;
-- the cause, not what follows from it
SELECT pg_temp.ci('{"sysId":"Unknown","inputIndices":[0],"errors":[{"error":"ABANDONED","message":"Too many other errors"},{"error":"REQUIRED_ATTRIBUTE_EMPTY","message":"Missing mandatory field [it_application_owner]"}]}');
SELECT pg_temp.ci('{"sysId":"Unknown","inputIndices":[0],"errorCount":1}');
-- the live refusal: no operation, no indices
SELECT pg_temp.ci('{"className":"cmdb_ci_service_discovered","sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"In payload invalid data source [null] exist…"}]}');
-- what is missing, or not what was asked
SELECT pg_temp.ci('');
SELECT pg_temp.ci('{"operation":"INSERT","sysId":"Unknown","inputIndices":[0]}');
SELECT pg_temp.ci('{"operation":"UPDATE",' || :'ok' || '}', '{"action":"UPDATE","external_id":"77fe0000000000000000000000000000"}');
SELECT pg_temp.ci('{"operation":"UPDATE",' || :'ok' || '}', '{"action":"UPDATE","external_id":"4F000000000000000000000000000000"}');
-- owned by another source; never sent; remarks
SELECT pg_temp.ci('{"operation":"UPDATE",' || :'ok' || ',"maskedAttributes":["comments","owned_by"],"warnings":[{"error":"W","message":"odd"}],"info":[{"code":"SKIPPED_CLASS_DOWNGRADE","message":"class kept"}]}',
                  '{"payload":{"name":"LegalEdge","comments":"text","model_id":"m"}}');
-- a repeated creation that finds its own native key was ours
SELECT pg_temp.ci('{"operation":"UPDATE",' || :'ok' || ',"identificationAttempts":[{"info":"sys_object_source MATCHED","attemptResult":"MATCHED"}]}', json_build_object('attempts', a)::text)
  FROM generate_series(1, 2) AS a;
SELECT pg_temp.ci('{"operation":"UPDATE",' || :'ok' || ',"identificationAttempts":[{"info":"sys_object_source NO_MATCH","attemptResult":"NO_MATCH"},{"identifierName":"by name","attemptResult":"MATCHED"}]}', '{"attempts":2}');

---- Reading: CIs together ----

-- the documented sample
SELECT pg_temp.told(pg_temp.apps(1)::text, 200, '{"result":{
  "items":[
   {"className":"cmdb_ci_business_app","operation":"INSERT","sysId":"4f000000000000000000000000000000","identifierEntrySysId":"Unknown",
    "identificationAttempts":[
      {"info":"sys_object_source NO_MATCH","identifierName":"","attemptResult":"NO_MATCH","attributes":[],"hybridEntryCiAttributes":[]},
      {"identifierName":"Business App Rule","attemptResult":"NO_MATCH","attributes":["name"],"searchOnTable":"cmdb_ci_business_app","hybridEntryCiAttributes":[]}],
    "errors":[],"errorCount":0,"warnings":[],"warningCount":0,"info":[],"markers":[],"mergedPayloadIds":[],"inputIndices":[0]}],
  "relations":[],"additionalCommittedItems":[],"additionalCommittedRelations":[],
  "hasError":false,"hasWarning":false,"logContextId":"3bda"}}');
-- any order; no hasError; one without an answer
SELECT pg_temp.told(pg_temp.apps(4)::text, 200, '{"result":{"items":[
  {"operation":"NO_CHANGE","sysId":"33000000000000000000000000000000","inputIndices":[2]},
  {"sysId":"Unknown","errors":[{"error":"LOCK_TIMEOUT","message":"Failed to acquire synchronization lock for x"}],"inputIndices":["1"]},
  {"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0]}]}}');
-- without indices only a refusal is taken by its place, and only if all are there
SELECT pg_temp.told(pg_temp.apps(2)::text, 200, '{"result":{"items":[{"sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"a"}]},
  {"operation":"INSERT","sysId":"22000000000000000000000000000000","errors":[]}]}}');
SELECT pg_temp.told(pg_temp.apps(2)::text, 200, '{"result":{"items":[{"sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"a"}]}]}}');
SELECT pg_temp.told(pg_temp.apps(1)::text, 200, '{"result":{"items":[{"operation":"INSERT","sysId":"22000000000000000000000000000000"}]}}');
-- two records must not become one CI: de-duplicated, or found by name
SELECT pg_temp.told(pg_temp.apps(3)::text, 200, '{"result":{"items":[{"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0,2]},
  {"operation":"INSERT","sysId":"22000000000000000000000000000000","inputIndices":[1]}]}}');
SELECT pg_temp.told(pg_temp.apps(2)::text, 200, '{"result":{"items":[{"operation":"UPDATE","sysId":"11000000000000000000000000000000","inputIndices":[0]},
  {"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[1]}]}}');
-- nonsense where structure is expected
SELECT t, pg_temp.told(pg_temp.apps(1)::text, 200, '{"result":' || t || '}')
  FROM unnest(ARRAY['{"items":{}}', '{"items":[null]}', '{"items":[[]]}', '{"items":[{"inputIndices":[-1]}]}', '{"items":[{"inputIndices":[99999999999]}]}',
                    '{"items":[{"inputIndices":"0"}]}', '{"items":[{"inputIndices":[0],"operation":{},"sysId":[]}]}', '{"items":[{"inputIndices":[0],"errors":[7]}]}',
                    '{"items":[{"inputIndices":[0],"errors":[{"error":{},"message":[]}]}]}', '[]', 'null', '"text"', '{}']) WITH ORDINALITY AS x(t, n) ORDER BY n;
-- excerpts are JSON and bounded, messages are bounded and in one line
SELECT octet_length(excerpt::text) <= 4000, length(message), message ~ '[[:cntrl:]]', error_class
  FROM pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.apps(1), 200, NULL, convert_to(json_build_object('result', json_build_object('items', json_build_array(json_build_object(
       'inputIndices', '[0]'::json, 'errors', json_build_array(json_build_object('error', 'MULTI_MATCH', 'message', repeat(E'é\n\t"', 5000))))))) ::text, 'UTF8'));

---- Reading: relationships ----

\set links 'pg_temp.links(ARRAY[[1, 2], [1, 3], [4, 5]])'
SELECT pg_temp.told(:links, 200, '{"result":{"items":[],"relations":[
  {"className":"cmdb_rel_ci","operation":"NO_CHANGE","sysId":"93000000000000000000000000000000","errorCount":0,"inputIndices":[2]},
  {"className":"cmdb_rel_ci","operation":"INSERT","sysId":"91000000000000000000000000000000","inputIndices":[0]},
  {"className":"cmdb_rel_ci","sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"No such relationship with name [x] exist in table [cmdb_rel_type]"}],"inputIndices":[1]}]}}');
-- an end that is gone explains its relationships; others go again
SELECT pg_temp.told(:links, 200, '{"result":{"items":[
  {"operation":"NO_CHANGE","sysId":"10000000000000000000000000000000","inputIndices":[0]},
  {"sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"Found invalid sys_id in payload"}],"inputIndices":[2]}],"relations":[
  {"operation":"INSERT_AS_PARTIAL","sysId":"91000000000000000000000000000000","inputIndices":[0]},
  {"sysId":"Unknown","errors":[{"error":"ABANDONED","message":"While processing relations encountered errors"}],"inputIndices":[1]}]}}');
-- the same pair twice is one relationship
SELECT pg_temp.told(pg_temp.links(ARRAY[[1, 2], [1, 2]]), 200, '{"result":{"items":[],"relations":[{"operation":"INSERT","sysId":"91000000000000000000000000000000","inputIndices":[0,1]}]}}');

---- An application, its profiles and their relationships in one payload ----

-- Application a: itself, two profiles, their relationships; it_service 1 is there already. Items are numbered a * 10 + 1 to a * 10 + 7.
CREATE FUNCTION pg_temp.bundle(a int, fields jsonb DEFAULT '{}') RETURNS SETOF json LANGUAGE sql AS $$
    SELECT (x || jsonb_build_object('item_id', a * 10 + n, 'bundle', a) || CASE WHEN x ->> 'entity_type' = 'application' THEN fields ELSE '{}' END)::json FROM (
        SELECT 1 AS n, jsonb_build_object('entity_type', 'application', 'action', 'CREATE', 'native_key', 'application/' || a, 'external_table', 'cmdb_ci_business_app',
                                          'payload', jsonb_build_object('name', 'App ' || a)::text) AS x
        UNION ALL
        SELECT 1 + d, jsonb_build_object('entity_type', 'deployment_profile', 'action', 'CREATE', 'native_key', 'deployment_profile/' || a || d, 'external_table', 'cmdb_ci_service_auto',
                                         'payload', jsonb_build_object('name', 'App ' || a || ' - ' || d)::text) FROM generate_series(1, 2) AS d
        UNION ALL
        SELECT 3 + d, jsonb_build_object('entity_type', 'consumes', 'action', 'CREATE', 'parent_native_key', 'application/' || a, 'child_native_key', 'deployment_profile/' || a || d,
                                         'rel_type', 'Consumes::Consumed by') FROM generate_series(1, 2) AS d
        UNION ALL
        SELECT 5 + d, jsonb_build_object('entity_type', 'depends_on', 'action', 'CREATE', 'parent_native_key', 'deployment_profile/' || a || d, 'child_native_key', 'it_service/1',
                                         'child_external_id', pg_temp.id(1), 'child_table', 'cmdb_ci_service_technical', 'rel_type', 'Depends on::Used by') FROM generate_series(1, 2) AS d) AS y
    ORDER BY n
$$;
CREATE FUNCTION pg_temp.bundles(n int) RETURNS json LANGUAGE sql AS $$
    SELECT json_agg(b) FROM generate_series(1, n) AS a, pg_temp.bundle(a) AS b
$$;
-- className and key or id of each item; parent > child of each relation
CREATE FUNCTION pg_temp.drawn(body json) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT n - 1 || ' ' || (i ->> 'className') || ' ' || coalesce(i #>> '{sys_object_source_info,source_native_key}', '') || ' ' || coalesce(left(i #>> '{values,sys_id}', 8), '') ||
           CASE WHEN i #> '{values,name}' IS NULL THEN ' reference' ELSE '' END
      FROM json_array_elements(body -> 'items') WITH ORDINALITY AS r(i, n)
    UNION ALL
    SELECT (r ->> 'parent') || ' > ' || (r ->> 'child') || ' ' || (r ->> 'type') FROM json_array_elements(body -> 'relations') AS r
$$;
SELECT nused, pg_temp.drawn(body) FROM pgsync_itsm.adapter_build('servicenow', '{}', pg_temp.bundles(2));
-- an end that is written in the same payload stands there once, also when it comes after its relationship
SELECT nused, pg_temp.drawn(body) FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(x) FROM (
    SELECT * FROM pg_temp.bundle(1)
    UNION ALL SELECT json_build_object('item_id', 90, 'entity_type', 'it_service', 'action', 'UPDATE', 'native_key', 'it_service/1', 'external_id', pg_temp.id(1),
                                       'external_table', 'cmdb_ci_service_technical', 'payload', '{"name":"Mail"}')) AS y(x)));
-- so does one that is written by its key alone, though its relationships know its id
SELECT nused, pg_temp.drawn(body) FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(x) FROM (
    SELECT json_build_object('item_id', 9, 'entity_type', 'it_service', 'action', 'UPDATE', 'native_key', 'it_service/1', 'external_table', 'cmdb_ci_service_technical',
                             'payload', '{"name":"Mail"}') AS x
    UNION ALL SELECT * FROM pg_temp.bundle(1)) AS y));
-- cut where a bundle ends: by number (7 CIs: two bundles of 3 and their service), by bytes; a bundle alone is cut where it must be
SELECT n, b.nused, json_array_length(b.body -> 'items') AS items, json_array_length(b.body -> 'relations') AS relations
  FROM generate_series(1, 10) AS n, pgsync_itsm.adapter_build('servicenow', json_build_object('batch_items', n), pg_temp.bundles(4)) AS b ORDER BY n;
SELECT b.nused, octet_length(b.body::text) <= 4500 AS fits, octet_length(b.body::text) > 2000 AS filled
  FROM pgsync_itsm.adapter_build('servicenow', '{"batch_bytes":"4500"}', pg_temp.bundles(10)) AS b;
SELECT b.nused, json_array_length(b.body -> 'items') FROM pgsync_itsm.adapter_build('servicenow', '{}', pg_temp.bundles(200)) AS b;
-- every relation points into the payload, and the limits hold, wherever the cut falls
SELECT count(*), bool_and(b.nused >= 1 AND json_array_length(b.body -> 'items') <= greatest(n, 3)),
       bool_and((SELECT coalesce(bool_and((r ->> 'parent')::int < json_array_length(b.body -> 'items') AND (r ->> 'child')::int < json_array_length(b.body -> 'items')
                                          AND r ->> 'parent' <> r ->> 'child'), true) FROM json_array_elements(b.body -> 'relations') AS r))
  FROM generate_series(1, 60) AS n, pgsync_itsm.adapter_build('servicenow', json_build_object('batch_items', n), pg_temp.bundles(30)) AS b WHERE b.method = 'POST';
-- an end that is neither known nor among the items: what comes before it travels, and it does not travel first either
SELECT nused, pg_temp.drawn(body) FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(b) FROM pg_temp.bundle(1) WITH ORDINALITY AS x(b, n) WHERE n IN (1, 2, 4, 5, 6)));
SELECT nused, method FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(b) FROM pg_temp.bundle(1) WITH ORDINALITY AS x(b, n) WHERE n = 5));
SELECT pg_temp.told((SELECT json_agg(b)::text FROM pg_temp.bundle(1) WITH ORDINALITY AS x(b, n) WHERE n = 5), 200, '{}');
-- an item that must not be sent: its relationships wait for what becomes of it
\set through '{"result":{"items":[{"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0]},{"operation":"INSERT","sysId":"12000000000000000000000000000000","inputIndices":[1]},{"operation":"UPDATE","sysId":"1","inputIndices":[2]}],"relations":[{"operation":"INSERT","sysId":"91000000000000000000000000000000","inputIndices":[0]},{"operation":"NO_CHANGE","sysId":"92000000000000000000000000000000","inputIndices":[1]}]}}'
SELECT nused, pg_temp.drawn(body) FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(b) FROM pg_temp.bundle(1, '{"payload":"no json"}') AS b));
SELECT pg_temp.told((SELECT json_agg(b)::text FROM pg_temp.bundle(1, '{"payload":"no json"}') AS b), 200, :'through');
-- read back: any order
SELECT pg_temp.told(pg_temp.bundles(1)::text, 200, '{"result":{"items":[
  {"operation":"INSERT","className":"cmdb_ci_service_auto","sysId":"13000000000000000000000000000000","inputIndices":[2]},
  {"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0],"identificationAttempts":[{"info":"x"}]},
  {"operation":"UPDATE","sysId":"10000000000000000000000000000000","inputIndices":[3]},
  {"operation":"UPDATE","sysId":"12000000000000000000000000000000","inputIndices":[1]}],"relations":[
  {"operation":"NO_CHANGE","sysId":"94000000000000000000000000000000","inputIndices":[3]},
  {"operation":"INSERT","sysId":"91000000000000000000000000000000","inputIndices":[0]},
  {"operation":"INSERT","sysId":"92000000000000000000000000000000","inputIndices":[1]}]}}');
-- a profile that failed takes its relationships along, for now or for good; the service that is gone there is the error of the other's
SELECT e.code, pg_temp.told(pg_temp.bundles(1)::text, 200, replace('{"result":{"items":[
  {"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0]},
  {"sysId":"Unknown","errors":[{"error":"CODE","message":"m"}],"inputIndices":[1]},
  {"operation":"INSERT","sysId":"13000000000000000000000000000000","inputIndices":[2]},
  {"sysId":"Unknown","errors":[{"error":"INVALID_INPUT_DATA","message":"Found invalid sys_id in payload"}],"inputIndices":[3]}],"relations":[
  {"sysId":"Unknown","errors":[{"error":"ABANDONED","message":"m"}],"inputIndices":[0,2,3]},
  {"operation":"INSERT","sysId":"92000000000000000000000000000000","inputIndices":[1]}]}}', 'CODE', e.code))
  FROM unnest(ARRAY['LOCK_TIMEOUT', 'REQUIRED_ATTRIBUTE_EMPTY']) AS e(code);
-- a profile that the platform took for another one's CI has none of its relationships
SELECT pg_temp.told(pg_temp.bundles(1)::text, 200, '{"result":{"items":[
  {"operation":"INSERT","sysId":"11000000000000000000000000000000","inputIndices":[0]},
  {"operation":"INSERT","sysId":"12000000000000000000000000000000","inputIndices":[1,2]},
  {"operation":"UPDATE","sysId":"10000000000000000000000000000000","inputIndices":[3]}],"relations":[
  {"operation":"INSERT","sysId":"91000000000000000000000000000000","inputIndices":[0,1]},{"operation":"INSERT","sysId":"92000000000000000000000000000000","inputIndices":[2,3]}]}}');
-- what went well leaves little in the log, what is odd more, what failed all that fits
SELECT item_id, excerpt FROM pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.bundles(1), 200, NULL, convert_to('{"result":{"items":[
  {"operation":"INSERT","className":"c","sysId":"11000000000000000000000000000000","inputIndices":[0],"identificationAttempts":[{"info":"x"}],"errors":[],"warnings":[]},
  {"operation":"UPDATE","sysId":"12000000000000000000000000000000","inputIndices":[1],"identificationAttempts":[{"info":"x"}],"maskedAttributes":["name"],"warnings":[{"error":"W","message":"odd"}]},
  {"sysId":"Unknown","inputIndices":[2],"identificationAttempts":[{"info":"x"}],"errors":[{"error":"MULTI_MATCH","message":"m"}]}],"relations":[
  {"operation":"INSERT","className":"cmdb_rel_ci","sysId":"91000000000000000000000000000000","identifierEntrySysId":"Unknown","inputIndices":[0]},
  {"operation":"INSERT_AS_PARTIAL","sysId":"92000000000000000000000000000000","inputIndices":[2]}]}}', 'UTF8'));
-- in_doubt means nothing there: it is repeated
SELECT nused, method, api FROM pgsync_itsm.adapter_build('servicenow', '{}', (SELECT json_agg(b::jsonb || '{"in_doubt":true}') FROM pg_temp.bundle(1) AS b));

---- Reading: the answer as a whole ----

SELECT s.*, a.verdict, a.outcome, a.error_class, a.message
  FROM (VALUES
    (1, 0, NULL, ''),
    (2, 401, 'application/json', '{"error":{"message":"User Not Authenticated","detail":"Required to provide Auth information"},"status":"failure"}'),
    (3, 403, 'application/json', '{"error":{"message":"User Not Authorized","detail":"Failed API level ACL Validation"},"status":"failure"}'),
    (4, 429, 'application/json', '{"error":{"message":"Rate limit exceeded","detail":null},"status":"failure"}'),
    (5, 502, 'text/html', '<html>Bad Gateway</html>'),
    (6, 503, NULL, ''),
    (7, 504, NULL, ''),
    (8, 202, 'text/html', ''),
    (9, 302, 'text/html', '<html>'),
    (10, 200, 'text/html', '<!DOCTYPE html><title>Your instance is hibernating</title>'),
    (11, 200, 'text/html;charset=UTF-8', '<html>sign in</html>'),
    (12, 200, 'application/json', '  <html>'),
    (13, 200, 'application/json', ''),
    (14, 200, 'application/json', '{"result":{"items":[{"operation":"INSERT"'),
    (15, 200, 'application/json', '{"result":{"items":[]} Transaction cancelled: maximum execution time exceeded'),
    (16, 200, 'application/json', '{"result":{"items":[]},"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":""}}'),
    (17, 200, 'application/json', '{"error":{"message":"odd","detail":"thing"}}'),
    (18, 200, 'application/json', 'nonsense'),
    (19, 200, 'application/json', '[]'),
    (20, 200, 'application/json', '42'),
    (21, 500, 'application/json', '{"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":null},"status":"failure"}'),
    (22, 500, 'application/json', '{"error":{"message":"Chunk [x] is not a valid entry","detail":null},"status":"failure"}'),
    (23, 500, 'text/plain', 'java.lang.NullPointerException'),
    (24, 400, 'application/json', '{"error":{"message":"Exception while reading request","detail":"Unexpected character"},"status":"failure"}'),
    (25, 404, 'application/json', '{"error":{"message":"Requested URI does not represent any resource","detail":null},"status":"failure"}'),
    (26, 413, NULL, ''),
    (27, 415, 'application/json', '{"error":"unsupported"}'),
    (28, 408, NULL, '')) AS s(n, status, content_type, body),
       pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.apps(1), s.status, s.content_type, convert_to(s.body, 'UTF8')) AS a
 ORDER BY s.n;
-- bytes that are no text, and depth without end
SELECT n, pg_temp.told(pg_temp.apps(1)::text, 200, body)
  FROM (VALUES (1, '\x7b22726573756c74223a2200227d'::bytea), (2, convert_to('{"result":"', 'UTF8') || '\xfffe' || '"}'), (3, '\xc3'),
               (4, convert_to('{"result":' || repeat('[', 65) || repeat(']', 65) || '}', 'UTF8')),
               (5, convert_to('{"result":' || repeat('{"a":', 1000) || '1' || repeat('}', 1001), 'UTF8')),
               (6, convert_to(repeat('[', 1000000), 'UTF8'))) AS b(n, body) ORDER BY n;
SELECT pg_temp.ci('{"operation":"INSERT",' || :'ok' || ',"info":[{"message":"a\u0000b"}],"className":"\u0000x y"}');

---- Reading: a Batch ----

\set rec '{"result":{"sys_id":"ac000000000000000000000000000000","name":"Acme","vendor":"true","number":"N1"}}'
-- statuses of a creation, a change and a removal
SELECT s.status, pg_temp.told('[' || concat_ws(',', :'company', :'clear', :'unlink') || ']', 200, pg_temp.served(s.status, NULL, s.body, s.status, NULL, s.body, s.status, NULL, s.body))
  FROM (VALUES (1, '400', '{"error":{"message":"Invalid table x","detail":null},"status":"failure"}'),
               (2, '401', '{"error":{"message":"User Not Authenticated","detail":""},"status":"failure"}'),
               (3, '403', '{"error":{"message":"Operation Failed","detail":"ACL Exception Insert Failed due to security constraints"},"status":"failure"}'),
               (4, '403', '{"error":{"message":"Operation Failed","detail":"Operation against file ''core_company'' was aborted by Business Rule ''x^1''"},"status":"failure"}'),
               (5, '404', '{"error":{"message":"No Record found","detail":"Record doesn''t exist or ACL restricts the record retrieval"},"status":"failure"}'),
               (6, '429', '{"error":{"message":"Rate limit exceeded","detail":"Rate limit of 100 requests per hour for Table API exceeded"},"status":"failure"}'),
               (7, '429', ''), (8, '500', '{"error":{"message":"x"}}'), (9, '503', ''), (10, '202', '')) AS s(n, status, body) ORDER BY n;
SELECT pg_temp.told('[' || concat_ws(',', :'company', :'clear', :'unlink') || ']', 200, pg_temp.served('201', NULL, :'rec',
    '200', NULL, '{"result":{"sys_id":"4f000000000000000000000000000000","sys_class_name":"cmdb_ci_business_app","comments":""}}', '204', NULL, ''));
-- a refused creation is looked for first, but not for ever
SELECT a, pg_temp.told('[' || replace(:'company', '"action"', '"attempts":' || a || ',"action"') || ']', 200,
    pg_temp.served('403', NULL, '{"error":{"message":"Operation Failed","detail":"ACL Exception Insert Failed due to security constraints"}}')) FROM unnest(ARRAY[1, 4, 5]) AS a;
-- what rules count the parts, and how long they hold one back
CREATE FUNCTION pg_temp.counted(VARIADIC headers json[]) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to(json_build_object('serviced_requests', json_agg(json_build_object('id', (n - 1)::text, 'status_code', coalesce((headers[n] ->> 'status')::int, 200), 'body', '',
        'headers', (SELECT json_agg(json_build_object('name', h.key, 'value', h.value)) FROM json_each_text(headers[n]) AS h WHERE h.key <> 'status'))))::text, 'UTF8')
      FROM generate_subscripts(headers, 1) AS n
$$;
\set four '[{"item_id":1,"entity_type":"company","action":"CREATE","payload":{}},{"item_id":2,"entity_type":"company","action":"CREATE","payload":{}},{"item_id":3,"entity_type":"company","action":"CREATE","payload":{}},{"item_id":4,"entity_type":"company","action":"CREATE","payload":{}}]'
\set rule1 '{"X-RateLimit-Rule":"r1","x-ratelimit-limit":"100","X-RateLimit-Reset":"1790000000"}'
\set rule2 '{"status":"429","X-RateLimit-Rule":"r2","X-RateLimit-Limit":"60","X-RateLimit-Reset":"1790003600","Retry-After":"120"}'
SELECT * FROM pgsync_itsm.adapter_rates('servicenow', '{}', :'four', 200, NULL, pg_temp.counted(:'rule1', :'rule2', :'rule1', '{}'));
SELECT * FROM pgsync_itsm.adapter_rates('servicenow', '{}', :'four', 200, NULL, pg_temp.counted('{"X-RateLimit-Limit":"5"}', '{"X-RateLimit-Rule":"r","X-RateLimit-Limit":"many","X-RateLimit-Reset":""}', '{"X-RateLimit-Rule":{}}', '{}'));
SELECT count(*) FROM pgsync_itsm.adapter_rates('servicenow', '{}', (SELECT json_agg(:'company'::json) FROM generate_series(1, 9)), 200, NULL,
    (SELECT pg_temp.counted(VARIADIC array_agg(json_build_object('X-RateLimit-Rule', 'r' || i))) FROM generate_series(1, 9) AS i));
SELECT item_id, outcome, error_class, retry_after_s FROM pgsync_itsm.adapter_read('servicenow', '{}', :'four', 200, NULL, pg_temp.counted(:'rule1', :'rule2', '{"status":"429"}', '{"status":"429","Retry-After":"99999999"}'));
SELECT DISTINCT body #>> '{rest_requests,0,exclude_response_headers}' FROM unnest(ARRAY[:'company', :'clear', :'unlink']) AS i, pgsync_itsm.adapter_build('servicenow', '{}', ('[' || i || ']')::json);
-- some not served: again at no cost; none served: that counts; not mentioned
SELECT pg_temp.told('[' || concat_ws(',', :'company', :'company', :'company') || ']', 200, pg_temp.served('201', NULL, :'rec', '0', NULL, NULL, NULL, NULL, NULL));
SELECT pg_temp.told('[' || concat_ws(',', :'company', :'company') || ']', 200, pg_temp.served('0', NULL, NULL, '0', NULL, NULL));
-- sent and taken
SELECT t.sent, t.got, pg_temp.told('[{"item_id":1,"entity_type":"contract","action":"UPDATE","external_id":"51000000000000000000000000000000","payload":' ||
        json_build_object('f', t.sent, '_is_internal', 'false') || '}]', 200, pg_temp.served('200', NULL, '{"result":{"sys_id":"51000000000000000000000000000000"' || t.got || '}}'))
  FROM (VALUES (1, 'a', ',"f":"a"'), (2, 'a', ''), (3, 'a', ',"f":""'), (4, 'abcdef', ',"f":"abc"'), (5, 'a', ',"f":"b"'), (6, 'a', ',"f":null'),
               (7, 'ac000000000000000000000000000000', ',"f":{"link":"https://x/y","value":"ac000000000000000000000000000000"}'),
               (8, 'AC000000000000000000000000000000', ',"f":{"display_value":"Acme","value":"ac000000000000000000000000000000"}'),
               (9, '2027-01-31', ',"f":"2027-01-31 00:00:00"'), (10, '2027-01-31', ',"f":"2026-01-31"'), (11, '12.50', ',"f":"12.5"'), (12, 'USD;12.50', ',"f":"12.5"'),
               (13, 'USD;12.50', ',"f":"EUR;13"'), (14, E'a\r\nb ', ',"f":"a\nb"'), (15, 'A', ',"f":"a"'), (16, '7', ',"f":7'), (17, '', ',"f":"kept"'), (18, 'a', ',"f":["a"]')) AS t(n, sent, got)
 ORDER BY n;
-- created, but the answer shows no record: look first
SELECT pg_temp.told('[' || :'company' || ']', 200, pg_temp.served('201', NULL, ''));
SELECT pg_temp.told('[' || :'company' || ']', 200, pg_temp.served('201', NULL, '{"result":{}}'));
SELECT pg_temp.told('[' || :'company' || ']', 200, pg_temp.served('201', NULL, '<html>'));
SELECT n, pg_temp.told('[' || :'company' || ']', 200, convert_to(body, 'UTF8'))
  FROM (VALUES (1, '{"serviced_requests":[{"id":0,"status_code":"201","body":"eyJyZXN1bHQiOnsic3lzX2lkIjoiYWMwMDAwMDAwMDAwMDAw\nMDAwMDAwMDAwMDAwMDAwMDAiLCJuYW1lIjoiQWNtZSIsInZlbmRvciI6InRydWUifX0="}]}'),
               (2, '{"serviced_requests":[{"id":"0","status_code":201,"body":"***"}]}'), (3, '{"serviced_requests":[{"id":"7","status_code":201}]}'),
               (4, '{"serviced_requests":{},"unserviced_requests":"0"}'), (5, '{"serviced_requests":[{"id":"0","status_code":{}}]}'), (6, '{}')) AS b(n, body) ORDER BY n;

---- Reading: is it there? ----

\set doubt '[{"item_id":10,"entity_type":"company","action":"CREATE","in_doubt":true,"payload":{"name":"Acme","vendor":"true"}}]'
SELECT pg_temp.told(:'doubt', 200, pg_temp.served('200', t.total, '{"result":[' || t.rows || ']}'))
  FROM (VALUES (1, '0', ''),
               (2, '1', '{"sys_id":"ac000000000000000000000000000000","name":"ACME ","vendor":"true","sys_created_on":"2026-01-01 00:00:00"}'),
               (3, '2', '{"sys_id":"ac000000000000000000000000000000","name":"Acme","vendor":"false"},{"sys_id":"bd000000000000000000000000000000","name":"acme","vendor":"true"}'),
               (4, '1', '{"sys_id":"ac000000000000000000000000000000","name":"Somebody else"}'),
               (5, '1', ''),
               (6, NULL, '')) AS t(n, total, rows) ORDER BY n;
SELECT pg_temp.told(:'doubt', 200, pg_temp.served('200', NULL, (SELECT json_build_object('result', json_agg(json_build_object('name', 'x', 'sys_id', 'y'))) FROM generate_series(1, 500))::text));
SELECT pg_temp.told(:'doubt', 200, pg_temp.served(s, NULL, '{"error":{"message":"m","detail":"d"}}')) FROM unnest(ARRAY['403', '429', '500', '0']) AS s;
SELECT pg_temp.told(:'doubt', 200, pg_temp.served('200', NULL, '{"result":{}}'));
SELECT pg_temp.told('[{"item_id":18,"entity_type":"contact","action":"CREATE","in_doubt":true,"payload":{"last_name":"nobody"}}]', 200, 'unused');
SELECT pg_temp.told(replace('[' || :'contract' || ']', '"action"', '"in_doubt":true,"action"'), 200, pg_temp.served('200', '2', '{"result":[
  {"sys_id":"50000000000000000000000000000000","vendor_contract":"C-118","vendor":""},
  {"sys_id":"51000000000000000000000000000000","vendor_contract":"c-118","vendor":{"link":"l","value":"ac000000000000000000000000000000"},"number":"CNTR0010001","sys_class_name":"ast_lease"}]}'));
SELECT pg_temp.told(pg_temp.links(ARRAY[[1, 2]], '{"in_doubt":true}'), 200, pg_temp.served('200', '1', json_build_object('result', json_build_array(json_build_object(
    'sys_id', pg_temp.id(7), 'parent', pg_temp.id(1), 'child', pg_temp.id(2), 'type', pg_temp.id(9))))::text), '{"write_api":"instance"}');

---- Reading: one call each ----

\set instance '{"write_api":"instance"}'
SELECT n, pg_temp.told('[' || :'app' || ']', status, body, :'instance')
  FROM (VALUES
    (1, 200, '{"result":{"attributes":{"name":"LegalEdge \"™\"","short_description":"a\nb","sys_class_name":"cmdb_ci_business_app","sys_id":"4f000000000000000000000000000000","number":"APM1","sys_mod_count":"0"},"outbound_relations":[]}}'),
    (2, 201, '{"result":{"attributes":{"name":"LegalEdge \"™\"","short_description":{"display_value":"x","value":"x"},"sys_id":"4f000000000000000000000000000000","sys_mod_count":"3"}}}'),
    (2, 200, '{"result":{"attributes":{"name":"LegalEdge \"™\"","short_description":{"display_value":"x","value":"x"},"sys_id":"4f000000000000000000000000000000"}}}'),
    (3, 200, '{"result":{"items":[{"sysId":"Unknown","identifierEntrySysId":"Unknown","identificationAttempts":[],"errors":[{"error":"INVALID_INPUT_DATA","message":"In payload invalid data source [Foo] exist…"}]}]}}'),
    (4, 400, '{"result":{"items":[{"sysId":"Unknown","errors":[{"error":"LOCK_TIMEOUT","message":"x"}]}]}}'),
    (5, 400, '{"error":{"message":"Invalid table x","detail":null},"status":"failure"}'),
    (6, 403, '{"error":{"message":"User Not Authorized","detail":"Failed API level ACL Validation"},"status":"failure"}'),
    (7, 403, '{"error":{"message":"Operation Failed","detail":"was aborted by Business Rule ''x''"},"status":"failure"}'),
    (8, 401, '{"error":{"message":"User Not Authenticated","detail":""},"status":"failure"}'),
    (9, 503, ''), (10, 200, '{"result":{}}'), (11, 200, '')) AS t(n, status, body) ORDER BY n;
SELECT pg_temp.told('[' || :'upd' || ']', 200, '{"result":{"attributes":{"name":"LegalEdge - Prod","comments":"","sys_id":"77fe0000000000000000000000000000","sys_class_name":"cmdb_ci_service_discovered","sys_mod_count":"9"}}}', :'instance');
SELECT s, pg_temp.told('[' || :'unlink' || ']', s, CASE s WHEN 204 THEN '' ELSE '{"error":{"message":"No Record found"}}' END, :'instance') FROM unnest(ARRAY[204, 404, 403]) AS s;
-- records are deleted in a rollback only: through the Table API of their class, whatever the writing goes through
\set remove '{"item_id":17,"entity_type":"application","action":"DELETE","native_key":"application/1","external_id":"4f000000000000000000000000000000","external_table":"cmdb_ci_business_app","payload":"{\\"name\\":\\"not sent\\"}"}'
SELECT w.write_api, b.method, p.method AS part, coalesce(p.url, b.path) AS url, p.content, b.nused, b.writes, b.api
  FROM unnest(ARRAY['ire', 'instance']) WITH ORDINALITY AS w(write_api, n),
       pgsync_itsm.adapter_build('servicenow', json_build_object('write_api', w.write_api), ('[' || concat_ws(',', :'remove', replace(replace(replace(:'remove', 'application', 'company'), 'cmdb_ci_business_app', 'core_company'), '17', '18')) || ']')::json) AS b
  LEFT JOIN pg_temp.parts(b.body) AS p ON true ORDER BY w.n, p.id;
SELECT s, pg_temp.told('[' || :'remove' || ']', s::int, CASE s WHEN '204' THEN '' ELSE '{"error":{"message":"No Record found"}}' END, :'instance') FROM unnest(ARRAY['204', '404', '403', '500']) AS s;
SELECT s, pg_temp.told('[' || :'remove' || ']', 200, pg_temp.served(s, NULL, CASE s WHEN '204' THEN '' ELSE '{"error":{"message":"m"}}' END)) FROM unnest(ARRAY['204', '404', '403', '500']) AS s;
SELECT pg_temp.told('[' || replace(:'remove', '"external_id"', '"x"') || ']', 200, pg_temp.served('204', NULL, ''));
SELECT pg_temp.told('[' || :'company' || ']', 201, :'rec', :'instance');

---- Look-ups: asking ----

SELECT l.kind, p.url
  FROM (VALUES (1, '{"kind":"user","keys":["ada@example.org","o,b@x"]}'), (2, '{"kind":"group","keys":["CAB, 1"]}'), (3, '{"kind":"company","keys":["Acme","Smith ^ Sons","javascript:gs.log(1)","^","",""]}'),
               (4, '{"kind":"contract_model","keys":["Maintenance"]}'), (5, '{"kind":"relation_type","keys":["Runs on::Runs"]}'),
               (6, '{"kind":"choice","target":"cmdb_ci_service_discovered","keys":["environment","install_status"]}'), (7, '{"kind":"choice","target":"cmdb_ci_business_app","keys":[]}'),
               (8, '{"kind":"life_cycle","target":"life_cycle_stage","keys":["Operational"]}'), (9, '{"kind":"life_cycle_control","target":"cmdb_ci_spkg","keys":[""]}'),
               (10, '{"kind":"column","target":"cmdb_ci_business_app","keys":[""]}'), (11, '{"kind":"column","target":"service_offering","keys":[""]}'),
               (12, '{"kind":"column","target":"cmdb_software_product_model","keys":[""]}'), (13, '{"kind":"column","target":"ast_contract","keys":[""]}'),
               (14, '{"kind":"native_key","keys":["application/1","application/2"]}'), (15, '{"kind":"correlation","target":"cmdb_ci_business_app","keys":["u1"],"fields":["duplicate_of"]}'),
               (16, '{"kind":"name","target":"cmdb_ci_service_auto","keys":["A & B = C"],"fields":["number","name"]}'), (17, '{"kind":"model","target":"cmdb_software_product_model","keys":["Office"]}'),
               (18, '{"kind":"contract","keys":["C-1"],"fields":["number"]}'), (19, '{"kind":"record","target":"cmdb_ci_business_app","keys":["4f000000000000000000000000000000","no id"],"fields":["name","comments"]}'),
               (20, '{"kind":"relation","keys":["10000000000000000000000000000000/20000000000000000000000000000000/90000000000000000000000000000000","30000000000000000000000000000000","junk","a/b/c"]}'),
               (21, '{"kind":"data_source","keys":["GetInSync"]}'), (22, '{"kind":"instance","keys":[""]}'), (23, '{"kind":"no such kind","keys":["a"]}'), (24, '{"kind":"name","keys":["a"]}'),
               (25, '{"kind":"role","keys":[""]}'), (26, '{"kind":"others_parent","keys":["10000000000000000000000000000000","junk"]}'), (27, '{"kind":"others_child","keys":["10000000000000000000000000000000"]}'),
               (28, '{"kind":"others_contract","keys":["10000000000000000000000000000000"]}'), (29, '{"kind":"others_covered","keys":["10000000000000000000000000000000","20000000000000000000000000000000"]}'),
               (30, '{"kind":"others_vendor","keys":["10000000000000000000000000000000"]}'), (31, '{"kind":"others_maker","keys":["10000000000000000000000000000000"]}'),
               (32, '{"kind":"others_product","keys":["10000000000000000000000000000000"]}'), (33, '{"kind":"others_supplier","keys":["10000000000000000000000000000000"]}'),
               (34, '{"kind":"others_model","keys":["10000000000000000000000000000000"]}'),
               (35, '{"kind":"others_owner","keys":["10000000000000000000000000000000","20000000000000000000000000000000"]}'),
               (36, '{"kind":"others_keeper","keys":["10000000000000000000000000000000"]}'),
               (37, '{"kind":"others_member","keys":["10000000000000000000000000000000"]}'),
               (38, '{"kind":"others_task","keys":["10000000000000000000000000000000"]}')) AS v(n, lookup),
       json_to_record(v.lookup::json) AS l(kind text),
       pgsync_itsm.adapter_build_lookup('servicenow', '{"source_name":"GetInSync"}', ('[' || v.lookup || ']')::json) AS b
  LEFT JOIN pg_temp.parts(b.body) AS p ON true
 ORDER BY v.n, p.id;
SELECT method, path, nused, writes, subrequests FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind":"user","keys":["a"]}]');
-- long lists are split so that no URL is too long, and a request holds about a hundred parts
SELECT nused, subrequests, (SELECT max(length(r ->> 'url')) < 8500 FROM json_array_elements(body -> 'rest_requests') AS r)
  FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', (SELECT json_agg(json_build_object('kind', k.kind, 'target', 'cmdb_ci_service', 'keys', (
       SELECT json_agg(repeat('é ^', k.special) || repeat('ü', 60) || i) FROM generate_series(1, k.n) AS i)) ORDER BY k.n)
  FROM (VALUES ('name', 200, 0), ('user', 201, 0), ('name', 50, 1), ('name', 60, 1)) AS k(kind, n, special)));
SELECT nused, subrequests, (SELECT max(length(r ->> 'url')) < 8500 FROM json_array_elements(body -> 'rest_requests') AS r)
  FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', (SELECT json_build_array(json_build_object('kind', 'record', 'target', 'cmdb_ci', 'keys', json_agg(pg_temp.id(i))),
       json_build_object('kind', 'relation', 'keys', json_agg(pg_temp.id(i) || '/' || pg_temp.id(i + 1) || '/' || pg_temp.id(9))),
       json_build_object('kind', 'relation', 'keys', json_agg(pg_temp.id(i))), json_build_object('kind', 'company', 'keys', json_build_array(repeat('x', 100000)))) FROM generate_series(1, 200) AS i));

-- so many keys in a request that the answer stays small: 100 a look-up, plain kinds and wide ones
SELECT k.kind, k.fields, b.nused
  FROM (VALUES (1, 'native_key', 0), (2, 'name', 1), (3, 'name', 20), (4, 'record', 3)) AS k(n, kind, fields),
       pgsync_itsm.adapter_build_lookup('servicenow', '{}', (SELECT json_agg(json_build_object('lookup_id', g, 'kind', k.kind, 'target', 'cmdb_ci_service',
           'fields', (SELECT coalesce(json_agg('f' || f), '[]') FROM generate_series(1, k.fields) AS f), 'keys', (SELECT json_agg(pg_temp.id(i)) FROM generate_series(1, 100) AS i)))
           FROM generate_series(1, 50) AS g)) AS b ORDER BY k.n;
SELECT nused FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', (SELECT json_build_array(json_build_object('kind', 'record', 'target', 'cmdb_ci', 'keys', json_agg(pg_temp.id(i)))) FROM generate_series(1, 5000) AS i));

---- Look-ups: reading ----

CREATE FUNCTION pg_temp.rows(lookup text, rows text, total text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT * FROM pg_temp.found('[' || lookup || ']', 200, pg_temp.served('200', total, '{"result":' || rows || '}'))
$$;
-- only rows that answer a key count, whatever the platform made of the query; keys come back as they were asked
SELECT pg_temp.rows('{"kind":"user","keys":["ADA@example.org","ada","nobody@example.org"]}', '[{"sys_id":"68","name":"Ada Byron","email":"ada@example.org","user_name":"ada"},
  {"sys_id":"69","name":"Other","email":"other@example.org","user_name":"other"},{"sys_id":"71","name":"Gone","email":"ada@example.org","active":"false"},{"sys_id":"70","name":"Twin","email":"Ada@Example.org","user_name":"twin"}]');
SELECT pg_temp.rows('{"kind":"company","keys":["straße ÄÖÜ","ЖУК","ΑΒΓ"]}', '[{"sys_id":"1","name":"STRAßE äöü","vendor":"true"},{"sys_id":"2","name":"Жук  "},{"sys_id":"3","name":"αβγ"},{"sys_id":"4","name":"strasse äöü"}]');
SELECT pg_temp.rows('{"kind":"correlation","target":"cmdb_ci_service","keys":["u1"],"fields":["duplicate_of","hidden"]}',
  '[{"sys_id":"1","sys_class_name":"cmdb_ci_service_discovered","name":"A","correlation_id":"u1","duplicate_of":{"link":"l","value":"2"}}]');
SELECT pg_temp.rows('{"kind":"native_key","keys":["application/1"]}', '[{"name":"Other","id":"application/1","target_sys_id":"5f","target_table":"x"},{"id":"application/1","target_sys_id":"4f","target_table":"cmdb_ci_business_app"},{"id":"application/1","target_sys_id":""},{"id":"application/1","target_sys_id":"6f","target_table":"no table"}]');
SELECT pg_temp.rows('{"kind":"record","target":"core_company","keys":["4f000000000000000000000000000000"],"fields":["website"]}', '[{"sys_id":"4f000000000000000000000000000000","website":"w"}]', '1');
SELECT pg_temp.rows('{"kind":"choice","target":"cmdb_ci_service_discovered","keys":["environment","operational_status","nothing"]}',
  '[{"name":"cmdb_ci","element":"environment","value":"p","label":"Parent"},{"name":"cmdb_ci_service","element":"environment","value":"","label":"-- None --"},{"name":"cmdb_ci_service","element":"environment","value":"Prod","label":"Production"},
    {"name":"cmdb_ci","element":"operational_status","value":"1","label":"Operational"},{"name":"incident","element":"operational_status","value":"9","label":"Wrong"}]');
SELECT pg_temp.rows('{"kind":"life_cycle_control","target":"cmdb_ci_business_app","keys":[""]}',
  '[{"table":"cmdb_ci_business_app","life_cycle_stage":"s1","life_cycle_stage_status":"t1"},{"table":"cmdb_ci","life_cycle_stage":{"value":"s2"},"life_cycle_stage_status":""},{"table":"incident","life_cycle_stage":"s3"}]');
SELECT pg_temp.rows('{"kind":"column","target":"cmdb_ci_business_app","keys":[""]}',
  '{"attributes":[{"element":"name","type":"string","max_length":"255","is_mandatory":"false","is_read_only":"false"},{"element":"it_application_owner","type":"reference","max_length":32,"is_mandatory":true,"is_read_only":false},{"element":"name","type":"again"}]}');
SELECT pg_temp.rows('{"kind":"column","target":"cmdb_software_product_model","keys":[""]}',
  '[{"name":"cmdb_model","element":"name","internal_type":"string","max_length":"255","mandatory":"false","read_only":"false","reference":""},
    {"name":"cmdb_software_product_model","element":"name","internal_type":{"value":"string"},"max_length":"100","mandatory":"true","read_only":"false","reference":""},{"name":"task","element":"x"}]');
SELECT pg_temp.rows('{"kind":"relation","keys":["10000000000000000000000000000000/20000000000000000000000000000000/90000000000000000000000000000000"]}',
  '[{"sys_id":"7","parent":"10000000000000000000000000000000","child":"20000000000000000000000000000000","type":"90000000000000000000000000000000"},{"sys_id":"8","parent":"10000000000000000000000000000000","child":"30000000000000000000000000000000","type":"90000000000000000000000000000000"}]');
SELECT pg_temp.rows('{"kind":"instance","keys":[""]}', '[{"name":"instance_name","value":"dev1"},{"name":"glide.war","value":"w"}]');
SELECT pg_temp.rows('{"kind":"instance","keys":[""]}', '[]');
-- roles of the user; what others relate to a record
SELECT pg_temp.rows('{"kind":"role","keys":[""]}', '[{"sys_id":"1","role.name":"itil","user.user_name":"sync"},{"sys_id":"2","role.name":""},{"sys_id":"3"}]');
SELECT pg_temp.rows('{"kind":"role","keys":[""]}', '[]');
SELECT pg_temp.rows('{"kind":"others_child","keys":["20000000000000000000000000000000"]}',
    '[{"sys_id":"5f","parent":"10000000000000000000000000000000","child":"20000000000000000000000000000000","parent.name":"Payroll"},{"sys_id":"6f","child":"30000000000000000000000000000000"}]', '2');
SELECT * FROM pg_temp.found('[{"kind":"others_owner","keys":["20000000000000000000000000000000"]}]', 200, pg_temp.served(
    '200', '1', '{"result":[{"sys_id":"5f","name":"Payroll","owned_by":"20000000000000000000000000000000"}]}',
    '200', '1', '{"result":[{"sys_id":"6f","name":"HR","owned_by":"","managed_by":{"value":"20000000000000000000000000000000"}}]}'));
-- nobody is known to refer to it only where the rows are counted, and a record is known to be gone only there
SELECT pg_temp.rows('{"kind":"others_member","keys":["20000000000000000000000000000000"]}', '[]', '0');
SELECT pg_temp.rows('{"kind":"others_member","keys":["20000000000000000000000000000000"]}', '[]');
SELECT pg_temp.rows('{"kind":"record","target":"core_company","keys":["4f000000000000000000000000000000"]}', '[]', '0');
SELECT pg_temp.rows('{"kind":"record","target":"core_company","keys":["4f000000000000000000000000000000"]}', '[]');
SELECT pg_temp.rows('{"kind":"model","target":"cmdb_software_product_model","keys":["office"]}', '[{"sys_id":"1","sys_class_name":"cmdb_software_product_model","name":"Office","version":"365","manufacturer":"ac"}]');
-- rows that are counted and not shown; too many to trust
SELECT pg_temp.rows('{"kind":"others_maker","keys":["20000000000000000000000000000000"]}', '[{"sys_id":"5f","manufacturer":"20000000000000000000000000000000","name":"PC"}]', '2500');
SELECT pg_temp.rows('{"kind":"group","keys":["a"]}', '[{"sys_id":"1","name":"a"}]', '3');
SELECT pg_temp.rows('{"kind":"group","keys":["a"]}', '[{"sys_id":"1","name":"a"}]', '2001');
SELECT pg_temp.rows('{"kind":"group","keys":["a"]}', (SELECT json_agg(json_build_object('sys_id', i, 'name', 'a'))::text FROM generate_series(1, 2000) AS i));
-- refusals: what can be done without, and what cannot
SELECT k, s, pg_temp.found('[{"kind":"' || k || '","target":"cmdb_ci_spkg","keys":["a"]}]', 200, pg_temp.served(s, NULL, '{"error":{"message":"Insufficient rights to query records","detail":null},"status":"failure"}'))
  FROM unnest(ARRAY['user', 'group', 'company', 'name', 'choice', 'column', 'life_cycle', 'native_key', 'data_source']) WITH ORDINALITY AS x(k, n), unnest(ARRAY['403', '400']) AS s
 ORDER BY n, s;
SELECT pg_temp.found('[{"kind":"user","keys":["a"]}]', 200, pg_temp.served('404', NULL, '{"error":{"message":"No Record found","detail":"Records matching query not found. Check query parameter or offset parameter"}}'));
SELECT pg_temp.rows('{"kind":"column","target":"cmdb_ci_spkg","keys":[""]}', '[]');
SELECT s, pg_temp.found('[{"kind":"user","keys":["a"]}]', 200, pg_temp.served(s, NULL, '')) FROM unnest(ARRAY['401', '429', '500', '503', '200', '404']) WITH ORDINALITY AS x(s, n) ORDER BY n;
SELECT pg_temp.found('[{"kind":"user","keys":["a"]},{"kind":"no such kind","keys":["a"]},{"kind":"group","keys":[]}]', 200, pg_temp.served('200', NULL, '{"result":"text"}'));
-- served in part: the look-up goes again whole; the first one, which had all the time there was, at a cost
SELECT pg_temp.found('[{"kind":"user","keys":["a"]},{"kind":"company","keys":["b","c^d"]},{"kind":"group","keys":["g"]}]', 200,
    pg_temp.served('200', NULL, '{"result":[]}', '200', NULL, '{"result":[{"sys_id":"1","name":"c^d"}]}', '0', NULL, NULL, NULL, NULL, NULL));
SELECT pg_temp.found('[{"kind":"user","keys":["a"]},{"kind":"group","keys":["g"]}]', 200, pg_temp.served('0', NULL, NULL, '0', NULL, NULL));
-- the batch as a whole
SELECT s, pg_temp.found('[{"kind":"user","keys":["a"]}]', s, convert_to('{"error":{"message":"m","detail":"d"}}', 'UTF8')) FROM unnest(ARRAY[401, 403, 404, 429, 503]) AS s;
SELECT pg_temp.found('[{"kind":"no such kind","keys":["a"]},{"kind":"name","keys":["a"]},{"kind":"column","keys":[""]}]', 503, '');

---- Pages ----

-- behind the id that was seen last, in the order of ids; a key that is no id asks nothing; three pages a request
SELECT p.url FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind":"page","target":"core_company","keys":[""],"fields":["vendor"]},
    {"kind":"page","target":"core_company","keys":["4f000000000000000000000000000000"],"fields":["vendor"]},{"kind":"page","target":"core_company","keys":["4f^ORname=x"]}]') AS b, pg_temp.parts(b.body) AS p;
SELECT nused FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', (SELECT json_agg(json_build_object('lookup_id', n, 'kind', 'page', 'target', 'cmdb_ci_business_app', 'keys', ARRAY[''])) FROM generate_series(1, 9) AS n));
-- the rows, with their class, and how many there are from here on
SELECT pg_temp.rows('{"kind":"page","target":"cmdb_ci_service_auto","keys":[""],"fields":["version"]}',
    '[{"sys_id":"1a","name":"One","sys_class_name":"cmdb_ci_service_discovered","version":"2"},{"sys_id":"1b","name":"","sys_class_name":"no class"}]', '5');
SELECT pg_temp.rows('{"kind":"page","target":"core_company","keys":[""]}', '[]', '0');
-- without that number nothing is proved; rows that were seen before are no answer
SELECT pg_temp.rows('{"kind":"page","target":"core_company","keys":[""]}', '[{"sys_id":"1a","name":"One"}]');
SELECT pg_temp.rows('{"kind":"page","target":"core_company","keys":["4f000000000000000000000000000000"]}', '[{"sys_id":"4f000000000000000000000000000000","name":"One"}]', '7');
SELECT pg_temp.rows('{"kind":"page","target":"core_company","keys":[""]}', '[{"name":"no id"}]', '1');
-- a table that may not be read is one that nothing is known of
SELECT pg_temp.found('[{"kind":"page","target":"core_company","keys":[""]}]', 200, pg_temp.served('403', NULL, '{"error":{"message":"Insufficient rights to query records","detail":null},"status":"failure"}'));

---- Changes ----

-- what was changed so long ago at the most, behind an id; keys: id, since, limit, offset, filter
SELECT p.url FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind":"changes","target":"core_company","keys":["","","500","0",""],"fields":["vendor"]},
    {"kind":"changes","target":"cmdb_ci_computer","keys":["4f000000000000000000000000000000","@minute@ago@15","99999","40","sys_class_name=cmdb_ci_computer"]}]') AS b, pg_temp.parts(b.body) AS p;
-- what is no such key asks nothing
SELECT n, p.url FROM unnest(ARRAY['["4f^ORname=x","","500","0",""]', '["","","500","0"]', '["",""]']) WITH ORDINALITY AS k(keys, n),
       pgsync_itsm.adapter_build_lookup('servicenow', '{}', ('[{"kind":"changes","target":"core_company","keys":' || k.keys || '}]')::json) AS b LEFT JOIN LATERAL pg_temp.parts(b.body) AS p ON true;
-- the rows with stamp and author, and how many there are from here on; those that were seen before are no answer
SELECT pg_temp.rows('{"kind":"changes","target":"core_company","keys":["4f000000000000000000000000000000","@minute@ago@15","500","0",""],"fields":["vendor"]}',
    '[{"sys_id":"5a","name":"One","vendor":"true","sys_updated_on":"2026-01-31 10:00:00","sys_updated_by":"jane","sys_mod_count":"3"}]', '1');
SELECT pg_temp.rows('{"kind":"changes","target":"core_company","keys":["4f000000000000000000000000000000","@minute@ago@15","500","0",""]}', '[{"sys_id":"4f000000000000000000000000000000","name":"One"}]', '7');
SELECT pg_temp.rows('{"kind":"changes","target":"core_company","keys":["","","500","0",""]}', '[]');

---- Bad calls of ours ----

SELECT * FROM pgsync_itsm.adapter_build('nosuch', '{}', '[]');
SELECT * FROM pgsync_itsm.adapter_build('servicenow', '{}', '[]');
SELECT * FROM pgsync_itsm.adapter_build('servicenow', '{}', '[{}]');
SELECT * FROM pgsync_itsm.adapter_read(NULL, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM pgsync_itsm.adapter_read('servicenow', NULL, NULL, NULL, NULL, NULL);
SELECT * FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '{}');

DROP EXTENSION pgsync_itsm;
