-- Connections to HaloITSM: two addresses, a tenant on hosted ones, and what new records need there.

CREATE FUNCTION pgsync_itsm.check_halo_setting(name text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name = 'rate_limit' AND value <> '' AND (value !~ '^[0-9]{1,4}/[0-9]{1,4}$' OR split_part(value, '/', 1)::integer NOT BETWEEN 1 AND 1000
                                                OR split_part(value, '/', 2)::integer NOT BETWEEN 1 AND 3600) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give requests and seconds, as in 500/180: at most 1000 requests, 3600 seconds.';
    END IF;
    IF name = 'relation_lookup' AND value !~ '^[1-9][0-9]{0,8}$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the number of a lookup; itsm_halo_setup() lists them.';
    END IF;
    IF name = 'token_scope' AND value !~ '^[A-Za-z:._ -]*$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give scopes separated by blanks, as in read:assets edit:assets.';
    END IF;
    IF name = 'token_path' AND value !~ '^(https?:/)?/[^[:space:]]+$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a path such as /auth/token, or a whole address.';
    END IF;
    IF name = 'halo_ids' AND NOT pgsync_itsm.is_id_list(value) THEN
        RAISE EXCEPTION 'invalid value for connection setting "%"', name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is written by itsm_test_connection() and itsm_halo_setup().';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_halo_setting(text, text) IS 'Raises a clear error if a setting that HaloITSM needs has no such value';

-- What only one platform can do is refused where it is asked for, not where it would be done.
CREATE FUNCTION pgsync_itsm.check_platform_setting(platform text, name text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF platform = 'haloitsm' AND name = 'sync_direction' AND value <> 'publish' THEN
        RAISE EXCEPTION 'a connection to HaloITSM does not read: its direction is "publish"'
            USING ERRCODE = 'feature_not_supported', HINT = 'itsm_match() finds what is there already.';
    ELSIF platform = 'haloitsm' AND name = 'retire_by' AND value = 'delete' THEN
        RAISE EXCEPTION 'nothing is deleted on HaloITSM that was deleted here: it is hidden there, or left'
            USING ERRCODE = 'feature_not_supported', HINT = 'Allowed are: life_cycle, leave.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_platform_setting(text, text, text) IS 'Raises a clear error if a connection to a platform cannot be set so';

CREATE FUNCTION pgsync_itsm.is_id_list(value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_typeof(value::jsonb) = 'object' AND NOT value::jsonb @? '$.* ? (@.type() != "number")';
EXCEPTION WHEN data_exception THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_id_list(text) IS 'Is this text a flat JSON object of numbers';

-- An address with a path, as it is stored; never made anew of its host alone, since on premises it may be anywhere.
CREATE FUNCTION pgsync_itsm.clean_server(address text, what text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url text := btrim(address);
    reason text;
BEGIN
    IF url IS NULL OR url = '' THEN
        RAISE EXCEPTION 'the % must not be empty', what
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Halo shows it under Configuration > Integrations > API.';
    END IF;
    IF url !~ '^[A-Za-z][A-Za-z0-9+.-]*://' THEN
        url := 'https://' || url;
    END IF;
    url := rtrim(url, '/');
    reason := pgsync_itsm.check_url(url);
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION '% "%" cannot be used', what, url
            USING ERRCODE = 'invalid_parameter_value', DETAIL = reason,
                  HINT = 'Give it as Halo shows it under Configuration > Integrations > API; a superuser may allow other hosts in pgsync_itsm.allowed_hosts.';
    END IF;
    IF url !~ '^[a-z]+://[^/?#]+(/[A-Za-z0-9._~%-]+)*$' THEN
        RAISE EXCEPTION '% "%" is no address of a server', what, url
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give scheme, host and path only, as in https://acme.haloitsm.com/api';
    END IF;
    RETURN url;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.clean_server(text, text) IS 'An address with a path as it is stored, or an error that says what is wrong with it';

CREATE FUNCTION pgsync_itsm.halo_resource_server(address text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url text := pgsync_itsm.clean_server(address, 'resource server');
BEGIN
    RETURN CASE WHEN url ~ '^[a-z]+://[^/]+$' THEN url || '/api' ELSE url END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.halo_resource_server(text) IS 'Address of the resource server: what was given, with /api if it was a host alone';

-- Halo shows the authorisation server with /auth at its end, people also give the site, or the whole token endpoint.
CREATE FUNCTION pgsync_itsm.halo_token_address(authorisation_server text, resource_server text, tenant text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url text := CASE WHEN authorisation_server IS NULL THEN regexp_replace(resource_server, '/api$', '', 'i')
                     ELSE pgsync_itsm.clean_server(authorisation_server, 'authorisation server') END;
BEGIN
    url := regexp_replace(regexp_replace(url, '/token$', '', 'i'), '/auth$', '', 'i') || '/auth/token';
    IF tenant IS NULL OR btrim(tenant) = '' THEN
        RETURN url;
    END IF;
    IF btrim(tenant) !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$' THEN
        RAISE EXCEPTION 'invalid tenant "%"', tenant
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give it as Halo shows it under Configuration > Integrations > API; on premises there is none.';
    END IF;
    RETURN url || '?tenant=' || btrim(tenant);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.halo_token_address(text, text, text) IS 'Address of the token endpoint: of the authorisation server, /auth once, with the tenant if there is one';

CREATE FUNCTION @extschema@.itsm_connect_halo(
    namespace_id uuid,
    resource_server text,
    authorisation_server text DEFAULT NULL,
    tenant text DEFAULT NULL,
    client_id text DEFAULT NULL,
    client_secret text DEFAULT NULL,
    halo_client text DEFAULT NULL,
    halo_site text DEFAULT NULL,
    service_category text DEFAULT NULL,
    username text DEFAULT NULL,
    password text DEFAULT NULL,
    name text DEFAULT 'default',
    sync_direction text DEFAULT 'publish',
    sync_schedule text DEFAULT 'manual',
    settings jsonb DEFAULT '{}',
    session_settings jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    id uuid;
    url text;
    all_settings jsonb;
BEGIN
    PERFORM pgsync_itsm.check_namespace(namespace_id);
    PERFORM pgsync_itsm.check_entitled(namespace_id, 'haloitsm');
    url := pgsync_itsm.halo_resource_server(resource_server);
    IF client_id IS NULL OR client_secret IS NULL OR (username IS NULL) <> (password IS NULL) THEN
        RAISE EXCEPTION 'authentication "oauth2" needs %', CASE WHEN client_id IS NULL OR client_secret IS NULL THEN 'client_id and client_secret' ELSE 'username and password' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'SELECT itsm_connect_halo(''...'', ''https://acme.haloitsm.com/api'', ''https://acme.haloitsm.com/auth'', ''acme'', client_id => ''...'', client_secret => ''file:/etc/itsm/secret'', halo_client => ''...'', halo_site => ''...'', service_category => ''...'');';
    END IF;
    all_settings := coalesce(settings, '{}') || jsonb_build_object('token_path', pgsync_itsm.halo_token_address(authorisation_server, url, tenant))
        || jsonb_strip_nulls(jsonb_build_object('halo_client', nullif(btrim(halo_client), ''), 'halo_site', nullif(btrim(halo_site), ''),
                                                'service_category', nullif(btrim(service_category), '')));
    PERFORM pgsync_itsm.check_setting(s.key, s.value) FROM jsonb_each_text(all_settings) AS s WHERE s.key NOT LIKE 'filter.%';

    id := pgsync_itsm.add_connection(namespace_id, jsonb_build_object(
        'platform', 'haloitsm', 'name', name, 'instance_url', url, 'auth_type', 'oauth2',
        'oauth_grant', CASE WHEN username IS NULL THEN 'client_credentials' ELSE 'password' END,
        'client_id_vault_id', pgsync_itsm.store_secret(namespace_id, 'client_id', client_id),
        'client_secret_vault_id', pgsync_itsm.store_secret(namespace_id, 'client_secret', client_secret),
        'username_vault_id', pgsync_itsm.store_secret(namespace_id, 'username', username),
        'password_vault_id', pgsync_itsm.store_secret(namespace_id, 'password', password),
        'sync_direction', coalesce(all_settings ->> 'sync_direction', sync_direction), 'sync_schedule', sync_schedule, 'session_settings', session_settings,
        'settings', (SELECT coalesce(jsonb_object_agg(s.key, s.value), '{}') FROM jsonb_each_text(all_settings) AS s
                      WHERE s.key NOT LIKE 'filter.%' AND s.key <> 'sync_direction')));
    IF id IS NULL THEN
        RAISE EXCEPTION 'namespace % already has a haloitsm connection named "%"', namespace_id, coalesce(name, 'default')
            USING ERRCODE = 'unique_violation',
                  HINT = 'Give another name, or drop that one: SELECT itsm_disconnect(id) FROM integration_connections ...;';
    END IF;
    PERFORM @extschema@.itsm_set_filter(id, substr(s.key, 8), s.value)
       FROM jsonb_each_text(all_settings) AS s WHERE s.key LIKE 'filter.%';
    RAISE NOTICE 'connection % is stored, inactive; next: SELECT * FROM itsm_test_connection(''%''); then SELECT * FROM itsm_halo_setup(''%'');', id, id, id;
    RETURN id;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_connect_halo(uuid, text, text, text, text, text, text, text, text, text, text, text, text, text, jsonb, jsonb) IS
'Stores a connection to HaloITSM, inactive, its secrets sealed; a secret may be given as file:/path. Addresses as Halo shows them under Configuration > Integrations > API, the tenant on hosted ones; client, site and service category of new records by id or name';

CREATE FUNCTION @extschema@.itsm_halo_setup(connection_id uuid, apply boolean DEFAULT false)
RETURNS TABLE (kind text, name text, id bigint, state text, detail text)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_halo_setup';
COMMENT ON FUNCTION @extschema@.itsm_halo_setup(uuid, boolean) IS
'Asset types, key fields, statuses and kinds of relations that publishing needs on HaloITSM: found or missing there; with apply, the missing ones are made, and the ids of all are kept. Takes at most 30 seconds; to be called again until nothing is missing';

-- What a plan cannot do without: better said once than of every record.
CREATE FUNCTION pgsync_itsm.check_halo_ready(connection_id uuid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids jsonb := coalesce(pgsync_itsm.setting(connection_id, 'halo_ids'), '{}')::jsonb;
    wanted text[] := ARRAY['client', 'site', 'category', 'type business_application', 'type application_instance']
                     || CASE WHEN pgsync_itsm.setting(connection_id, 'software_as') = 'asset' THEN ARRAY['type software'] END;
    missing text[] := ARRAY(SELECT w FROM unnest(wanted) AS w WHERE NOT ids ? w);
BEGIN
    IF missing = '{}' OR NOT pgsync_itsm.is_halo(connection_id) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'the connection is not set up: % not known', array_to_string(missing, ', ')
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = CASE WHEN missing && ARRAY['client', 'site', 'category'] THEN format('SELECT * FROM itsm_test_connection(%L);', connection_id)
                          ELSE format('SELECT * FROM itsm_halo_setup(%L, apply => true);', connection_id) END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_halo_ready(uuid) IS 'Raises a clear error if ids that every record needs on HaloITSM have not been found yet';
