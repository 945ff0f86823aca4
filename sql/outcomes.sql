-- The table of outcomes: the whole of it, that it is complete, and that everything else says the same.
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
\pset format unaligned
\pset tuples_only on
\pset null -

-- Word for word: whoever changes an outcome sees it here.
SELECT * FROM itsm_outcomes();

-- Words and rows: no other outcome, no row twice, no empty reason, a way on for what a person must repair.
SELECT outcome, count(*) FROM itsm_outcomes() GROUP BY outcome ORDER BY outcome;
SELECT layer, match FROM itsm_outcomes() GROUP BY layer, match HAVING count(*) > 1;
SELECT layer, match FROM itsm_outcomes() WHERE reason = '' OR hint = '' OR reason ~ '[^ -~]' OR hint ~ '[^ -~]';
SELECT layer, match FROM itsm_outcomes() WHERE outcome = 'pause_connection' AND hint IS NULL;

-- Every code of the reference's table of codes (servicenow-api 5.6); nothing may be listed here.
SELECT c AS missing
  FROM unnest(ARRAY['IDENTIFICATION_RULE_MISSING', 'MISSING_MATCHING_ATTRIBUTES', 'INVALID_INPUT_DATA', 'DUPLICATE_RELATIONSHIP_TYPES', 'DUPLICATE_PAYLOAD_RECORDS',
                    'MULTIPLE_DUPLICATE_RECORDS', 'MULTI_MATCH', 'REQUIRED_ATTRIBUTE_EMPTY', 'MISSING_DEPENDENCY', 'METADATA_RULE_MISSING', 'MULTIPLE_DEPENDENCIES',
                    'ABANDONED', 'LOCK_TIMEOUT', 'RECLASSIFICATION_NOT_ALLOWED', 'INSERT_NOT_ALLOWED_FOR_SOURCE', 'NO_CLASS_NAME_FOR_INDEPENDENT_CI',
                    'IDENTIFICATION_RULE_FOR_LOOKUP_MISSING', 'IDENTIFICATION_RULE_FOR_RELATED_ITEM_MISSING', 'NO_LOOKUP_RULES_FOR_DEPENDENT_CI', 'QUALIFICATION_LOOP',
                    'TYPE_CONFLICT_IN_QUALIFICATION', 'DUPLICATE_RELATED_PAYLOAD', 'DUPLICATE_LOOKUP_PAYLOAD',
                    'INSERT', 'UPDATE', 'NO_CHANGE', 'UPDATE_WITH_UPGRADE', 'UPDATE_WITH_DOWNGRADE', 'UPDATE_WITH_SWITCH', 'INSERT_AS_PARTIAL', 'INSERT_AS_INCOMPLETE']) AS c
 WHERE NOT EXISTS (SELECT FROM itsm_outcomes() AS o WHERE o.layer = 'ire' AND o.match = c);

-- Every layer of its section 8, as it comes over the wire: an IRE payload of three CIs, then of one, then a part of a Batch.
CREATE FUNCTION pg_temp.items(n int) RETURNS json LANGUAGE sql AS $$
    SELECT json_agg(json_build_object('item_id', i, 'entity_type', 'application', 'action', 'CREATE', 'native_key', 'application/' || i,
                                      'external_table', 'cmdb_ci_business_app', 'payload', json_build_object('name', 'App ' || i)::text))
      FROM generate_series(1, n) AS i
$$;
CREATE FUNCTION pg_temp.part(status int, body text, headers json) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to(json_build_object('serviced_requests', json_build_array(json_build_object('id', '0', 'status_code', status,
        'body', replace(encode(convert_to(body, 'UTF8'), 'base64'), E'\n', ''), 'headers', headers)))::text, 'UTF8')
$$;
CREATE TEMP TABLE wire (n int, layer text, status int, content_type text, body text, retry_after int);
INSERT INTO wire VALUES
    (1, 'a rate-limit rule', 429, 'application/json', '{"error":{"message":"Rate limit exceeded","detail":"Rate limit of 100 requests per hour"},"status":"failure"}', 17),
    (2, 'the semaphore', 429, 'text/html', '', NULL),
    (3, 'the quota, as 500', 500, 'application/json', '{"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":null},"status":"failure"}', NULL),
    (4, 'the quota, as a broken 200', 200, 'application/json', '{"result":{"items":[{"className" Transaction cancelled: maximum execution time exceeded', NULL),
    (5, 'the quota, beside the result', 200, 'application/json', '{"result":{},"error":{"message":"Transaction cancelled: maximum execution time exceeded"}}', NULL),
    (6, 'the session synchroniser', 202, 'text/html', '', NULL),
    (7, 'the load balancer', 502, 'text/html', '<html>', NULL),
    (8, 'maintenance', 503, NULL, '', NULL),
    (9, 'no node in time', 504, NULL, '', NULL),
    (10, 'idle for five minutes, as 500', 500, 'text/html', '<html>', NULL),
    (11, 'idle for five minutes, cut', 0, 'BROKEN', '', NULL),
    (12, 'no answer in time', 0, 'TIMEOUT', '', NULL),
    (13, 'no name', 0, 'RESOLVE', '', NULL),
    (14, 'no connection', 0, 'CONNECT', '', NULL),
    (15, 'no TLS', 0, 'TLS', '', NULL),
    (16, 'an answer without end', 0, 'TOO_LARGE', '', NULL),
    (17, 'not allowed', 0, 'NOT_ALLOWED', '', NULL),
    (18, 'a new class', 0, 'SOMETHING_NEW', '', NULL),
    (19, 'hibernating', 200, 'text/html', '<html>Your instance is hibernating</html>', NULL),
    (20, 'a login page', 200, 'text/html', '<html>', NULL),
    (21, 'too large', 413, NULL, '', NULL),
    (22, 'expired', 401, 'application/json', '{"error":{"message":"User Not Authenticated"}}', NULL),
    (23, 'no role', 403, 'application/json', '{"error":{"message":"User Not Authorized"}}', NULL),
    (24, 'no such API', 404, 'application/json', '{"error":{"message":"Requested URI does not represent any resource"}}', NULL),
    (25, 'malformed', 400, 'application/json', '{"error":{"message":"Exception while reading request"}}', NULL),
    (26, 'a status nobody knows', 418, NULL, '', NULL),
    (27, 'another one', 599, NULL, '', NULL),
    (28, 'moved', 302, NULL, '', NULL);
SELECT w.n, w.layer, many.verdict, alone.verdict, coalesce(part.outcome, part.verdict), many.error_class, part.error_class, part.retry_after_s
  FROM wire AS w
  CROSS JOIN LATERAL pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.items(3), w.status, w.content_type, convert_to(w.body, 'UTF8'), w.retry_after) AS many
  CROSS JOIN LATERAL pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.items(1), w.status, w.content_type, convert_to(w.body, 'UTF8'), w.retry_after) AS alone
  LEFT JOIN LATERAL pgsync_itsm.adapter_read('servicenow', '{}', '[{"item_id":1,"entity_type":"contract","action":"UPDATE","external_id":"51","payload":{"_is_internal":"false"}}]',
       200, 'application/json', pg_temp.part(w.status, w.body, CASE WHEN w.retry_after IS NULL THEN '[]' ELSE json_build_array(
           json_build_object('name', 'Retry-After', 'value', w.retry_after::text), json_build_object('name', 'X-RateLimit-Rule', 'value', 'r')) END)) AS part ON w.status > 0
 ORDER BY w.n;
-- ... and what the adapter made of it stands in the table under the same class and outcome: nothing may be listed here.
SELECT w.n, r.verdict, r.error_class
  FROM wire AS w, pgsync_itsm.adapter_read('servicenow', '{}', pg_temp.items(3), w.status, w.content_type, convert_to(w.body, 'UTF8'), w.retry_after) AS r
 WHERE NOT EXISTS (
       SELECT FROM itsm_outcomes() AS o
        WHERE o.layer IN ('transport', 'platform', 'request')
          AND r.error_class ~ ('^' || replace(replace(o.match, '*', '.*'), 'xx', '..') || '$')
          AND r.verdict = CASE o.outcome WHEN 'lookup_first' THEN 'retry' WHEN 'retry_after' THEN 'throttled' WHEN 'pause_connection' THEN 'pause' ELSE o.outcome END);

-- Hints by error class: one row a class, the successes left out.
SELECT count(*), count(DISTINCT error_class), count(*) FILTER (WHERE cause IS NULL) FROM pgsync_itsm.error_hints();
SELECT h.* FROM pgsync_itsm.error_hints() AS h
 WHERE h.error_class IN ('INVALID_INPUT_DATA', 'REQUIRED_ATTRIBUTE_EMPTY', 'CHARGEBACK', 'HTTP_401', 'HTTP_403', 'HTTP_413', 'HTTP_429', 'INSERT', 'NO_CHANGE') ORDER BY h.error_class;

-- The documentation is this table: run test/lib/outcomes-doc when this is false.
\i test/lib/outcomes-doc.sql
\set written `cat doc/outcomes.md`
SELECT :'document' = :'written' AS documented;

SELECT * FROM itsm_outcomes('nosuch');
SELECT * FROM itsm_outcomes(NULL);
DROP EXTENSION pgsync_itsm;
