-- What of the sample portfolio is published, and as what. Run after
-- itsm_attach_getinsync(), which adds the column.
--
--   psql -d DB [-v schema=NAME] -f sample_scope.sql
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT current_setting('search_path') AS saved_search_path \gset
SET search_path = :"schema";

BEGIN;

-- All of both tenants, the cost bundle included: it must not leave all the same.
-- Only what the next statements name is left out.
UPDATE deployment_profiles
   SET sn_sync_scope = 'application_service'
 WHERE id::text LIKE 'dddddddd-000_-%' AND dp_type <> 'infrastructure';

-- Application E-mail as a whole, the sandboxes, one of the environments.
UPDATE deployment_profiles
   SET sn_sync_scope = 'none'
 WHERE id IN ('dddddddd-0001-4000-8000-000000002601', 'dddddddd-0001-4000-8000-000000002602',
              'dddddddd-0001-4000-8000-000000001801', 'dddddddd-0001-4000-8000-000000003102',
              'dddddddd-0001-4000-8000-000000003110');

UPDATE deployment_profiles
   SET sn_sync_scope = 'technical_service'
 WHERE id IN ('dddddddd-0001-4000-8000-000000009001', 'dddddddd-0001-4000-8000-000000009002');

UPDATE deployment_profiles
   SET sn_sync_scope = 'technical_service_offering'
 WHERE id = 'dddddddd-0001-4000-8000-000000009003';

COMMIT;

SELECT set_config('search_path', :'saved_search_path', false) AS saved_search_path \gset
