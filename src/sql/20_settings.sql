-- Settings of a connection: what design section 12 leaves to the customer is a row here, not a constant in C.

CREATE FUNCTION pgsync_itsm.known_settings()
RETURNS TABLE (name text, default_value text, allowed text[], description text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.name, v.default_value, v.allowed, v.description
      FROM (VALUES
        ('write_api', 'ire', ARRAY['ire', 'instance'], 'how CIs are written: bulk identification and reconciliation, or one CI a call'),
        ('source_name', 'GetInSync', NULL, 'registered data source (choice of cmdb_ci.discovery_source)'),
        ('csdm_profile', 'getinsync', ARRAY['getinsync', 'csdm'], 'relationship types: as the integration design draws them, or as CSDM does'),
        ('consumes_type', NULL, NULL, 'relationship type of application to profile; empty: by csdm_profile'),
        ('depends_on_type', NULL, NULL, 'relationship type of profile and IT service; empty: by csdm_profile'),
        ('runs_on_type', 'Runs on::Runs', NULL, 'relationship type of profile to software'),
        ('sends_data_type', 'Sends data to::Receives data from', NULL, 'relationship type of a data flow'),
        ('exchanges_data_type', 'Exchanges data with::Exchanges data with', NULL, 'relationship type of a bidirectional data flow'),
        ('ba_relation', 'Consumes::Consumed by', ARRAY['Consumes::Consumed by', 'Uses::Used by'], 'application to profile under csdm_profile csdm'),
        ('product_model_table', 'cmdb_software_product_model', NULL, 'table of software models'),
        ('runs_on_as', 'software_package', ARRAY['software_package', 'relation', 'off'], 'what "runs on" becomes there'),
        ('on_existing', 'hold', ARRAY['hold', 'adopt'], 'what happens to a record found there by name that is not ours'),
        ('similar_names', '0.5', NULL, 'how alike two names must be to be proposed as one, 0 to 1 (pg_trgm)'),
        ('similar_services', '0.3', NULL, 'the same for IT services, which are few and named more freely'),
        ('on_edited', 'hold', ARRAY['hold', 'overwrite'], 'what happens to a record of ours that somebody edited there, where an update would undo that'),
        ('dry_run', 'true', ARRAY['true', 'false'], 'have the platform''s own engine decide what a preview, or a first publish to be approved, would do'),
        ('plan_max_age', '7 days', NULL, 'a kept plan that is older cannot be applied any more'),
        ('update_matched', 'false', ARRAY['true', 'false'], 'write to services and products that were matched, not created'),
        ('publish_retired', 'false', ARRAY['true', 'false'], 'publish what is retired and was never published'),
        ('send_number', 'false', ARRAY['true', 'false'], 'send APP-0042 as the number of a Business Application'),
        ('life_cycle_write', 'both', ARRAY['pair', 'legacy', 'both'], 'life-cycle columns, legacy status columns, or both'),
        ('offering_parent', 'off', NULL, 'parent of service offerings: off, or the name of a technical service there'),
        ('default_owner', NULL, NULL, 'e-mail or user name of the IT owner where the portfolio names none'),
        ('create_companies', 'true', ARRAY['true', 'false'], 'create vendors and manufacturers that are missing there'),
        ('create_contacts', 'false', ARRAY['true', 'false'], 'create users that are missing there'),
        ('contract_model', 'Maintenance', NULL, 'name of the contract model that contracts get; mandatory there'),
        ('delete_roles', NULL, NULL, 'roles there that allow deleting in a rollback, besides those of the base system; comma list'),
        ('retire_by', 'life_cycle', ARRAY['life_cycle', 'delete', 'leave'], 'what a deleted record means there'),
        ('shrink_percent', '10', NULL, 'a source that lost more than this share of its mapped rows needs approval'),
        ('max_changes', NULL, NULL, 'a run that would change more records than this number, or share as in 20%, needs approval; empty: off'),
        ('filter.application', 'management_classification IN (''apm'', ''alm'')', NULL, 'which applications are in scope (SQL over source columns)'),
        ('filter.deployment_profile', NULL, NULL, 'which profiles are in scope'),
        ('filter.it_service', NULL, NULL, 'which services are in scope'),
        ('filter.software_product', 'linked', NULL, 'which products are in scope'),
        ('filter.contract', NULL, NULL, 'which contracts are in scope'),
        ('filter.contact', NULL, NULL, 'which contacts are in scope'),
        ('max_concurrency', '2', NULL, 'requests in flight at once, 1 to 64'),
        ('requests_per_hour', NULL, NULL, 'ceiling of requests an hour; empty: what the platform announces'),
        ('max_share', '90', NULL, 'percent of an hourly limit of the platform that is used; the rest is left to others'),
        ('breaker_failures', '5', NULL, 'failed requests in a row after which a connection is left alone until a probe succeeds'),
        ('batch_items', '500', NULL, 'CIs in one payload at the most, 1 to 500'),
        ('batch_bytes', '4000000', NULL, 'bytes of one payload at the most'),
        ('max_attempts', '8', NULL, 'attempts before an item is dead'),
        ('daily_at', '02:00', NULL, 'times of day of sync_schedule daily, such as 06:00, 18:00'),
        ('time_zone', 'UTC', NULL, 'time zone of all times of day here'),
        ('reconcile_at', '03:00', NULL, 'time of day at which what is there is compared as well; with sync_schedule manual only if it is set, with daily at daily_at unless it is'),
        ('reconcile_every', '7 days', NULL, 'how often that is done; empty: never'),
        ('refresh_after', '45 days', NULL, 'CIs of ours that were not written for this long are confirmed, in spare budget, before the platform calls them stale; empty: never; with sync_schedule manual only if it is set'),
        ('blackout', NULL, NULL, 'when nothing is sent: Mon-Fri 08:00-18:00; Sat,Sun 22:00-06:00; 2026-12-20..2027-01-05'),
        ('blackout_stops', 'automatic', ARRAY['automatic', 'all'], 'what a black-out holds back: runs that started by themselves, or those started by hand as well'),
        ('reference_ttl', '1 day', NULL, 'how long a resolved reference is believed'),
        ('verify', 'true', ARRAY['true', 'false'], 'read back what was written and compare'),
        ('sync_direction', NULL, ARRAY['publish', 'subscribe', 'both'], 'what the connection does: write there, read back, or both'),
        ('conflict_policy', 'manual', ARRAY['manual', 'last_write_wins', 'local_wins', 'remote_wins'], 'what happens to a field that was changed on both sides, unless its mapping says'),
        ('read_tables', 'cmdb_ci_business_app,cmdb_ci_service_auto,service_offering,cmdb_ci_service_technical,cmdb_software_product_model,ast_contract,core_company,sys_user,sys_user_group,cmdb_ci_server,cmdb_ci_computer',
         NULL, 'tables that itsm_subscribe() reads there, classes below included; relationships and deletions come along'),
        ('read_overlap', '10 minutes', NULL, 'how far before the last change a reading begins: for what was committed late, and clocks that differ'),
        ('intake', NULL, NULL, 'what is taken over from there into tables here: server, computer; comma list; empty: nothing'),
        ('read_every', '15 minutes', NULL, 'how often what was changed there is read by itself, for schedules daily and on_change; empty: not at all'),
        ('read_page', '1000', NULL, 'rows of one page, at the most; fewer where that takes long'),
        ('read_unit', 'minute', ARRAY['minute', 'hour'], 'unit in which the platform is told how long ago a change may be'),
        ('sweep_every', '1 day', NULL, 'how often the ids of whole tables are read, to find what was deleted or changed without a trace'),
        ('token_path', '/oauth_token.do', NULL, 'path of the token endpoint, or its whole address'),
        ('token_scope', NULL, NULL, 'scopes that a token is asked for, separated by blanks; empty: none are named'),
        ('rate_limit', NULL, NULL, 'requests in any span of so many seconds, as in 500/180, where the platform has such a limit and announces none; max_share percent of it are used; empty: off'),
        ('software_as', 'asset', ARRAY['asset', 'licence', 'off'], 'HaloITSM: what software products become'),
        ('relation_writes', 'auto', ARRAY['auto', 'add', 'list'], 'HaloITSM: how relations are written: by members that add and remove, or as whole lists; auto: by the build there, and each is looked at again'),
        ('relation_lookup', NULL, NULL, 'HaloITSM: number of the lookup that holds the kinds of relations; empty: relations have no kind'),
        ('halo_client', NULL, NULL, 'HaloITSM: client that new records belong to, by id or name'),
        ('halo_site', NULL, NULL, 'HaloITSM: its site, by id or name'),
        ('service_category', NULL, NULL, 'HaloITSM: category of new services, by id or name'),
        ('application_type', 'Business Application', NULL, 'HaloITSM: asset type of applications'),
        ('profile_type', 'Application Instance', NULL, 'HaloITSM: asset type of deployment profiles'),
        ('software_type', 'Software', NULL, 'HaloITSM: asset type of software products'),
        ('flagged_types', 'refuse', ARRAY['refuse', 'use'], 'HaloITSM: asset types of Halo''s own service model, which makes records of them by itself'),
        ('asset_group', 'Configuration Items', NULL, 'HaloITSM: asset group of types that itsm_halo_setup() makes'),
        ('application_name_field', 'Application name', NULL, 'HaloITSM: field that holds the name of an application, and is the first key field of its type'),
        ('profile_name_field', 'Instance name', NULL, 'HaloITSM: the same of a deployment profile'),
        ('software_name_field', 'Software name', NULL, 'HaloITSM: the same of a software product'),
        ('halo_ids', NULL, NULL, 'HaloITSM: ids that the connection test and itsm_halo_setup() have found there (JSON)')
      ) AS v(name, default_value, allowed, description);
END;
COMMENT ON FUNCTION pgsync_itsm.known_settings() IS 'Every setting of a connection with default, allowed values and meaning';

CREATE FUNCTION pgsync_itsm.setting(connection_id uuid, name text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT nullif(coalesce(c.settings ->> setting.name, d.default_value, k.default_value), '')
      FROM @extschema@.integration_connections AS c
      LEFT JOIN pgsync_itsm.known_settings() AS k ON k.name = setting.name
      LEFT JOIN pgsync_itsm.platform_defaults() AS d ON d.platform = c.platform AND d.name = setting.name
     WHERE c.id = setting.connection_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.setting(uuid, text) IS 'Effective value of one setting of a connection; NULL if unset';

CREATE FUNCTION pgsync_itsm.effective_settings(connection_id uuid) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT json_object_agg(k.name, coalesce(c.settings ->> k.name, d.default_value, k.default_value, ''))
      FROM @extschema@.integration_connections AS c
     CROSS JOIN pgsync_itsm.known_settings() AS k
      LEFT JOIN pgsync_itsm.platform_defaults() AS d ON d.platform = c.platform AND d.name = k.name
     WHERE c.id = effective_settings.connection_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.effective_settings(uuid) IS 'All effective settings of a connection as one flat object of strings';

CREATE FUNCTION pgsync_itsm.is_interval(value text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN value::interval > interval '0';
EXCEPTION WHEN data_exception THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_interval(text) IS 'Is this text an interval of more than no time';

CREATE FUNCTION pgsync_itsm.check_setting(name text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
    high bigint;
BEGIN
    SELECT * INTO k FROM pgsync_itsm.known_settings() AS s WHERE s.name = check_setting.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unrecognized connection setting "%"', name
            USING ERRCODE = 'undefined_object',
                  HINT = 'SELECT name, default_value, description FROM pgsync_itsm.known_settings();';
    END IF;
    IF value IS NULL THEN
        RETURN;
    END IF;
    PERFORM pgsync_itsm.check_schedule_setting(name, value);
    PERFORM pgsync_itsm.check_read_setting(name, value);
    PERFORM pgsync_itsm.check_halo_setting(name, value);
    IF k.allowed IS NOT NULL AND value <> ALL (k.allowed) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('Allowed are: %s.', array_to_string(k.allowed, ', '));
    END IF;
    high := CASE name WHEN 'max_concurrency' THEN 64 WHEN 'read_page' THEN 1000 WHEN 'batch_items' THEN 500 WHEN 'batch_bytes' THEN 9000000
                      WHEN 'max_attempts' THEN 100 WHEN 'shrink_percent' THEN 100
                      WHEN 'max_share' THEN 100 WHEN 'breaker_failures' THEN 1000
                      WHEN 'requests_per_hour' THEN 10000000 END;
    IF high IS NOT NULL AND (value !~ '^[0-9]{1,8}$' OR value::bigint NOT BETWEEN 1 AND high) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = format('Allowed are whole numbers from 1 to %s.', high);
    END IF;
    IF name = 'max_changes' AND value !~ '^[0-9]{1,9}%?$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number of records, or a share such as 20%.';
    END IF;
    IF name IN ('similar_names', 'similar_services') AND value !~ '^(0\.[0-9]{1,4}|1(\.0{1,4})?)$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 0.0 to 1, such as 0.5.';
    END IF;
    IF name = 'offering_parent' AND value = 'service_type' THEN
        RAISE EXCEPTION 'offering_parent cannot be service_type'
            USING ERRCODE = 'feature_not_supported', HINT = 'Give the name of a technical service there, or off.';
    END IF;
    IF name IN ('reference_ttl', 'plan_max_age') AND NOT pgsync_itsm.is_interval(value) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a time that is longer than none, such as 1 day.';
    END IF;
    IF name IN ('product_model_table') AND value !~ '^[a-z][a-z0-9_]{0,79}$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the name of a table, such as cmdb_software_product_model.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_setting(text, text) IS 'Raises a clear error if a connection setting has no such name or value';

CREATE FUNCTION pgsync_itsm.own_connection(connection_id uuid) RETURNS @extschema@.integration_connections
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
BEGIN
    SELECT * INTO c FROM @extschema@.integration_connections AS i WHERE i.id = connection_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'connection % does not exist', coalesce(connection_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'SELECT id, namespace_id, platform, name FROM integration_connections;';
    END IF;
    IF NOT pg_has_role(c.owner, 'MEMBER') THEN
        RAISE EXCEPTION 'must be a member of the owner of connection %', connection_id
            USING ERRCODE = 'insufficient_privilege', DETAIL = format('Its owner is %I.', c.owner);
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.own_connection(uuid) IS
'The connection''s row, or an error if it is not there, not visible, or its owner is a role the caller is no member of';

CREATE FUNCTION @extschema@.itsm_set(connection_id uuid, name text, value text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pgsync_itsm.own_connection(connection_id);
    IF name LIKE 'filter.%' AND value IS NOT NULL THEN
        PERFORM @extschema@.itsm_set_filter(connection_id, substr(name, 8), value);
        RETURN;
    END IF;
    PERFORM pgsync_itsm.check_setting(name, value);
    PERFORM pgsync_itsm.change_setting(connection_id, name, value);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set(uuid, text, text) IS
'Changes one setting of a connection (NULL: back to the default); names and meanings: pgsync_itsm.known_settings()';
