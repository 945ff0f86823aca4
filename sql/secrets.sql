-- Credentials: sealed, bound to their row, opened in C only, and named in no message.
\set SHOW_CONTEXT never
SET client_min_messages = error;
DROP EXTENSION IF EXISTS pgsync_itsm CASCADE;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
CREATE ROLE regress_itsm_tenant;
CREATE ROLE regress_itsm_reader;
GRANT pg_read_server_files TO regress_itsm_reader;
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_tenant, regress_itsm_reader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA itsm, pgsync_itsm TO regress_itsm_tenant, regress_itsm_reader;
CREATE TABLE stored (name text, id uuid);
GRANT ALL ON stored TO PUBLIC;

-- what a failing call says, without paths and ids
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; hint text; state text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN state || ': ' || message || coalesce(E'\n  ' || nullif(hint, ''), '');
END
$$;

-- the key is made on first use, for nobody else to read
SELECT current_setting('pgsync_itsm.key_file') AS key_file \gset
INSERT INTO stored SELECT 'first', pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'client_secret', 'wonderland-1');
SELECT size, to_char(modification, 'YYYY') >= '2020' AS dated FROM pg_stat_file(:'key_file');
SELECT purpose, position('wonderland'::bytea IN sealed) AS clear_text_at, length(sealed) FROM pgsync_itsm.integration_secrets;

-- equal secrets do not look equal
INSERT INTO stored SELECT 'second', pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'client_secret', 'wonderland-1');
SELECT count(DISTINCT sealed) FROM pgsync_itsm.integration_secrets;

-- what is no secret
SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', NULL) IS NULL AS nothing;
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', '')$$);
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', repeat('x', 70000))$$);
SELECT attempt($$SELECT pgsync_itsm.store_secret(NULL, 'password', 'x')$$);
SELECT pgsync_itsm.secret_ref(NULL) IS NULL AS nothing;

-- given as a file
SELECT :'key_file' || '.test' AS file \gset
COPY (SELECT 'wonderland-2') TO :'file';
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', 'file:relative')$$);
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', 'file:/nowhere/secret')$$);
INSERT INTO stored SELECT 'file', pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', 'file:' || :'file');
SELECT length(s.sealed) - length('wonderland-2') AS overhead FROM pgsync_itsm.integration_secrets AS s JOIN stored USING (id) WHERE name = 'file';
SELECT itsm.itsm_secure($$namespace_id = '22222222-2222-4222-8222-222222222222'$$);
SET ROLE regress_itsm_tenant;
SELECT attempt(format('SELECT pgsync_itsm.store_secret(%L, %L, %L)', '22222222-2222-4222-8222-222222222222', 'password', 'file:' || :'file'));
SELECT attempt('SELECT pgsync_itsm.check_file_right()');
SET ROLE regress_itsm_reader;
SELECT attempt(format('SELECT pgsync_itsm.store_secret(%L, %L, %L)', '22222222-2222-4222-8222-222222222222', 'password', 'file:' || :'file'));
SELECT attempt('SELECT pgsync_itsm.check_file_right()');

-- a tenant stores, but reads nothing and drops only what is his
SET ROLE regress_itsm_tenant;
SELECT attempt('SELECT pgsync_itsm.store_secret(''11111111-1111-4111-8111-111111111111'', ''password'', ''x'')');
INSERT INTO stored SELECT 'tenant', pgsync_itsm.store_secret('22222222-2222-4222-8222-222222222222', 'password', 'wonderland-3');
SELECT attempt('SELECT * FROM pgsync_itsm.integration_secrets');
SELECT attempt(format('SELECT * FROM pgsync_itsm.sealed_secret(%L)', id)) FROM stored WHERE name = 'tenant';
SELECT attempt(format('SELECT pgsync_itsm.remove_secret(%L)', id)) FROM stored WHERE name = 'tenant';
SELECT regexp_replace(attempt(format('SELECT pgsync_itsm.drop_secret(%L)', id)), '[0-9a-f-]{36}', '<id>') FROM stored WHERE name = 'first';
RESET ROLE;
INSERT INTO itsm.integration_connections (namespace_id, platform, instance_url)
VALUES ('22222222-2222-4222-8222-222222222222', 'servicenow', 'https://two.service-now.com');
SET ROLE regress_itsm_tenant;
SELECT attempt(format('SELECT pgsync_itsm.drop_secret(%L)', id)) FROM stored WHERE name = 'tenant';
RESET ROLE;
SELECT name FROM stored AS s WHERE NOT EXISTS (SELECT FROM pgsync_itsm.integration_secrets AS i WHERE i.id = s.id);
SELECT pgsync_itsm.drop_secret('99999999-9999-4999-8999-999999999999');

-- opened: nobody listens there, but the credentials were good enough to try
ALTER SYSTEM SET pgsync_itsm.allow_insecure_hosts = '127.0.0.1:1';
SELECT pg_reload_conf(), pg_sleep(1) IS NOT NULL AS waited;
\c -
SET client_min_messages = error;
SELECT current_setting('pgsync_itsm.key_file') AS key_file \gset
SELECT itsm.itsm_connect_servicenow('33333333-3333-4333-8333-333333333333', 'http://127.0.0.1:1',
                                    client_id => 'alice', client_secret => 'wonderland-4',
                                    settings => '{"sync_direction": "both", "batch_items": 7}') AS connection \gset
-- what has a column of its own is no setting
SELECT sync_direction, settings FROM itsm.integration_connections WHERE id = :'connection';
SELECT format('SELECT * FROM itsm.itsm_test_connection(%L)', :'connection') AS test_call \gset
SELECT attempt(:'test_call');
SELECT "check", ok FROM itsm.itsm_test_connection(:'connection') WHERE "check" IN ('address', 'connect');

-- a key that others can read, none, another one
SELECT format('chmod 644 %L', :'key_file') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
SELECT attempt(:'test_call');
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', 'wonderland-5')$$);
SELECT format('chmod 600 %1$L && mv %1$L %1$L.away', :'key_file') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
SELECT attempt(:'test_call');
SELECT attempt($$SELECT pgsync_itsm.store_secret('11111111-1111-4111-8111-111111111111', 'password', 'wonderland-5')$$);
SELECT format('umask 077; echo %L > %L', repeat('ab', 32), :'key_file') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
SELECT attempt(:'test_call');
SELECT format('echo nonsense > %L', :'key_file') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
SELECT attempt(:'test_call');
SELECT format('mv %1$L.away %1$L', :'key_file') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
SELECT attempt(:'test_call');

-- a sealed value is bound to its row, its namespace and its bits
SELECT client_id_vault_id AS id_id, client_secret_vault_id AS secret_id FROM itsm.integration_connections WHERE id = :'connection' \gset
BEGIN;
UPDATE pgsync_itsm.integration_secrets SET sealed = (SELECT sealed FROM pgsync_itsm.integration_secrets WHERE id = :'id_id')
 WHERE id = :'secret_id';
SELECT attempt(:'test_call');
ROLLBACK;
BEGIN;
UPDATE pgsync_itsm.integration_secrets SET namespace_id = '11111111-1111-4111-8111-111111111111' WHERE id = :'secret_id';
SELECT attempt(:'test_call');
ROLLBACK;
BEGIN;
UPDATE pgsync_itsm.integration_secrets SET sealed = set_byte(sealed, 45, get_byte(sealed, 45) # 1) WHERE id = :'secret_id';
SELECT attempt(:'test_call');
ROLLBACK;
BEGIN;
UPDATE pgsync_itsm.integration_secrets SET sealed = '\x01' WHERE id = :'secret_id';
SELECT attempt(:'test_call');
ROLLBACK;
BEGIN;
DELETE FROM pgsync_itsm.integration_secrets WHERE id = :'secret_id';
SELECT attempt(:'test_call');
ROLLBACK;

-- another namespace's credential cannot be borrowed
BEGIN;
UPDATE itsm.integration_connections SET client_secret_vault_id = (SELECT id FROM stored WHERE name = 'first') WHERE id = :'connection';
SELECT attempt(:'test_call');
ROLLBACK;

-- with a connection go its credentials
SELECT itsm.itsm_disconnect(:'connection');
SELECT count(*) FROM pgsync_itsm.integration_secrets WHERE id IN (:'id_id', :'secret_id');

-- Supabase Vault keeps them, where it is
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, description text, secret text);
CREATE VIEW vault.decrypted_secrets AS SELECT id, name, description, secret AS decrypted_secret FROM vault.secrets;
CREATE FUNCTION vault.create_secret(new_secret text, new_name text DEFAULT NULL, new_description text DEFAULT '',
                                    new_key_id uuid DEFAULT NULL) RETURNS uuid LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO vault.secrets (name, description, secret) VALUES (new_name, new_description, new_secret) RETURNING id;
END;
SELECT itsm.itsm_connect_servicenow('33333333-3333-4333-8333-333333333333', 'http://127.0.0.1:1',
                                    client_id => 'alice', client_secret => 'wonderland-6') AS connection \gset
SELECT regexp_replace(name, '[0-9a-f-]{36}$', '<id>') AS name, secret FROM vault.secrets ORDER BY 1;
SELECT count(*) FROM pgsync_itsm.integration_secrets AS s JOIN itsm.integration_connections AS c ON s.id = c.client_secret_vault_id;
SELECT "check", ok FROM itsm.itsm_test_connection(:'connection') WHERE "check" IN ('address', 'connect');
INSERT INTO vault.secrets (id, name, secret) VALUES ('77777777-7777-4777-8777-777777777777', 'somebody else', 'wonderland-7');
BEGIN;
UPDATE itsm.integration_connections SET client_secret_vault_id = '77777777-7777-4777-8777-777777777777' WHERE id = :'connection';
SELECT attempt(format('SELECT * FROM itsm.itsm_test_connection(%L)', :'connection'));
ROLLBACK;
SELECT itsm.itsm_disconnect(:'connection');
SELECT name FROM vault.secrets;

SELECT format('rm -f %L', :'key_file' || '.test') AS command \gset
COPY (SELECT WHERE false) TO PROGRAM :'command';
ALTER SYSTEM RESET pgsync_itsm.allow_insecure_hosts;
SELECT pg_reload_conf(), pg_sleep(1) IS NOT NULL AS waited;
DROP SCHEMA vault CASCADE;
DROP FUNCTION attempt;
DROP TABLE stored;
DROP EXTENSION pgsync_itsm;
DROP SCHEMA itsm;
DROP OWNED BY regress_itsm_tenant, regress_itsm_reader;
DROP ROLE regress_itsm_tenant, regress_itsm_reader;
