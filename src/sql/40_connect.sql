-- Connections: made inactive, secrets sealed before the first write, told apart by (namespace, platform, name).

CREATE FUNCTION pgsync_itsm.cluster_fingerprint() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT s.system_identifier::text || '/' || d.oid::text || '/' || coalesce(current_setting('pgsync_itsm.site', true), '')
          FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database());
COMMENT ON FUNCTION pgsync_itsm.cluster_fingerprint() IS
'System identifier, database and pgsync_itsm.site: a copy of the database has another one; definer rights for pg_control_system()';

CREATE FUNCTION pgsync_itsm.is_adopted() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN coalesce((SELECT s.fingerprint IS NULL OR s.fingerprint = pgsync_itsm.cluster_fingerprint() FROM pgsync_itsm.site AS s), true);
COMMENT ON FUNCTION pgsync_itsm.is_adopted() IS 'False in a copy of the database, until itsm_adopt() is called there';

-- Of what is being written now; the last checkpoint may be of the one before.
CREATE FUNCTION pgsync_itsm.present_timeline() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint;
COMMENT ON FUNCTION pgsync_itsm.present_timeline() IS 'Timeline of this server: a promotion begins another one';

-- The first connection ties the data to this cluster; data that came by dump keep the fingerprint of where they lived.
CREATE FUNCTION pgsync_itsm.claim_cluster() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO pgsync_itsm.site AS s (only_one, fingerprint, adopted_at, timeline)
    VALUES (true, pgsync_itsm.cluster_fingerprint(), now(), pgsync_itsm.present_timeline())
    ON CONFLICT (only_one) DO UPDATE SET fingerprint = excluded.fingerprint, adopted_at = excluded.adopted_at, timeline = excluded.timeline
     WHERE s.fingerprint IS NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.claim_cluster() IS 'Stores this cluster''s fingerprint unless there is one';

-- Another server may have sent what still waits here.
CREATE FUNCTION pgsync_itsm.doubt_open_runs() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_run_items AS i SET in_doubt = true, unheard = true
      FROM @extschema@.integration_runs AS r
     WHERE r.id = i.run_id AND r.status IN ('queued', 'planned', 'needs_approval', 'running') AND i.state IN ('planned', 'pending') AND i.action = 'CREATE';
END;
COMMENT ON FUNCTION pgsync_itsm.doubt_open_runs() IS 'Has everything that open runs would make be looked for first';

CREATE FUNCTION pgsync_itsm.adopt_database() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What the dump says is on the wire is on another server's: nobody here will hear of it.
    IF NOT pgsync_itsm.is_adopted() THEN
        PERFORM pgsync_itsm.doubt_open_runs();
        PERFORM pgsync_itsm.recover();
    END IF;
    INSERT INTO pgsync_itsm.site AS s (only_one, fingerprint, adopted_at, timeline)
    VALUES (true, pgsync_itsm.cluster_fingerprint(), now(), pgsync_itsm.present_timeline())
    ON CONFLICT (only_one) DO UPDATE SET fingerprint = excluded.fingerprint, adopted_at = excluded.adopted_at, timeline = excluded.timeline;
    PERFORM pgsync_itsm.wake();
    RETURN pgsync_itsm.cluster_fingerprint();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.adopt_database() IS 'Ties the data to this cluster, whatever one they came from';

CREATE FUNCTION @extschema@.itsm_adopt(connection_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
BEGIN
    IF connection_id IS NULL THEN
        PERFORM pgsync_itsm.check_may_secure();
        RAISE NOTICE 'this database now serves its connections; make sure that the one it was copied from does not';
        RETURN pgsync_itsm.adopt_database();
    END IF;
    c := pgsync_itsm.own_connection(connection_id);
    PERFORM pgsync_itsm.adopt_instance(connection_id);
    RAISE NOTICE 'next: SELECT * FROM itsm_test_connection(''%'');', connection_id;
    RETURN c.instance_url;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_adopt(uuid) IS
'Says that this copy of the database may push from now on; with a connection: that the instance behind its address is the right one';

-- A namespace that is somebody else's is none.
CREATE FUNCTION pgsync_itsm.check_namespace(namespace_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.check_sees_namespace(namespace_id);
    IF NOT pgsync_itsm.namespace_exists(namespace_id) THEN
        RAISE EXCEPTION 'namespace % does not exist', namespace_id
            USING ERRCODE = 'undefined_object', HINT = format('SELECT id, name FROM %I.namespaces;', coalesce(pgsync_itsm.attached_schema(), 'public'));
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_namespace(uuid) IS
'Raises the same error for a namespace that the attached schema does not have and for one that the caller does not see';

CREATE FUNCTION pgsync_itsm.attached_schema() RETURNS name
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT s.getinsync_schema FROM pgsync_itsm.site AS s);
COMMENT ON FUNCTION pgsync_itsm.attached_schema() IS
'Schema that itsm_attach_getinsync() was called for, NULL if none; definer rights because the row is internal';

CREATE FUNCTION pgsync_itsm.clean_address(instance_url text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url text := btrim(instance_url);
    reason text;
BEGIN
    IF url IS NULL OR url = '' THEN
        RAISE EXCEPTION 'the instance address must not be empty' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give it as in https://acme.service-now.com';
    END IF;
    IF url !~ '^[A-Za-z][A-Za-z0-9+.-]*://' THEN
        url := 'https://' || url;
    END IF;
    url := rtrim(url, '/');
    reason := pgsync_itsm.check_url(url);
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION 'address "%" cannot be used', url
            USING ERRCODE = 'invalid_parameter_value', DETAIL = reason,
                  HINT = 'Give it as in https://acme.service-now.com; a superuser may allow other hosts in pgsync_itsm.allowed_hosts.';
    END IF;
    IF url !~ '^[a-z]+://[^/?#]+$' THEN
        RAISE EXCEPTION 'address "%" has a path', url
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give scheme and host only, as in https://acme.service-now.com';
    END IF;
    RETURN url;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.clean_address(text) IS 'An instance address as it is stored, or an error that says what is wrong with it';

CREATE FUNCTION @extschema@.itsm_connect_servicenow(
    namespace_id uuid,
    instance_url text,
    client_id text DEFAULT NULL,
    client_secret text DEFAULT NULL,
    username text DEFAULT NULL,
    password text DEFAULT NULL,
    default_owner text DEFAULT NULL,
    name text DEFAULT 'default',
    auth_type text DEFAULT NULL,
    api_key text DEFAULT NULL,
    client_cert_file text DEFAULT NULL,
    client_key_file text DEFAULT NULL,
    sync_direction text DEFAULT 'publish',
    sync_schedule text DEFAULT 'manual',
    write_api text DEFAULT NULL,
    settings jsonb DEFAULT '{}',
    session_settings jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    id uuid;
    auth text := coalesce(auth_type, CASE WHEN client_id IS NOT NULL THEN 'oauth2'
                                          WHEN api_key IS NOT NULL THEN 'api_key'
                                          WHEN client_cert_file IS NOT NULL THEN 'client_certificate'
                                          ELSE 'basic' END);
    oauth text := CASE WHEN auth = 'oauth2'
                       THEN CASE WHEN username IS NULL THEN 'client_credentials' ELSE 'password' END END;
    all_settings jsonb := coalesce(settings, '{}')
        || CASE WHEN default_owner IS NULL THEN '{}' ELSE jsonb_build_object('default_owner', default_owner) END
        || CASE WHEN write_api IS NULL THEN '{}' ELSE jsonb_build_object('write_api', write_api) END;
    url text;
    missing text;
BEGIN
    PERFORM pgsync_itsm.check_namespace(namespace_id);
    PERFORM pgsync_itsm.check_entitled(namespace_id, 'servicenow');
    url := pgsync_itsm.clean_address(instance_url);
    missing := CASE
        WHEN auth = 'oauth2' AND (client_id IS NULL OR client_secret IS NULL) THEN 'client_id and client_secret'
        WHEN (auth = 'basic' OR oauth = 'password') AND (username IS NULL OR password IS NULL) THEN 'username and password'
        WHEN auth = 'api_key' AND api_key IS NULL THEN 'api_key'
        WHEN auth = 'client_certificate' AND (client_cert_file IS NULL OR client_key_file IS NULL)
            THEN 'client_cert_file and client_key_file'
        WHEN auth NOT IN ('oauth2', 'basic', 'api_key', 'client_certificate') THEN 'a known auth_type' END;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'authentication "%" needs %', auth, missing
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'SELECT itsm_connect_servicenow(''...'', ''https://acme.service-now.com'', client_id => ''...'', client_secret => ''file:/etc/itsm/secret'');';
    END IF;
    IF client_cert_file IS NOT NULL OR client_key_file IS NOT NULL THEN
        PERFORM pgsync_itsm.check_file_right();
    END IF;
    PERFORM pgsync_itsm.check_setting(s.key, s.value) FROM jsonb_each_text(all_settings) AS s
      WHERE s.key NOT LIKE 'filter.%';

    id := pgsync_itsm.add_connection(namespace_id, jsonb_build_object(
        'platform', 'servicenow', 'name', name, 'instance_url', url, 'auth_type', auth, 'oauth_grant', oauth,
        'client_id_vault_id', pgsync_itsm.store_secret(namespace_id, 'client_id', client_id),
        'client_secret_vault_id', pgsync_itsm.store_secret(namespace_id, 'client_secret', client_secret),
        'username_vault_id', pgsync_itsm.store_secret(namespace_id, 'username', username),
        'password_vault_id', pgsync_itsm.store_secret(namespace_id, 'password', password),
        'api_key_vault_id', pgsync_itsm.store_secret(namespace_id, 'api_key', api_key),
        'client_cert_file', client_cert_file, 'client_key_file', client_key_file,
        'sync_direction', coalesce(all_settings ->> 'sync_direction', sync_direction), 'sync_schedule', sync_schedule, 'session_settings', session_settings,
        'settings', (SELECT coalesce(jsonb_object_agg(s.key, s.value), '{}') FROM jsonb_each_text(all_settings) AS s
                      WHERE s.key NOT LIKE 'filter.%' AND s.key <> 'sync_direction')));
    IF id IS NULL THEN
        RAISE EXCEPTION 'namespace % already has a servicenow connection named "%"', namespace_id, coalesce(name, 'default')
            USING ERRCODE = 'unique_violation',
                  HINT = 'Give another name, or drop that one: SELECT itsm_disconnect(id) FROM integration_connections ...;';
    END IF;
    PERFORM @extschema@.itsm_set_filter(id, substr(s.key, 8), s.value)
       FROM jsonb_each_text(all_settings) AS s WHERE s.key LIKE 'filter.%';
    RAISE NOTICE 'connection % is stored, inactive; next: SELECT * FROM itsm_test_connection(''%'');', id, id;
    RETURN id;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_connect_servicenow(uuid, text, text, text, text, text, text, text, text, text, text, text, text, text, text, jsonb, jsonb) IS
'Stores a connection to a ServiceNow instance, inactive, its secrets sealed; a secret may be given as file:/path. client_id alone: OAuth client credentials; with username: password grant; without client_id: basic, API key or client certificate';

CREATE FUNCTION @extschema@.itsm_disconnect(connection_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.own_connection(connection_id);
BEGIN
    PERFORM pgsync_itsm.remove_connection(c.id);
    RAISE NOTICE 'connection and secrets are gone; its map and its log are kept';
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_disconnect(uuid) IS
'Removes a connection and destroys its secrets; what was published stays on the platform, map and log stay here';

CREATE FUNCTION @extschema@.itsm_activate(connection_id uuid, active boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.own_connection(connection_id);
BEGIN
    IF active IS NULL THEN
        RAISE EXCEPTION 'active must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF active AND c.instance_name IS NULL THEN
        RAISE WARNING 'connection % has not been tested', connection_id
            USING HINT = format('SELECT * FROM itsm_test_connection(%L);', connection_id);
    END IF;
    PERFORM pgsync_itsm.set_active(c.id, active);
    IF active THEN
        RAISE NOTICE 'next: SELECT itsm_publish(''%'');', c.namespace_id;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_activate(uuid, boolean) IS
'Turns a connection on (ending a pause as well) or off';

CREATE FUNCTION pgsync_itsm.connection_info(connection_id uuid)
RETURNS TABLE (namespace_id uuid, platform text, instance_url text, auth_type text, oauth_grant text,
               client_id_ref text, client_secret_ref text, username_ref text, password_ref text, api_key_ref text,
               client_cert_file text, client_key_file text, max_concurrency integer, settings json,
               token_url_path text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.namespace_id, c.platform, c.instance_url, c.auth_type, c.oauth_grant,
           pgsync_itsm.secret_ref(c.client_id_vault_id), pgsync_itsm.secret_ref(c.client_secret_vault_id),
           pgsync_itsm.secret_ref(c.username_vault_id), pgsync_itsm.secret_ref(c.password_vault_id),
           pgsync_itsm.secret_ref(c.api_key_vault_id), c.client_cert_file, c.client_key_file,
           pgsync_itsm.setting(c.id, 'max_concurrency')::integer, pgsync_itsm.effective_settings(c.id),
           pgsync_itsm.setting(c.id, 'token_path')
      FROM @extschema@.integration_connections AS c
     WHERE c.id = connection_info.connection_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.connection_info(uuid) IS 'What the worker needs of a connection; secrets as references only';

CREATE FUNCTION pgsync_itsm.store_instance_name(connection_id uuid, instance text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text;
BEGIN
    UPDATE @extschema@.integration_connections AS c SET instance_name = instance, updated_at = now()
     WHERE c.id = connection_id AND c.instance_name IS NULL;
    SELECT c.instance_name INTO known FROM @extschema@.integration_connections AS c WHERE c.id = connection_id;
    RETURN known IS NOT DISTINCT FROM instance;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_instance_name(uuid, text) IS
'Remembers which instance answered first; false if another one answers now';

CREATE FUNCTION pgsync_itsm.pause_connection(connection_id uuid, error_class text, message text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_connections AS c
       SET paused_at = coalesce(c.paused_at, now()), pause_class = pause_connection.error_class,
           pause_reason = pause_connection.message, last_error = pause_connection.message
     WHERE c.id = pause_connection.connection_id;
    SELECT pgsync_itsm.end_claims('paused', ARRAY(SELECT c.id FROM pgsync_itsm.claims AS c WHERE c.connection_id = pause_connection.connection_id));
    UPDATE pgsync_itsm.lookups AS l
       SET state = 'pending', lease_until = NULL, generation = l.generation + 1
     WHERE l.connection_id = pause_connection.connection_id AND l.state = 'sent';
END;
COMMENT ON FUNCTION pgsync_itsm.pause_connection(uuid, text, text) IS
'Nothing is sent for this connection until itsm_activate(); what was claimed waits again';
