-- The sidecar: a database of its own with the extension and the same tables, empty.  Attaches them and subscribes to
-- what publisher.sql publishes.
--
--   psql -d SIDECAR -v "publisher=host=db.example.com dbname=app user=itsm_sidecar" [-v schema=public]
--        [-v status_role=itsm_status -v status_password=...] -f subscriber.sql
--
-- The tables: pg_dump --schema-only of the application's schema, loaded here first.  The password of the publisher's
-- role belongs into the file that passfile= names in the connection string, or into ~/.pgpass of the server's user.
-- status_role: a role that status.sql logs in as to read how it goes.  Run as superuser, not in a transaction.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif

SELECT NOT EXISTS (SELECT FROM :"schema".applications) AS is_empty \gset
\if :is_empty
\else
DO $$ BEGIN RAISE EXCEPTION 'this database holds applications: it is no empty sidecar'; END $$;
\endif

-- Replication does not check them; a TRUNCATE would fail on those of tables that are not published.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname)
  FROM pg_constraint AS c WHERE c.contype = 'f' AND c.connamespace = to_regnamespace(quote_ident(:'schema')) AND c.conparentid = 0 \gexec

CREATE EXTENSION IF NOT EXISTS pgsync_itsm;

-- Triggers before rows: they fire for what is copied and for what is applied, too.
SELECT itsm_attach_getinsync(:'schema');

\if :{?status_role}
CREATE ROLE :"status_role" LOGIN BYPASSRLS PASSWORD :'status_password';
GRANT SELECT ON integration_connections, integration_runs, integration_status, integration_sync_log, integration_sync_log_recent,
    integration_sync_map TO :"status_role";
\endif

CREATE SUBSCRIPTION pgsync_itsm CONNECTION :'publisher' PUBLICATION pgsync_itsm;
