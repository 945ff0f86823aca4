-- Credentials: sealed in C before the first write, opened in C only.  C calls the functions here as the
-- owner of the table, so that nobody else needs a right on it; none of them returns clear text.

CREATE FUNCTION pgsync_itsm.put_secret(id uuid, namespace_id uuid, purpose text, sealed bytea) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO pgsync_itsm.integration_secrets (id, namespace_id, purpose, sealed)
    VALUES (put_secret.id, put_secret.namespace_id, put_secret.purpose, put_secret.sealed);
END;
COMMENT ON FUNCTION pgsync_itsm.put_secret(uuid, uuid, text, bytea) IS 'Stores a credential that C has sealed';

CREATE FUNCTION pgsync_itsm.sealed_secret(id uuid) RETURNS TABLE (namespace_id uuid, sealed bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.namespace_id, s.sealed FROM pgsync_itsm.integration_secrets AS s WHERE s.id = sealed_secret.id;
END;
COMMENT ON FUNCTION pgsync_itsm.sealed_secret(uuid) IS 'A credential as it is stored, for C to open; useless without the key file';

CREATE FUNCTION pgsync_itsm.remove_secret(id uuid) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM pgsync_itsm.integration_secrets AS s WHERE s.id = remove_secret.id RETURNING true;
END;
COMMENT ON FUNCTION pgsync_itsm.remove_secret(uuid) IS 'Deletes a stored credential; drop_secret() decides who may';

CREATE FUNCTION pgsync_itsm.any_sealed() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pgsync_itsm.integration_secrets);
COMMENT ON FUNCTION pgsync_itsm.any_sealed() IS 'Is there a credential that a new key file could not open?';

CREATE FUNCTION pgsync_itsm.store_secret(namespace_id uuid, purpose text, secret text) RETURNS uuid
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secrets_store';
COMMENT ON FUNCTION pgsync_itsm.store_secret(uuid, text, text) IS
'Seals a credential, or what is in a file if it is given as file:/path (needs pg_read_server_files), and returns its id; with Supabase Vault, the id of a Vault secret; NULL for NULL';

CREATE FUNCTION pgsync_itsm.drop_secret(secret_id uuid) RETURNS void
LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secrets_drop';
COMMENT ON FUNCTION pgsync_itsm.drop_secret(uuid) IS
'Destroys a stored credential of a namespace that the caller sees; harmless if it is not there';

CREATE FUNCTION pgsync_itsm.secret_ref(secret_id uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN 'secret:' || secret_id::text;
COMMENT ON FUNCTION pgsync_itsm.secret_ref(uuid) IS 'What C opens a credential by: an id, never the credential';

CREATE FUNCTION pgsync_itsm.check_file_right() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_has_role('pg_read_server_files', 'USAGE') THEN
        RAISE EXCEPTION 'permission denied to name a file of the server'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Only roles with the privileges of pg_read_server_files may do that.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_file_right() IS
'Raises an error unless the caller has the privileges of pg_read_server_files';
