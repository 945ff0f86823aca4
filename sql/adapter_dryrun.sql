-- The engine's dry run, built and read without a platform: the payload is the one that would be sent, the endpoint another.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
\pset format unaligned
\pset tuples_only on
\pset null -
\set documents '[{"entity_type": "application", "class": "cmdb_ci_business_app", "external_id": null, "payload": {"name": "Eins", "_x": "y", "model_id": "never"}}, {"entity_type": "deployment_profile", "class": "cmdb_ci_service_auto", "external_id": "0123456789abcdef0123456789abcdef", "payload": {"name": "Eins - Prod"}}, {"entity_type": "it_service", "class": null, "external_id": null, "payload": {"name": "Zwei"}}]'
\set lookups '[{"lookup_id": 7, "kind": "dry_run", "keys": ["application/1", "deployment_profile/2", "it_service/3"], "documents": ' :documents '}]'
SELECT method, split_part(path, '?', 1) AS path, path LIKE '%sysparm_data_source=GetInSync%' AS source, nused, writes, subrequests, api,
       body -> 'items' -> 0 AS first, body -> 'items' -> 1 AS second, json_array_length(body -> 'items') AS items, body ->> 'relations' AS relations
  FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', :'lookups');
-- by itself, whatever waits behind it; and behind others not at all
SELECT nused, api FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind": "dry_run", "keys": ["a/1"], "documents": [{"class": "cmdb_ci", "payload": {"name": "x"}}]}, {"kind": "user", "keys": ["a@b.c"]}]');
SELECT nused, api FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind": "user", "keys": ["a@b.c"]}, {"kind": "dry_run", "keys": ["a/1"]}]');
-- nothing to ask
SELECT nused, method, api FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind": "dry_run", "keys": []}]');
SELECT nused, method, api FROM pgsync_itsm.adapter_build_lookup('servicenow', '{}', '[{"kind": "dry_run", "keys": ["a/1"]}]');

\set read 'SELECT lookup_id, verdict, outcome, error_class, key, external_id, external_table, label, attrs FROM pgsync_itsm.adapter_read_lookup(''servicenow'', ''{}'', '
-- in an order of its own, by inputIndices; an id of what would be made is nobody's; what must not be sent has a reason of its own
:read :'lookups', 200, 'application/json', '{"result":{"items":[
 {"className":"cmdb_ci_service_discovered","operation":"UPDATE_WITH_UPGRADE","sysId":"0123456789abcdef0123456789abcdef","maskedAttributes":["name","owned_by"],"inputIndices":[1]},
 {"className":"cmdb_ci_business_app","operation":"INSERT","sysId":"ffffffffffffffffffffffffffffffff","identificationAttempts":[{"attemptResult":"NO_MATCH","attributes":["name"]}],"inputIndices":[0]}]}}');
-- found by its own rule, and by our key
:read :'lookups', 200, 'application/json', '{"result":{"items":[
 {"className":"cmdb_ci_business_app","operation":"UPDATE","sysId":"abcdefabcdefabcdefabcdefabcdefab","identificationAttempts":[{"info":"sys_object_source NO_MATCH","attemptResult":"NO_MATCH","attributes":[]},{"attemptResult":"MATCHED","attributes":["correlation_id","name"]}],"inputIndices":[0]},
 {"className":"cmdb_ci_service_auto","operation":"NO_CHANGE","sysId":"0123456789abcdef0123456789abcdef","identificationAttempts":[{"info":"sys_object_source MATCHED","attemptResult":"MATCHED","attributes":[]}],"inputIndices":[1]}]}}');
-- one CI of two, refusals, a code that passes by itself, an answer without the second
:read :'lookups', 200, 'application/json', '{"result":{"items":[{"className":"cmdb_ci_business_app","operation":"INSERT","sysId":"Unknown","inputIndices":[0,1]}]}}');
:read :'lookups', 200, 'application/json', '{"result":{"items":[{"className":"cmdb_ci_business_app","sysId":"Unknown","errors":[{"error":"ABANDONED","message":"other errors"},{"error":"MULTI_MATCH","message":"Found duplicates"}],"inputIndices":[0]}]}}');
:read :'lookups', 200, 'application/json', '{"result":{"items":[{"sysId":"Unknown","errors":[{"error":"LOCK_TIMEOUT","message":"busy"}],"inputIndices":[0]}]}}');
-- no answer at all, a refusal as a whole, too much, none of the form
:read :'lookups', 403, 'application/json', '{"error":{"message":"User Not Authorized","detail":"Failed API level ACL Validation"},"status":"failure"}');
:read :'lookups', 413, 'application/json', '{}');
:read :'lookups', NULL, 'TIMEOUT', NULL);
:read :'lookups', 200, 'application/json', '{"result":[]}');
:read :'lookups', 200, 'text/html', '<html>Hibernating</html>');
:read '[{"kind": "dry_run", "keys": []}]', 200, 'application/json', '{}');
-- how much one request takes
SELECT api, nused, subrequests, bytes > 500 AS sized FROM pgsync_itsm.adapter_measure_lookup('servicenow', '{}', :'lookups');
SELECT api, nused, subrequests, bytes > 300 AS sized FROM pgsync_itsm.adapter_measure('servicenow', '{}', '[{"item_id": 1, "entity_type": "application", "action": "CREATE", "native_key": "application/1", "external_table": "cmdb_ci_business_app", "payload": {"name": "x"}}]');
SELECT api, nused, subrequests FROM pgsync_itsm.adapter_measure('servicenow', '{}', '[{"item_id": 1, "entity_type": "company", "action": "CREATE", "payload": {"name": "x"}}, {"item_id": 2, "entity_type": "company", "action": "CREATE", "payload": {"name": "y"}}]');
DROP EXTENSION pgsync_itsm;
