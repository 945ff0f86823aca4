-- The calls that speak to a platform from the caller's own session.

CREATE FUNCTION @extschema@.itsm_test_connection(connection_id uuid)
RETURNS TABLE ("check" text, ok boolean, detail text, hint text)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_test_connection';
COMMENT ON FUNCTION @extschema@.itsm_test_connection(uuid) IS
'One row a check of a connection: ok is null where it cannot be known without writing; the hint repairs what failed. Takes at most 30 seconds and writes nothing there';

CREATE FUNCTION @extschema@.itsm_prepare_instance(connection_id uuid) RETURNS text
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_prepare_instance';
COMMENT ON FUNCTION @extschema@.itsm_prepare_instance(uuid) IS
'Registers the connection''s data source on the instance and waits, at most 30 seconds, until the dry run accepts it; without the right to do so, the error says what an administrator must create';
