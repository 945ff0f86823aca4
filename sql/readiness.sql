-- Crawl readiness of the sample portfolio: in itself, before and after a plan, and on a platform that is told here.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_readiness;
CREATE DATABASE regress_itsm_readiness TEMPLATE template0;
\c regress_itsm_readiness
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set namespace '''11111111-1111-4111-8111-111111111111'''
SELECT itsm_readiness(:namespace);
\set ECHO none
\i :abs_srcdir/test/getinsync/schema.sql
\i :abs_srcdir/test/getinsync/sample.sql
SELECT itsm_attach_getinsync() AS attached \gset
\i :abs_srcdir/test/getinsync/sample_scope.sql
\set ON_ERROR_STOP off
\set ECHO all

SELECT section, "check", scope, passed, failed, percent, left(records::text, 60) FROM itsm_readiness(:namespace);
