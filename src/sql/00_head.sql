\echo Use "CREATE EXTENSION pgsync_itsm" to load this file. \quit

-- The API goes where the user says; what is internal always lives in pgsync_itsm.  The two must differ,
-- or a member of one could shadow a member of the other.
DO $do$
BEGIN
    IF '@extschema@' = 'pgsync_itsm' THEN
        RAISE EXCEPTION 'extension pgsync_itsm cannot be created in the schema pgsync_itsm'
            USING ERRCODE = 'invalid_schema_name',
                  DETAIL = 'That schema holds what is internal to the extension.',
                  HINT = 'CREATE SCHEMA itsm; CREATE EXTENSION pgsync_itsm SCHEMA itsm;';
    END IF;
END
$do$;

CREATE SCHEMA pgsync_itsm;
COMMENT ON SCHEMA pgsync_itsm IS 'Internals of the extension pgsync_itsm: not an interface, subject to change';
