-- Values that cannot be used are refused when they are set, not met by a worker.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pgsync_itsm CASCADE;
CREATE EXTENSION pgsync_itsm;

-- lists of hosts
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = 'https://acme.service-now.com';
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = '*';
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = '*.';
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = 'acme.*.com';
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = 'a b.example.com';
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = '[::1';
ALTER SYSTEM SET pgsync_itsm.allow_insecure_hosts = '*.example.com';
ALTER SYSTEM SET pgsync_itsm.allow_insecure_hosts = 'http://127.0.0.1';

-- databases
ALTER SYSTEM SET pgsync_itsm.databases = 'app,,other';
ALTER SYSTEM SET pgsync_itsm.databases = 'app other';
ALTER SYSTEM SET pgsync_itsm.databases = '"unended';
ALTER SYSTEM SET pgsync_itsm.databases = 'a123456789b123456789c123456789d123456789e123456789f123456789g123456789';

-- files and the proxy
ALTER SYSTEM SET pgsync_itsm.key_file = 'key';
ALTER SYSTEM SET pgsync_itsm.ca_file = './ca.pem';
ALTER SYSTEM SET pgsync_itsm.https_proxy = 'proxy:3128';
ALTER SYSTEM SET pgsync_itsm.https_proxy = 'http://me:secret@proxy:3128';
ALTER SYSTEM SET pgsync_itsm.https_proxy = 'http://proxy:3128/path';

-- numbers and names
ALTER SYSTEM SET pgsync_itsm.slow_poll = 0;
ALTER SYSTEM SET pgsync_itsm.slow_poll = '30 parsecs';
ALTER SYSTEM SET pgsync_itsm.lease = '1s';
ALTER SYSTEM SET pgsync_itsm.max_response_size = '2GB';
ALTER SYSTEM SET pgsync_itsm.request_timeot = '10s';
SET pgsync_itsm.slow_poll = '10s';

-- what is good, is good
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = 'itsm.example.com, *.service-now.com,[fe80::1]:8443';
ALTER SYSTEM SET pgsync_itsm.allow_insecure_hosts = '127.0.0.1:8080 , localhost, [::1]';
ALTER SYSTEM SET pgsync_itsm.databases = 'app, "Odd, Name"';
ALTER SYSTEM SET pgsync_itsm.https_proxy = 'http://proxy.example.com:3128';
ALTER SYSTEM SET pgsync_itsm.log_retention = '30d';
ALTER SYSTEM RESET pgsync_itsm.allowed_hosts;
ALTER SYSTEM RESET pgsync_itsm.allow_insecure_hosts;
ALTER SYSTEM RESET pgsync_itsm.databases;
ALTER SYSTEM RESET pgsync_itsm.https_proxy;
ALTER SYSTEM RESET pgsync_itsm.log_retention;

-- all of them
SELECT name, CASE name WHEN 'pgsync_itsm.allow_insecure_hosts' THEN '' ELSE boot_val END AS boot_val, unit, min_val, max_val, context
  FROM pg_settings WHERE name LIKE 'pgsync\_itsm.%' ORDER BY name COLLATE "C";

-- the key file is nobody's business
CREATE ROLE regress_itsm_settings;
SET ROLE regress_itsm_settings;
SELECT count(*) FROM pg_settings WHERE name = 'pgsync_itsm.key_file';
SHOW pgsync_itsm.key_file;
RESET ROLE;

-- Old log rows go at the end of a run, but are not looked for more than once in a minute.
BEGIN;
INSERT INTO pgsync_itsm.site (only_one) VALUES (true) ON CONFLICT DO NOTHING;
UPDATE pgsync_itsm.site SET purged_at = NULL;
CREATE PROCEDURE log_of(age interval) LANGUAGE sql AS $$
    INSERT INTO integration_sync_log (connection_id, namespace_id, operation, entity_type, status, created_at)
    VALUES (gen_random_uuid(), gen_random_uuid(), 'read', 'application', 'success', now() - age)
$$;
CALL log_of('91 days');
CALL log_of('89 days');
SELECT pgsync_itsm.purge();
SELECT created_at = now() - interval '89 days' AS kept FROM integration_sync_log ORDER BY 1;
CALL log_of('91 days');
SELECT pgsync_itsm.purge();
SELECT count(*) AS not_yet FROM integration_sync_log;
UPDATE pgsync_itsm.site SET purged_at = now() - interval '61 s';
SELECT pgsync_itsm.purge();
SELECT count(*) AS after_a_minute FROM integration_sync_log;
CALL log_of('91 days');
-- a clock that was set back
UPDATE pgsync_itsm.site SET purged_at = now() + interval '1 hour';
SELECT pgsync_itsm.purge();
SELECT count(*) AS clock_set_back FROM integration_sync_log;
-- more than goes at a time: the next run goes on, whenever that is
INSERT INTO integration_sync_log (connection_id, namespace_id, operation, entity_type, status, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'read', 'application', 'success', now() - interval '91 days' FROM generate_series(1, 20001);
UPDATE pgsync_itsm.site SET purged_at = NULL;
SELECT pgsync_itsm.purge();
SELECT count(*) FILTER (WHERE created_at < now() - interval '90 days') AS left_over FROM integration_sync_log;
SELECT pgsync_itsm.purge();
SELECT count(*) FILTER (WHERE created_at < now() - interval '90 days') AS left_over FROM integration_sync_log;
SELECT purged_at = now() AS done FROM pgsync_itsm.site;
ROLLBACK;

DROP ROLE regress_itsm_settings;
DROP EXTENSION pgsync_itsm;
