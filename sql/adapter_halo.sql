-- The HaloITSM adapter alone: what it asks, and what it makes of every answer and oddity that the reference tells of.
-- Nothing is sent.
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
\pset format unaligned
\pset tuples_only on
\pset null -

CREATE FUNCTION pg_temp.settings(more json DEFAULT '{}') RETURNS json LANGUAGE sql AS $$
    SELECT (jsonb_build_object('halo_ids', '{"client":12,"site":30,"category":5,"build":236,"type business_application":141,"type application_instance":142,"type software":143,"name business_application":101,"name application_instance":102,"name software":103,"field Environment":148,"field Managed by group":149}',
                               'application_name_field', 'Application name', 'profile_name_field', 'Instance name', 'software_name_field', 'Software name',
                               'depends_on_type', 'Uses', 'relation_lookup', '87') || more::jsonb)::json
$$;
-- method path body, and how many of the items
CREATE FUNCTION pg_temp.built(items text, more json DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', b.method, b.path, b.body, '| ' || b.nused, CASE WHEN b.writes THEN 'writes' END, b.api)
      FROM pgsync_itsm.adapter_build('haloitsm', pg_temp.settings(more), items::json) AS b
$$;
-- id: outcome operation external_id table number class | message | not taken
CREATE FUNCTION pg_temp.told(items text, status int, body text, more json DEFAULT '{}', content_type text DEFAULT 'application/json') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(item_id::text, 'all') || ':', coalesce(outcome, verdict), operation, external_id, external_table, external_number,
                     error_class, '| ' || message, '| ' || not_taken::text)
      FROM pgsync_itsm.adapter_read('haloitsm', pg_temp.settings(more), items::json, status, content_type, convert_to(body, 'UTF8'))
$$;
-- what is asked and said in turn
CREATE FUNCTION pg_temp.talk(items text, answers text, more json DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT CASE WHEN request IS NOT NULL THEN concat_ws(' ', request::text || '>', method, path, body)
                ELSE concat_ws(' ', coalesce(item_id::text, 'all') || ':', outcome, operation, external_id, external_table, error_class, '| ' || message) END
      FROM pgsync_itsm.adapter_converse('haloitsm', pg_temp.settings(more), items::json, answers::json)
$$;
CREATE FUNCTION pg_temp.ask(lookups text, answers text, more json DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT CASE WHEN request IS NOT NULL THEN concat_ws(' ', request::text || '>', method, path)
                ELSE concat_ws(' ', coalesce(lookup_id::text, 'all') || ':', outcome, quote_literal(key), external_id, external_table, error_class, '| ' || message, attrs::text) END
      FROM pgsync_itsm.adapter_converse_lookup('haloitsm', pg_temp.settings(more), lookups::json, answers::json)
$$;

---- Building: records, one object a POST ----

\set app '{"item_id":1,"entity_type":"application","action":"CREATE","native_key":"application/0c2e","external_table":"business_application","payload":{"name":"LegalEdge \\"™\\" 🚀","inventory_number":"APP-0042","status_id":"21","inactive":"false","business_owner_id":"user/88","technical_owner_id":"agent/9","supplier_id":"supplier/7","notes":"a\\nb","field_managed_by_group":"Ops","field_life_cycle":"Operational","_note":"stays here","assettype_id":"9"}}'
\set upd '{"item_id":2,"entity_type":"deployment_profile","action":"UPDATE","external_id":"asset/4102","external_table":"application_instance","payload":{"name":"LegalEdge - Prod","field_environment":"Production","notes":""}}'
\set clear '{"item_id":3,"entity_type":"application","action":"CLEAR","external_id":"asset/4101","external_table":"business_application","payload":{"notes":"old","supplier_id":"supplier/7","field_environment":"x","warranty_end":"2026-01-01","inactive":"true"}}'
\set remove '{"item_id":4,"entity_type":"application","action":"DELETE","external_id":"asset/4101","external_table":"business_application"}'
\set service '{"item_id":5,"entity_type":"it_service","action":"CREATE","external_table":"service","payload":{"name":"E-mail","summary":"Mail","showinusercatalog":"true","showintechcatalog":"true"}}'
\set company '{"item_id":6,"entity_type":"company","action":"CREATE","payload":{"name":"Contoso Ltd","is_supplier":"true"}}'
\set contact '{"item_id":7,"entity_type":"contact","action":"CREATE","payload":{"name":"Ada Byron","emailaddress":"ada@example.org"}}'
\set contract '{"item_id":8,"entity_type":"contract","action":"CREATE","payload":{"ref":"VC-2031","contract_description":"Payroll","supplier_id":"supplier/7","start_date":"2026-01-01","end_date":"","active":"true","_is_internal":"false"}}'
\set software '{"item_id":9,"entity_type":"software_package","action":"CREATE","external_table":"software","payload":{"name":"Office 365","inventory_number":"SW-1"}}'
\set licence '{"item_id":10,"entity_type":"software_package","action":"CREATE","external_table":"software_licence","payload":{"name":"Office 365","is_active":"true"}}'
SELECT pg_temp.built('[' || i || ']') FROM unnest(ARRAY[:'app', :'upd', :'clear', :'remove', :'service', :'company', :'contact', :'contract', :'software', :'licence']) WITH ORDINALITY AS x(i, n) ORDER BY n;
SELECT nused FROM pgsync_itsm.adapter_build('haloitsm', pg_temp.settings(), ('[' || :'app' || ',' || :'app' || ']')::json);

---- Lanes ----

SELECT e, a, d, l.max_items, l.idempotent, l.max_lookups, string_agg(k.with_entity_type || ' ' || k.with_action, ', ' ORDER BY k.with_entity_type) AS kinds
  FROM unnest(ARRAY['application', 'company', 'consumes', 'covers']) WITH ORDINALITY AS x(e, n), unnest(ARRAY['CREATE', 'UPDATE', 'DELETE']) AS y(a), unnest(ARRAY[false, true]) AS z(d),
       pgsync_itsm.adapter_limits('haloitsm', '{}', e, a, d) AS l, pgsync_itsm.adapter_lane('haloitsm', '{}', e, a, d) AS k
 WHERE NOT (d AND a <> 'CREATE') AND NOT (a = 'UPDATE' AND e IN ('consumes', 'covers'))
 GROUP BY n, e, a, d, l.max_items, l.idempotent, l.max_lookups ORDER BY n, a, d;

---- What must never leave ----

SELECT pg_temp.built('[' || replace(:'contract', '"false"', '"true"') || ']');
SELECT pg_temp.told('[' || i || ']', 201, '{"id":5}')
  FROM unnest(ARRAY[replace(:'contract', '"false"', '"true"'), replace(:'contract', '"false"', '""'), replace(:'contract', '_is_internal', '_x'),
                    replace(:'app', '"a\nb"', '{"a":1}'), replace(:'upd', '"external_id":"asset/4102",', ''), '{"item_id":11,"entity_type":"nothing","action":"CREATE","payload":{}}']) WITH ORDINALITY AS x(i, n) ORDER BY n;
-- what is not known there: asset type, place, category
SELECT pg_temp.told('[' || i || ']', 201, '{"id":5}', '{"halo_ids":"{}"}') FROM unnest(ARRAY[:'app', :'contact', :'service', :'company']) WITH ORDINALITY AS x(i, n) ORDER BY n;
SELECT pg_temp.told('[' || :'app' || ']', 201, '{"id":5}', '{"halo_ids":"no json"}');

---- Reading: a record ----

-- as it was stored; a member that is lost in silence; another value; what says nothing is left out
SELECT pg_temp.told('[' || :'app' || ']', 201, '{"id":4101,"inventory_number":"APP-0042","assettype_id":141,"key_field":"LegalEdge \"™\" 🚀","status_id":21,"business_owner_id":88,"technical_owner_id":9,"supplier_id":7,"notes":"a\r\nb","fields":[{"id":101,"value":"LegalEdge \"™\" 🚀"},{"id":149,"name":"Managed by group","value":"Ops"},{"id":150,"name":"Life cycle","value":"Operational"}]}');
SELECT pg_temp.told('[' || :'app' || ']', 200, '{"id":4101,"inventory_number":"APP-0042","key_field":"Legal","status_id":1,"inactive":true,"business_owner_id":88.0,"technical_owner_id":9,"supplier_id":0,"notes":"a\nb","fields":[{"id":101,"value":"Legal"}]}');
SELECT pg_temp.told('[' || :'app' || ']', 201, '{"id":4101,"inventory_number":"APP-0042","key_field":"LegalEdge \"™\" 🚀","status_id":21,"business_owner_id":88,"technical_owner_id":9,"supplier_id":7,"notes":"a\nb","_warning":"The asset limit is near"}');
SELECT pg_temp.told('[' || :'contract' || ']', 201, '{"id":55,"ref":"VC-2031","contract_description":"Payroll","supplier_id":7,"start_date":"2026-01-01T00:00:00","end_date":"1900-01-01T00:00:00","active":true}');
-- an array of one, of two, none, no object, no id, another record
SELECT pg_temp.told('[' || :'company' || ']', 201, b) FROM unnest(ARRAY['[{"id":7,"name":"Contoso Ltd","is_supplier":true}]', '[{"id":7},{"id":8}]', '[]', '7', '{"name":"Contoso Ltd"}', '{"id":0}', 'null', '']) WITH ORDINALITY AS x(b, n) ORDER BY n;
SELECT pg_temp.told('[' || :'upd' || ']', 201, '{"id":9}');
SELECT pg_temp.told('[' || :'remove' || ']', s, b) FROM unnest(ARRAY[200, 200, 404, 400], ARRAY['', '{"id":4101}', '', '"The asset is in use"']) WITH ORDINALITY AS x(s, b, n) ORDER BY n;

---- Reading: the shapes of a 400 ----

SELECT pg_temp.told('[' || :'company' || ']', 400, b) FROM unnest(ARRAY[
    '"Token is required"', '"Asset tag must be unique"', '{"ClassName":"System.Exception","Message":"Name must be unique","Data":null,"HResult":-2146233088}',
    '{"ClassName":"System.Exception","Message":"Please enter a valid URL","Data":null}',
    '{"[0].status_id":["Could not convert string to integer: live. Path ''[0].status_id'', line 1, position 40."],"[0].x":["a","b"]}', '{"id":["The value ''abc'' is not valid."]}',
    '{"resultCode":7,"errorMessage":"old"}', '{"error":"older"}', '{"x":1}', '[]', '', '<html><body>Bad Request</body></html>', 'plain words',
    '"A database error occurred (515) - Cannot insert the value NULL into column ''dsite'', table ''D_northwind.dbo.DEVICE''; column does not allow nulls."',
    '{"ClassName":"System.Exception","Message":"A database error occurred (547) - The INSERT statement conflicted in D_northwind"}', '"' || repeat('x', 3000) || '"']) WITH ORDINALITY AS x(b, n) ORDER BY n;

---- Reading: statuses, and no answer ----

SELECT s, e, pg_temp.told('[' || CASE e WHEN 'create' THEN :'company' ELSE :'upd' END || ']', s, '')
  FROM unnest(ARRAY[301, 302, 401, 403, 404, 405, 408, 409, 413, 415, 418, 429, 500, 501, 502, 503, 504]) AS x(s), unnest(ARRAY['create', 'update']) AS y(e) ORDER BY e, s;
SELECT pg_temp.told('[' || :'company' || ']', 429, '"Rate Limit Reached - 500 Requests per rolling 3 minute window."');
SELECT pg_temp.told('[' || :'company' || ']', 200, b, '{}', 'text/html') FROM unnest(ARRAY['<html>Sign in</html>', '{"id":7', E'{"id":7,"name":"\x01"}']) WITH ORDINALITY AS x(b, n) ORDER BY n;
SELECT pg_temp.told('[' || :'company' || ']', 0, '', '{}', c) FROM unnest(ARRAY['RESOLVE', 'CONNECT', 'TLS', 'TIMEOUT', 'BROKEN', 'TOO_LARGE', 'NOT_ALLOWED', 'ELSE']) WITH ORDINALITY AS x(c, n) ORDER BY n;

---- In doubt: is it there ----

CREATE FUNCTION pg_temp.doubt(item text) RETURNS text LANGUAGE sql AS $$ SELECT '[' || replace(item, '"action"', '"in_doubt":true,"action"') || ']' $$;
SELECT pg_temp.talk(pg_temp.doubt(i), '[]') FROM unnest(ARRAY[:'app', :'service', :'company', :'contact', :'contract', :'software', :'licence', replace(:'company', 'Contoso Ltd', 'Müller & Söhne ?')]) WITH ORDINALITY AS x(i, n) ORDER BY n;
-- a filter is not exact, or not known at all: exactly this tag, of this type; the oldest of several; page after page
SELECT pg_temp.talk(pg_temp.doubt(:'app'), '[{"body":{"record_count":3,"assets":[{"id":5,"inventory_number":"APP-00421","assettype_id":141},{"id":6,"inventory_number":"APP-0042","assettype_id":142},{"id":7,"inventory_number":"app-0042","assettype_id":141}]}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'app'), '[{"body":{"record_count":3,"assets":[{"id":9,"inventory_number":"APP-0042","assettype_id":141},{"id":6,"inventory_number":"X","assettype_id":141}]}},{"body":{"record_count":3,"assets":[{"id":8,"inventory_number":"APP-0042","assettype_id":141}]}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'company'), '[{"body":{"record_count":1,"suppliers":[{"id":7,"name":"CONTOSO LTD "}]}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'contract'), '[{"body":{"record_count":2,"contracts":[{"id":1,"ref":"VC-2031","supplier_id":8},{"id":2,"ref":"VC-2031","supplier_id":7.0}]}}]');
-- fewer than are counted: nothing is concluded; more, too
SELECT pg_temp.talk(pg_temp.doubt(:'company'), '[{"body":{"record_count":2,"suppliers":[{"id":1,"name":"x"}]}},{"body":{"record_count":2,"suppliers":[]}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'company'), '[{"body":{"record_count":0,"suppliers":[{"id":1,"name":"x"}]}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'company'), '[{"body":{"record_count":1}}]');
SELECT pg_temp.talk(pg_temp.doubt(:'company'), '[{"status":403}]');
SELECT pg_temp.talk(pg_temp.doubt('{"item_id":12,"entity_type":"company","action":"CREATE","payload":{"website":"x"}}'), '[{"body":[]}]');

---- Relations: read, merged, written, seen to be there ----

CREATE FUNCTION pg_temp.link(id int, type text, parent text, child text, kind int DEFAULT 0, action text DEFAULT 'CREATE') RETURNS text LANGUAGE sql AS $$
    SELECT json_build_object('item_id', id, 'entity_type', type, 'action', action, 'parent_external_id', parent, 'child_external_id', child, 'rel_type', 'x', 'rel_type_id', kind::text,
                             'external_id', CASE WHEN action = 'DELETE' THEN parent || '>' || child || CASE WHEN kind > 0 THEN '#' || kind ELSE '' END END)::text
$$;
-- two kinds and a service, one request; somebody else's relations stay
SELECT pg_temp.talk('[' || concat_ws(',', pg_temp.link(1, 'runs_on', 'asset/1', 'asset/2', 3), pg_temp.link(2, 'sends_data_to', 'asset/1', 'asset/3', 4), pg_temp.link(3, 'depends_on', 'asset/1', 'service/9')) || ']',
    '[{"body":{"id":1,"child_assets":[{"id":77,"relationship_id":5}],"services":[{"id":8}]}},
      {"status":201,"body":{"id":1,"child_assets":[{"id":77,"relationship_id":5},{"id":2,"relationship_id":3},{"id":3,"relationship_id":4}],"services":[{"id":8},{"id":9}]}}]');
-- the answer shows no lists: read again
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']',
    '[{"body":{"id":1}},{"status":201,"body":{"id":1}},{"body":{"id":1,"child_assets":[{"id":2}]}}]');
-- a build that does not know add_: the whole list, once; and not in that way either
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2', 3) || ']',
    '[{"body":{"id":1,"child_assets":[{"id":7,"relationship_id":5}]}},{"status":201,"body":{"id":1}},{"body":{"id":1,"child_assets":[{"id":7,"relationship_id":5}]}},
      {"status":201,"body":{"id":1,"child_assets":[{"id":7,"relationship_id":5},{"id":2,"relationship_id":3}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2', 3) || ']',
    '[{"body":{"id":1}},{"body":{"id":1}},{"body":{"id":1}},{"body":{"id":1}},{"body":{"id":1}}]');
-- an older build, and the setting
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2', 3) || ']', '[{"body":{"id":1,"child_assets":[{"id":7}]}}]', m)
  FROM unnest(ARRAY['{"halo_ids":"{\"build\":190}"}', '{"relation_writes":"list"}', '{"relation_writes":"add","halo_ids":"{\"build\":190}"}']::json[]) WITH ORDINALITY AS x(m, n) ORDER BY n;
-- there already; without a kind; in another kind, which is somebody's
SELECT pg_temp.talk('[' || concat_ws(',', pg_temp.link(1, 'consumes', 'asset/1', 'asset/2', 3), pg_temp.link(2, 'runs_on', 'asset/1', 'asset/3', 3), pg_temp.link(3, 'runs_on', 'asset/1', 'asset/4', 3), pg_temp.link(4, 'runs_on', 'asset/1', 'asset/5')) || ']',
    '[{"body":{"id":1,"child_assets":[{"id":2,"relationship_id":3},{"id":3},{"id":4,"relationship_id":9},{"id":5,"relationship_id":9}]}},
      {"body":{"id":1,"child_assets":[{"id":2,"relationship_id":3},{"id":3,"relationship_id":3},{"id":4,"relationship_id":9},{"id":5,"relationship_id":9}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2', 3) || ']', '[{"body":{"id":1,"child_assets":[{"id":2,"relationship_id":3}]}}]');
-- removed: ours only; gone already; gone with its parent; cannot be removed
SELECT pg_temp.talk('[' || concat_ws(',', pg_temp.link(1, 'runs_on', 'asset/1', 'asset/2', 0, 'DELETE'), pg_temp.link(2, 'depends_on', 'asset/1', 'service/9', 0, 'DELETE'), pg_temp.link(3, 'runs_on', 'asset/1', 'asset/6', 0, 'DELETE')) || ']',
    '[{"body":{"id":1,"child_assets":[{"id":77,"relationship_id":5},{"id":2,"relationship_id":3}],"services":[{"id":8},{"id":9}]}},
      {"body":{"id":1,"child_assets":[{"id":77,"relationship_id":5}],"services":[{"id":8}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'runs_on', 'asset/1', 'asset/2', 3, 'DELETE') || ']', '[{"body":{"id":1,"child_assets":[{"id":2,"relationship_id":4}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'runs_on', 'asset/1', 'asset/2', 0, 'DELETE') || ']', '[{"status":404}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'covers', 'contract/5', 'asset/2', 0, 'DELETE') || ']',
    '[{"body":{"id":5,"configuration_items":[{"id":2},{"id":3}]}},{"body":{"id":5}},{"body":{"id":5,"configuration_items":[{"id":2},{"id":3}]}},{"body":{"id":5}},{"body":{"id":5,"configuration_items":[{"id":2},{"id":3}]}}]');
-- contracts and licences; what cannot be related
SELECT pg_temp.talk('[' || concat_ws(',', pg_temp.link(1, 'covers', 'contract/5', 'asset/2'), pg_temp.link(2, 'covers', 'contract/5', 'service/9'), pg_temp.link(3, 'covers', 'contract/5', NULL)) || ']',
    '[{"body":{"id":5}},{"body":{"id":5,"configuration_items":[{"id":2}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'runs_on', 'asset/1', 'licence/4') || ']', '[{"body":{"id":1}},{"body":{"id":1,"licences":[{"id":4}]}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'covers', 'contract/5', 'service/9') || ']', '[{"body":[]}]');
-- refused: the parent is gone; one of several is to blame; alone; the answer is another record; no answer
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']', '[{"status":404}]');
SELECT pg_temp.talk('[' || concat_ws(',', pg_temp.link(1, 'consumes', 'asset/1', 'asset/2'), pg_temp.link(2, 'consumes', 'asset/1', 'asset/3')) || ']', '[{"body":{"id":1}},{"status":400,"body":"not allowed"}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']', '[{"body":{"id":1}},{"status":400,"body":"not allowed"}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']', '[{"body":{"id":7}}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']', '[{"body":{"id":1}},{"status":0}]');
SELECT pg_temp.talk('[' || pg_temp.link(1, 'consumes', 'asset/1', 'asset/2') || ']', '[{"status":401}]');

---- Look-ups ----

-- look-ups of one list share it; a key that is asked twice; names as the platform compares them, tags exactly
SELECT pg_temp.ask('[{"kind":"correlation","target":"business_application","keys":["APP-1","app-2"]},{"kind":"name","target":"business_application","keys":["Payroll","crm","None"]},{"kind":"name","target":"software","keys":["x"]}]',
    '[{"body":{"record_count":3,"assets":[{"id":1,"inventory_number":"APP-1","key_field":"PAYROLL "},{"id":2,"inventory_number":"APP-2","key_field":"x","fields":[{"id":101,"value":"CRM"}]}]}},
      {"body":{"record_count":3,"assets":[{"id":3,"key_field":"Payroll"}]}}]');
SELECT nused FROM pgsync_itsm.adapter_build_lookup('haloitsm', pg_temp.settings(), '[{"kind":"correlation","target":"business_application","keys":["a"]},{"kind":"name","target":"business_application","keys":["b"]},{"kind":"name","target":"software","keys":["c"]}]');
-- more pages than keys: one by one
SELECT pg_temp.ask('[{"kind":"user","target":"","keys":["Ada@example.org","bob@example.org"]}]',
    '[{"body":{"record_count":5000,"users":[{"id":1,"emailaddress":"x"}]}},{"body":{"record_count":1,"users":[{"id":88,"emailaddress":"ada@EXAMPLE.org","name":"Ada","site_id":30.0}]}},{"body":{"record_count":0,"users":[]}}]');
-- agents come bare or in an envelope, by e-mail or by name
SELECT pg_temp.ask('[{"kind":"agent","target":"","keys":["ada@example.org","Bob Agent"]}]', a)
  FROM unnest(ARRAY['[{"body":[{"id":9,"email":"ada@example.org","name":"Ada"},{"id":10,"name":"bob agent"}]}]', '[{"body":{"record_count":1,"results":[{"id":9,"email":"ada@example.org","name":"Bob Agent"}]}}]']) WITH ORDINALITY AS x(a, n) ORDER BY n;
SELECT pg_temp.ask('[{"kind":"company","target":"","keys":["Contoso Ltd"]},{"kind":"name","target":"supplier","keys":["contoso ltd"]}]', '[{"body":{"record_count":2,"suppliers":[{"id":7,"name":"contoso LTD"},{"id":8,"name":"Contoso Ltd"}]}}]');
SELECT pg_temp.ask('[{"kind":"contract","target":"","keys":["VC-1"]}]', '[{"body":{"record_count":2,"contracts":[{"id":7,"ref":"VC-1","supplier_id":3},{"id":8,"ref":"vc-1"}]}}]');
SELECT pg_temp.ask('[{"kind":"choice","target":"business_application","keys":["status_id"]},{"kind":"choice","target":"software","keys":["status_id"]}]', '[{"body":[{"id":21,"name":"Live"},{"id":23,"name":"Retired"}]}]');
-- kinds of relations: by name; services have none; none at all where no lookup is known
SELECT pg_temp.ask('[{"kind":"relation_type","target":"","keys":["Runs on","Uses","Nothing"]}]', '[{"body":[{"id":2,"lookupid":87,"name":"runs ON"}]}]');
SELECT pg_temp.ask('[{"kind":"relation_type","target":"","keys":["Runs on"]}]', '[{"body":[]}]', '{"relation_lookup":""}');
-- records: one a request, gone is no failure; ids with their resource, dates without a time, no value is empty
SELECT pg_temp.ask('[{"kind":"record","target":"business_application","keys":["asset/1","asset/2","asset/3"],"fields":["name","notes","supplier_id","field_environment","inactive","status_id"]}]',
    '[{"body":{"id":1,"key_field":"Payroll","supplier_id":7,"status_id":21,"inactive":true,"fields":[{"id":101,"value":"Payroll"},{"id":148,"value":"Prod"}]}},{"status":404},{"body":{"id":3}}]');
SELECT pg_temp.ask('[{"kind":"record","target":"supplier_contract","keys":["contract/5"],"fields":["ref","start_date","end_date"]}]', '[{"body":{"id":5,"ref":"VC","start_date":"2026-01-01T00:00:00","end_date":"1900-01-01T00:00:00"}}]');
-- a mirror gets all of it, in one look-up, with nothing behind it
SELECT pg_temp.ask('[{"kind":"page","target":"service","keys":[""],"fields":["name","summary"]}]', '[{"body":{"record_count":2,"services":[{"id":1,"name":"E-mail"}]}},{"body":{"record_count":2,"services":[{"id":2,"name":"Files","summary":"x"}]}}]');
-- what cannot be answered, or is not
SELECT pg_temp.ask('[{"kind":"native_key","target":"","keys":["x"]}]', '[{"body":[]}]');
SELECT pg_temp.ask('[{"kind":"name","target":"cmdb_ci","keys":["x"]}]', '[{"body":[]}]');
SELECT pg_temp.ask('[{"kind":"company","target":"","keys":["x"]}]', a)
  FROM unnest(ARRAY['[{"body":{"record_count":0}}]', '[{"status":403}]', '[{"status":404}]', '[{"status":400,"body":"x"}]', '[{"status":500}]', '[{"status":0,"content_type":"TIMEOUT"}]', '[{"status":401}]', '[{"status":429}]',
                    '[{"body":{"record_count":2,"suppliers":[{"id":1,"name":"y"}]}},{"body":{"record_count":2,"suppliers":[]}}]', '[{"body":{"record_count":0,"suppliers":[{"id":1,"name":"x"}]}}]']) WITH ORDINALITY AS x(a, n) ORDER BY n;
SELECT pg_temp.ask('[{"kind":"record","target":"supplier","keys":["supplier/1"]}]', '[{"status":500}]');

---- The table of outcomes ----

SELECT * FROM itsm_outcomes('haloitsm');
SELECT layer, match FROM itsm_outcomes('haloitsm') GROUP BY layer, match HAVING count(*) > 1;
SELECT layer, match FROM itsm_outcomes('haloitsm') WHERE reason = '' OR hint = '' OR reason ~ '[^ -~]' OR hint ~ '[^ -~]';
SELECT layer, match FROM itsm_outcomes('haloitsm') WHERE outcome = 'pause_connection' AND hint IS NULL;
DROP EXTENSION pgsync_itsm;
