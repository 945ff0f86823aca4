-- Which addresses may be contacted: the rules live in C, where every request is checked again.

CREATE FUNCTION pgsync_itsm.check_url(url text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_url';
COMMENT ON FUNCTION pgsync_itsm.check_url(text) IS
'NULL if the address may be contacted, else why not and which setting would change that';
