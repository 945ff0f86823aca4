-- Tables.  API relations live in the extension's schema, everything internal in pgsync_itsm.
-- Every integration_* table carries namespace_id, the only thing row-level security looks at.

CREATE FUNCTION pgsync_itsm.new_id() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'pgsync_itsm_new_id';
COMMENT ON FUNCTION pgsync_itsm.new_id() IS 'A new id, greater than those made before (UUID version 7): rows that come by the thousand are appended to their index';

CREATE TABLE @extschema@.integration_connections (
    id                     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id           uuid NOT NULL,
    platform               text NOT NULL CHECK (platform IN ('servicenow', 'haloitsm')),
    name                   text NOT NULL DEFAULT 'default',
    instance_url           text NOT NULL,
    auth_type              text NOT NULL DEFAULT 'oauth2'
                           CHECK (auth_type IN ('oauth2', 'basic', 'api_key', 'client_certificate')),
    oauth_grant            text CHECK (oauth_grant IN ('client_credentials', 'password')),
    client_id_vault_id     uuid,
    client_secret_vault_id uuid,
    username_vault_id      uuid,
    password_vault_id      uuid,
    api_key_vault_id       uuid,
    client_cert_file       text,
    client_key_file        text,
    sync_direction         text NOT NULL DEFAULT 'publish'
                           CHECK (sync_direction IN ('publish', 'subscribe', 'both')),
    sync_schedule          text NOT NULL DEFAULT 'manual'
                           CHECK (sync_schedule IN ('manual', 'daily', 'on_change')),
    is_active              boolean NOT NULL DEFAULT false,
    owner                  name NOT NULL DEFAULT current_user,
    session_settings       jsonb NOT NULL DEFAULT '{}',
    settings               jsonb NOT NULL DEFAULT '{}',
    instance_name          text,
    paused_at              timestamptz,
    pause_class            text,
    pause_reason           text,
    full_plan_after        pg_snapshot,
    full_plan_for          pg_snapshot,
    full_plan_from         pg_snapshot,
    first_publish_at       timestamptz,
    scheduled_at           timestamptz,
    reconciled_at          timestamptz,
    next_run_at            timestamptz,
    blackout_until         timestamptz,
    look_at                timestamptz,
    last_sync_at           timestamptz,
    last_error             text,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace_id, platform, name)
);
-- every transaction that changes a watched table looks here, and one that deletes in the unique index
CREATE INDEX integration_connections_on_change ON @extschema@.integration_connections (namespace_id) WHERE sync_schedule = 'on_change';

-- entity_type of the map, the items and the log: application, deployment_profile, it_service,
-- software_product (a model), software_package (the CI of the same product), contract, contact,
-- company, and the relationships consumes, depends_on, runs_on, sends_data_to, covers.
CREATE TABLE @extschema@.integration_sync_map (
    id              uuid PRIMARY KEY DEFAULT pgsync_itsm.new_id(),
    connection_id   uuid NOT NULL,
    namespace_id    uuid NOT NULL,
    entity_type     text NOT NULL,
    entity_id       uuid NOT NULL,
    native_key      text NOT NULL,
    external_id     text NOT NULL,
    external_table  text,
    external_number text,
    external_url    text,
    published_name  text,
    parent_id       uuid,
    child_id        uuid,
    rel_type        text,
    sync_direction  text NOT NULL CHECK (sync_direction IN ('published', 'subscribed')),
    created_by_us   boolean NOT NULL DEFAULT false,
    state           text NOT NULL DEFAULT 'linked' CHECK (state IN ('linked', 'retired', 'left', 'gone')),
    deleted_at      timestamptz,
    last_synced_at  timestamptz,
    refreshed_at    timestamptz,
    last_sync_hash  text,
    last_sent_hash  text,
    last_agreed     json,
    not_taken       jsonb,
    source_hash     text,
    source_version  text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (connection_id, entity_id, entity_type)
) WITH (fillfactor = 85);
CREATE INDEX integration_sync_map_deleted ON @extschema@.integration_sync_map (connection_id) WHERE deleted_at IS NOT NULL;
CREATE INDEX integration_sync_map_parent ON @extschema@.integration_sync_map (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX integration_sync_map_child ON @extschema@.integration_sync_map (child_id) WHERE child_id IS NOT NULL;
-- Relationships are many, and nobody looks for them by name.
CREATE INDEX integration_sync_map_external ON @extschema@.integration_sync_map (external_id) WHERE parent_id IS NULL;
CREATE INDEX integration_sync_map_name ON @extschema@.integration_sync_map (connection_id, entity_type, lower(published_name))
    WHERE parent_id IS NULL;

CREATE TABLE @extschema@.integration_sync_log (
    id               uuid PRIMARY KEY DEFAULT pgsync_itsm.new_id(),
    connection_id    uuid NOT NULL,
    namespace_id     uuid NOT NULL,
    run_id           bigint,
    item_id          bigint,
    operation        text NOT NULL CHECK (operation IN ('create', 'update', 'delete', 'read')),
    entity_type      text NOT NULL,
    entity_id        uuid,
    external_id      text,
    status           text NOT NULL CHECK (status IN ('success', 'error', 'skipped')),
    request_payload  json,
    response_payload json,
    error_class      text,
    error_message    text,
    http_status      integer,
    created_at       timestamptz NOT NULL DEFAULT now()
);
-- Appended in the order of time, and of runs: an index of ranges costs nothing to keep.
CREATE INDEX integration_sync_log_time ON @extschema@.integration_sync_log USING brin (created_at, run_id) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX integration_sync_log_record ON @extschema@.integration_sync_log (entity_id);

-- The trigger numbers its rows itself (transaction * 2^20 + row), without the sequence, and may meet the numbers of a dump.
CREATE TABLE @extschema@.integration_queue (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    relation     oid NOT NULL,
    op           "char" NOT NULL,
    key_column   text,
    keys         text[] NOT NULL,
    namespace_id uuid,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at           timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX integration_queue_id ON @extschema@.integration_queue (id);
-- compressing keys costs more than writing them, and each is read once
ALTER TABLE @extschema@.integration_queue ALTER COLUMN keys SET STORAGE EXTERNAL;

CREATE TABLE @extschema@.integration_runs (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id    uuid NOT NULL,
    connection_id   uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('preview', 'publish', 'subscribe', 'match', 'rollback')),
    origin          text NOT NULL DEFAULT 'call' CHECK (origin IN ('call', 'schedule', 'on_change')),
    purpose         text CHECK (purpose IN ('reconcile', 'refresh', 'preview', 'decision')),
    status          text NOT NULL DEFAULT 'queued'
                    CHECK (status IN ('queued', 'planning', 'planned', 'needs_approval', 'running',
                                      'done', 'failed', 'cancelled')),
    phase           text NOT NULL DEFAULT 'queued',
    plan_lane       text CHECK (plan_lane IN ('planner', 'slow')),
    confirm         boolean NOT NULL DEFAULT false,
    partial         boolean NOT NULL DEFAULT false,
    applications    uuid[],
    rolls_back      bigint,
    rollback_method text CHECK (rollback_method IN ('retire', 'delete')),
    rollback_classes jsonb,
    in_scope        bigint,
    to_create       bigint NOT NULL DEFAULT 0,
    relations_to_create bigint NOT NULL DEFAULT 0,
    to_update       bigint NOT NULL DEFAULT 0,
    to_delete       bigint NOT NULL DEFAULT 0,
    unchanged       bigint NOT NULL DEFAULT 0,
    matched         bigint NOT NULL DEFAULT 0,
    held            bigint NOT NULL DEFAULT 0,
    skipped         bigint NOT NULL DEFAULT 0,
    refused         bigint NOT NULL DEFAULT 0,
    done            bigint NOT NULL DEFAULT 0,
    warned          bigint NOT NULL DEFAULT 0,
    dead            bigint NOT NULL DEFAULT 0,
    requests        bigint NOT NULL DEFAULT 0,
    write_requests  bigint NOT NULL DEFAULT 0,
    subrequests     bigint NOT NULL DEFAULT 0,
    bytes_sent      bigint NOT NULL DEFAULT 0,
    bytes_received  bigint NOT NULL DEFAULT 0,
    side_requests   bigint NOT NULL DEFAULT 0,
    request_ms      bigint NOT NULL DEFAULT 0,
    expected        jsonb,
    summary         text,
    approval_reason text,
    error_code      text,
    error_message   text,
    error_hint      text,
    requested_by    name NOT NULL DEFAULT current_user,
    created_at      timestamptz NOT NULL DEFAULT now(),
    planned_at      timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    cancel_by       timestamptz,
    items_removed_at timestamptz
);
CREATE INDEX integration_runs_old ON @extschema@.integration_runs (finished_at) WHERE items_removed_at IS NULL AND finished_at IS NOT NULL;
CREATE INDEX integration_runs_open ON @extschema@.integration_runs (connection_id, id)
    WHERE status IN ('queued', 'planning', 'running');
CREATE INDEX integration_runs_full ON @extschema@.integration_runs (connection_id, id) WHERE NOT partial;
CREATE INDEX integration_runs_rollback ON @extschema@.integration_runs (connection_id, rolls_back) WHERE kind = 'rollback';
CREATE INDEX integration_runs_namespace ON @extschema@.integration_runs (namespace_id, id);

CREATE TABLE @extschema@.integration_run_steps (
    run_id       bigint NOT NULL,
    namespace_id uuid NOT NULL,
    step         text NOT NULL,
    ord          integer NOT NULL,
    title        text NOT NULL,
    status       text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done')),
    total        bigint NOT NULL DEFAULT 0,
    done         bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    requests     bigint NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (run_id, step)
);

-- states: planned (kept, not released), pending (also what is claimed), done, unchanged, dead, skipped,
-- held (waits for a person), refused (changed since the plan), cancelled.
CREATE TABLE @extschema@.integration_run_items (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         bigint NOT NULL,
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    ord            integer NOT NULL,
    step           text NOT NULL,
    entity_type    text NOT NULL,
    entity_id      uuid NOT NULL,
    native_key     text NOT NULL,
    label          text,
    bundle         bigint,
    action         text NOT NULL CHECK (action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE', 'MATCH',
                                                    'MISMATCH', 'SKIP', 'ERROR')),
    state          text NOT NULL CHECK (state IN ('planned', 'pending', 'done', 'unchanged', 'dead', 'skipped',
                                                  'held', 'refused', 'cancelled')),
    payload        json,
    old_values     json,
    payload_hash   text,
    source_hash    text,
    source_version text,
    external_id    text,
    external_table text,
    parent_type    text,
    parent_id      uuid,
    child_type     text,
    child_id       uuid,
    rel_type       text,
    rel_type_id    text,
    attempts       integer NOT NULL DEFAULT 0,
    in_doubt       boolean NOT NULL DEFAULT false,
    unheard        boolean NOT NULL DEFAULT false,
    not_before     timestamptz,
    outcome        text,
    operation      text,
    error_class    text,
    reason         text,
    warnings       jsonb,
    http_status    integer,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run_id, entity_id, entity_type, action)
);
CREATE INDEX integration_run_items_work ON @extschema@.integration_run_items (run_id, id, ord) WHERE state = 'pending';
CREATE INDEX integration_run_items_here ON @extschema@.integration_run_items (run_id, id) WHERE state = 'planned' AND step = 'in';
CREATE INDEX integration_run_items_later ON @extschema@.integration_run_items (not_before) WHERE state = 'pending' AND not_before IS NOT NULL;
CREATE INDEX integration_run_items_doubt ON @extschema@.integration_run_items (connection_id, entity_id) WHERE in_doubt OR unheard;
-- However few runs there were when statistics were gathered: a plan made for any run is one for a small one.
ALTER TABLE @extschema@.integration_run_items ALTER COLUMN run_id SET (n_distinct = -0.001);

CREATE TABLE @extschema@.integration_sources (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id  uuid,
    connection_id uuid,
    entity_type   text NOT NULL,
    query         text NOT NULL,
    key_type      text NOT NULL DEFAULT 'uuid',
    origin        text NOT NULL DEFAULT 'user',
    description   text,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX integration_sources_one ON @extschema@.integration_sources
    (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), entity_type);

CREATE TABLE @extschema@.integration_writers (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id   uuid,
    connection_id  uuid,
    entity_type    text NOT NULL,
    relation       text NOT NULL,
    key_column     text NOT NULL,
    columns        jsonb NOT NULL,
    changed_column text,
    origin         text NOT NULL DEFAULT 'user',
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX integration_writers_one ON @extschema@.integration_writers
    (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), entity_type);

CREATE TABLE @extschema@.integration_intakes (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id     uuid,
    connection_id    uuid,
    kind             text NOT NULL,
    relation         text NOT NULL,
    key_column       text NOT NULL,
    columns          jsonb NOT NULL,
    namespace_column text,
    gone             jsonb,
    links            jsonb,
    origin           text NOT NULL DEFAULT 'user',
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX integration_intakes_one ON @extschema@.integration_intakes
    (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), kind);

-- Which row here is which record there, of what is taken over.  Apart from the map: nothing of it is published from here.
CREATE TABLE @extschema@.integration_intake_map (
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    external_id    text NOT NULL,
    external_table text,
    kind           text NOT NULL,
    name           text,
    key            text,
    state          text NOT NULL DEFAULT 'linked' CHECK (state IN ('linked', 'waits', 'gone', 'left')),
    note           text,
    created_by_us  boolean NOT NULL DEFAULT false,
    applied        json,
    hash           text,
    links          jsonb NOT NULL DEFAULT '{}',
    taken_at       timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection_id, external_id)
) WITH (fillfactor = 85);
CREATE INDEX integration_intake_map_key ON @extschema@.integration_intake_map (connection_id, key);

CREATE TABLE @extschema@.integration_watches (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id uuid,
    relation     text NOT NULL,
    entity_type  text NOT NULL,
    key_column   text NOT NULL,
    match_by     text NOT NULL DEFAULT 'key' CHECK (match_by IN ('key', 'parent')),
    owns_key     boolean NOT NULL DEFAULT false,
    columns      text[],
    origin       text NOT NULL DEFAULT 'user',
    UNIQUE (relation, entity_type, key_column, match_by)
);

CREATE TABLE @extschema@.integration_field_mappings (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id  uuid,
    connection_id uuid,
    platform      text NOT NULL CHECK (platform IN ('servicenow', 'haloitsm')),
    entity_type   text NOT NULL,
    target_class  text NOT NULL DEFAULT '*',
    target_field  text NOT NULL,
    expression    text,
    kind          text NOT NULL DEFAULT 'text'
                  CHECK (kind IN ('text', 'date', 'user', 'agent', 'group', 'company', 'choice', 'life_cycle_stage',
                                  'life_cycle_stage_status', 'contract_model', 'reference')),
    value_map     jsonb,
    on_unresolved text NOT NULL DEFAULT 'warn' CHECK (on_unresolved IN ('warn', 'ignore', 'error')),
    direction     text NOT NULL DEFAULT 'publish' CHECK (direction IN ('publish', 'subscribe', 'both')),
    authority     text NOT NULL DEFAULT 'policy' CHECK (authority IN ('policy', 'ours', 'theirs', 'newest', 'if_empty', 'manual')),
    condition     text,
    ord           integer NOT NULL DEFAULT 100,
    is_default    boolean NOT NULL DEFAULT false,
    enabled       boolean NOT NULL DEFAULT true,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX integration_field_mappings_one ON @extschema@.integration_field_mappings
    (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), platform, entity_type, target_class, target_field,
     is_default);

CREATE TABLE @extschema@.integration_references (
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    kind           text NOT NULL,
    target         text NOT NULL DEFAULT '',
    key            text NOT NULL,
    external_id    text,
    external_table text,
    label          text,
    attrs          json,
    matches        integer NOT NULL DEFAULT 1,
    fetched_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection_id, kind, target, key)
);

CREATE TABLE @extschema@.integration_matches (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    run_id         bigint,
    entity_type    text NOT NULL,
    entity_id      uuid NOT NULL,
    native_key     text NOT NULL,
    entity_name    text,
    external_id    text,
    external_table text,
    external_name  text,
    score          real,
    reason         text,
    duplicates     bigint NOT NULL DEFAULT 1,
    decision       text NOT NULL DEFAULT 'proposed' CHECK (decision IN ('proposed', 'accepted', 'rejected', 'create')),
    decided_by     name,
    decided_at     timestamptz,
    closed_by      bigint,
    UNIQUE (connection_id, entity_id, entity_type, external_id)
);
CREATE INDEX integration_matches_external ON @extschema@.integration_matches (connection_id, external_id);

CREATE TABLE @extschema@.integration_external_records (
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    external_table text NOT NULL,
    external_id    text NOT NULL,
    target         text,
    name           text,
    attrs          json,
    first_seen     timestamptz NOT NULL DEFAULT now(),
    last_seen      timestamptz NOT NULL DEFAULT now(),
    last_changed   timestamptz,
    updated_there_at timestamptz,
    updated_there_by text,
    PRIMARY KEY (connection_id, external_id)
);

-- How far the tables there have been read: a cache, as the mirror is.
CREATE TABLE @extschema@.integration_watermarks (
    connection_id  uuid NOT NULL,
    namespace_id   uuid NOT NULL,
    external_table text NOT NULL,
    run_id         bigint NOT NULL,
    state          text NOT NULL DEFAULT 'reading' CHECK (state IN ('reading', 'done', 'refused')),
    reached_at     timestamptz,
    read_at        timestamptz,
    complete       boolean NOT NULL DEFAULT false,
    rows           bigint NOT NULL DEFAULT 0,
    changed        bigint NOT NULL DEFAULT 0,
    hidden         boolean NOT NULL DEFAULT false,
    broken         boolean NOT NULL DEFAULT false,
    expected       bigint,
    note           text,
    started_at     timestamptz NOT NULL,
    window_from    timestamptz,
    cursor_id      text NOT NULL DEFAULT '',
    cursor_offset  bigint NOT NULL DEFAULT 0,
    page_rows      integer NOT NULL DEFAULT 500,
    asked_at       timestamptz,
    swept_at       timestamptz,
    swept_whole    boolean,
    sweep_run_id   bigint,
    sweep_from     timestamptz,
    sweep_id       text,
    sweep_hidden   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (connection_id, external_table)
) WITH (fillfactor = 70);

CREATE TABLE @extschema@.integration_conflicts (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id uuid NOT NULL,
    namespace_id  uuid NOT NULL,
    run_id        bigint,
    entity_type   text NOT NULL,
    entity_id     uuid NOT NULL,
    label         text,
    field         text NOT NULL,
    base          text,
    ours          text,
    ours_at       timestamptz,
    theirs        text,
    theirs_at     timestamptz,
    theirs_by     text,
    state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    resolution    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    resolved_at   timestamptz,
    resolved_by   name
);

CREATE UNIQUE INDEX integration_conflicts_open ON @extschema@.integration_conflicts (connection_id, entity_id, entity_type, field) WHERE state = 'open';

CREATE TABLE @extschema@.integration_inbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id uuid NOT NULL,
    namespace_id  uuid NOT NULL,
    run_id        bigint,
    origin        text NOT NULL,
    external_table text,
    external_id   text,
    entity_type   text,
    entity_id     uuid,
    before        json,
    body          json,
    state         text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'applied', 'ignored', 'error')),
    reason        text,
    received_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX integration_inbox_new ON @extschema@.integration_inbox (connection_id, external_id) WHERE state IN ('new', 'error');

CREATE TABLE @extschema@.integration_entitlements (
    tier         text NOT NULL,
    platform     text NOT NULL CHECK (platform IN ('servicenow', 'haloitsm')),
    namespace_id uuid,
    allowed      boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tier, platform)
);

-- Internal tables -------------------------------------------------------------------------------

CREATE TABLE pgsync_itsm.integration_secrets (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL,
    purpose      text NOT NULL,
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- One row: which cluster this data belongs to, and the site's own visibility condition.
CREATE TABLE pgsync_itsm.site (
    only_one          boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    fingerprint       text,
    adopted_at        timestamptz,
    timeline          bigint,
    condition         text,
    purged_at         timestamptz,
    getinsync_schema  name
);

-- What attach changed, so that detach leaves the database as it was.
CREATE TABLE pgsync_itsm.attached_objects (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind   text NOT NULL CHECK (kind IN ('column', 'trigger', 'constraint')),
    relation text NOT NULL,
    name   text NOT NULL,
    origin text NOT NULL DEFAULT 'getinsync'
);

-- Which keys a partial run (on change, pilot) is about; a full run has none.  Gone: what was deleted here while the run was
-- under way, which may have made it there; nothing is read by it.
CREATE TABLE pgsync_itsm.run_keys (
    run_id      bigint NOT NULL,
    entity_type text NOT NULL,
    match_by    text NOT NULL DEFAULT 'key' CHECK (match_by IN ('key', 'parent', 'gone')),
    key         text NOT NULL,
    deleted     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run_id, entity_type, match_by, key)
);

-- Which runs have a work space; as unlogged as that.  Where the row is missing, a crash has emptied it.
CREATE UNLOGGED TABLE pgsync_itsm.plan_spaces (run_id bigint PRIMARY KEY, begun_at timestamptz NOT NULL DEFAULT now());

-- Work space of a plan.  Unlogged: a plan that a crash interrupted starts again from nothing.  A verdict UNCHANGED
-- without payload_hash says that the source row is the one that was resolved for the map, under source_version.
CREATE UNLOGGED TABLE pgsync_itsm.plan_records (
    run_id         bigint NOT NULL,
    entity_type    text NOT NULL,
    entity_id      uuid NOT NULL,
    native_key     text NOT NULL,
    name           text,
    class          text,
    parent_key     text,
    attrs          json,
    payload        json,
    payload_hash   text,
    source_hash    text,
    source_version text,
    old_values     json,
    warnings       jsonb,
    verdict        text,
    reason         text,
    external_id    text,
    external_table text,
    PRIMARY KEY (run_id, entity_id, entity_type)
);

-- How fast a connection may be talked to.  A cache: what is lost is learned again from the next answers.
CREATE TABLE pgsync_itsm.connection_pace (
    connection_id uuid PRIMARY KEY,
    state         text NOT NULL CHECK (state IN ('active', 'open', 'half_open', 'limited', 'backoff')),
    reason        text,
    until         timestamptz,
    slots         integer NOT NULL,
    rules         text[] NOT NULL,
    limits        bigint[] NOT NULL,
    used          bigint[] NOT NULL,
    resets        timestamptz[] NOT NULL,
    subs          integer[] NOT NULL,
    apis          text[] NOT NULL,
    api_rules     integer[] NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Relationships of a plan: of a plan in full only those that are not in the map as they are (the others are counted).
-- Gone are those that are in the map only.
CREATE UNLOGGED TABLE pgsync_itsm.plan_links (
    run_id      bigint NOT NULL,
    entity_type text NOT NULL,
    entity_id   uuid NOT NULL,
    native_key  text NOT NULL,
    class       text,
    parent_type text NOT NULL,
    parent_id   uuid,
    parent_key  text,
    child_type  text NOT NULL,
    child_id    uuid,
    child_key   text,
    rel_type    text,
    in_map      boolean NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('UNCHANGED', 'CREATE', 'MATCH', 'ERROR', 'SKIP', 'GONE', 'DELETE')),
    reason      text,
    external_id text,
    PRIMARY KEY (run_id, entity_id, entity_type)
);

-- Items on their way, claim by claim.  A claim is written down before anything of it is sent, and says that each of its
-- items has one attempt more; an item's own row is written once, when its answer is there.
CREATE TABLE pgsync_itsm.claims (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        bigint NOT NULL,
    connection_id uuid NOT NULL,
    item_ids      bigint[] NOT NULL,
    last_item     bigint NOT NULL,
    repeatable    boolean NOT NULL,
    lease_until   timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Questions to the platform, answered in bulk before a plan can go on.
CREATE UNLOGGED TABLE pgsync_itsm.lookups (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        bigint NOT NULL,
    connection_id uuid NOT NULL,
    kind          text NOT NULL,
    target        text NOT NULL DEFAULT '',
    keys          text[] NOT NULL,
    fields        text[] NOT NULL DEFAULT '{}',
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'done', 'failed')),
    attempts      integer NOT NULL DEFAULT 0,
    generation    integer NOT NULL DEFAULT 0,
    lease_until   timestamptz,
    not_before    timestamptz,
    error_class   text,
    error_message text
);
CREATE INDEX lookups_open ON pgsync_itsm.lookups (connection_id, id) WHERE state IN ('pending', 'sent');
CREATE INDEX lookups_run ON pgsync_itsm.lookups (run_id);

CREATE UNLOGGED TABLE pgsync_itsm.lookup_rows (
    run_id         bigint NOT NULL,
    kind           text NOT NULL,
    target         text NOT NULL,
    key            text NOT NULL,
    external_id    text,
    external_table text,
    label          text,
    attrs          json
);
CREATE INDEX lookup_rows_key ON pgsync_itsm.lookup_rows (run_id, kind, target, key);

-- The statistics of these tables are those of the last plan that was large.  A statement whose plan is kept is one about
-- few rows; plans in full plan their statements for themselves.
ALTER TABLE pgsync_itsm.run_keys ALTER COLUMN run_id SET (n_distinct = -0.001);
ALTER TABLE pgsync_itsm.plan_records ALTER COLUMN run_id SET (n_distinct = -0.001);
ALTER TABLE pgsync_itsm.plan_links ALTER COLUMN run_id SET (n_distinct = -0.001);
ALTER TABLE pgsync_itsm.lookups ALTER COLUMN run_id SET (n_distinct = -0.001);
ALTER TABLE pgsync_itsm.lookup_rows ALTER COLUMN run_id SET (n_distinct = -0.001);
-- Rows of one kind are alike: a small sample says as much, and it is taken in the middle of a plan.
ALTER TABLE @extschema@.integration_run_items ALTER COLUMN run_id SET STATISTICS 30, ALTER COLUMN ord SET STATISTICS 30,
    ALTER COLUMN entity_type SET STATISTICS 30, ALTER COLUMN entity_id SET STATISTICS 30, ALTER COLUMN action SET STATISTICS 30,
    ALTER COLUMN state SET STATISTICS 30, ALTER COLUMN in_doubt SET STATISTICS 30;
ALTER TABLE pgsync_itsm.plan_records ALTER COLUMN run_id SET STATISTICS 20, ALTER COLUMN entity_type SET STATISTICS 20,
    ALTER COLUMN entity_id SET STATISTICS 20, ALTER COLUMN class SET STATISTICS 20, ALTER COLUMN verdict SET STATISTICS 20,
    ALTER COLUMN external_id SET STATISTICS 20;
ALTER TABLE pgsync_itsm.plan_links ALTER COLUMN run_id SET STATISTICS 20, ALTER COLUMN entity_type SET STATISTICS 20,
    ALTER COLUMN entity_id SET STATISTICS 20, ALTER COLUMN parent_type SET STATISTICS 20, ALTER COLUMN parent_id SET STATISTICS 20,
    ALTER COLUMN child_type SET STATISTICS 20, ALTER COLUMN child_id SET STATISTICS 20, ALTER COLUMN rel_type SET STATISTICS 20,
    ALTER COLUMN verdict SET STATISTICS 20;
