-- Which addresses may be contacted.  Nothing is contacted here.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pgsync_itsm CASCADE;
CREATE EXTENSION pgsync_itsm;
CREATE TABLE urls (id integer GENERATED ALWAYS AS IDENTITY, url text);
INSERT INTO urls (url) VALUES
    ('https://acme.service-now.com'),
    ('https://ACME.Service-Now.com.'),
    ('https://acme.service-now.com:8443/api/now?a=b'),
    ('https://tenant.haloitsm.com'),
    ('https://service-now.com'),
    ('https://evilservice-now.com'),
    ('https://acme.service-now.com.evil.example'),
    ('https://evil.example/.service-now.com'),
    ('https://evil.example?.service-now.com'),
    ('https://acme.service-now.com@evil.example'),
    ('https://user:password@acme.service-now.com'),
    ('https://@acme.service-now.com'),
    ('https://acme.service-now.com\@evil.example'),
    ('https://acme.service-now.com#fragment'),
    ('https://evil.example%2f.service-now.com'),
    ('https://a b.service-now.com'),
    (E'https://acme.service-now.com\nx'),
    ('https://äcme.service-now.com'),
    ('http://acme.service-now.com'),
    ('http://127.0.0.1:8080'),
    ('https://127.0.0.1'),
    ('https://2130706433'),
    ('https://[::1]:8443'),
    ('ftp://acme.service-now.com'),
    ('file:///etc/passwd'),
    ('acme.service-now.com'),
    ('https://'),
    ('');
SELECT url, pgsync_itsm.check_url(url) AS "why not" FROM urls ORDER BY id;

-- other hosts, and plain http to some
ALTER SYSTEM SET pgsync_itsm.allowed_hosts = 'itsm.example.com,one.example.com:8443,*.service-now.com';
ALTER SYSTEM SET pgsync_itsm.allow_insecure_hosts = '127.0.0.1:8080, sim.example.com, [::1]';
SELECT pg_reload_conf(), pg_sleep(1) IS NOT NULL AS waited;
\c -
SELECT url, pgsync_itsm.check_url(url) AS "why not"
  FROM unnest(ARRAY['https://itsm.example.com', 'https://ITSM.example.com:444', 'https://one.example.com',
                    'https://one.example.com:8443', 'https://tenant.haloitsm.com', 'http://itsm.example.com',
                    'http://127.0.0.1:8080/x', 'https://127.0.0.1:8080', 'http://127.0.0.1:8081', 'http://127.0.0.1',
                    'http://sim.example.com:1', 'https://sim.example.com', 'http://x.sim.example.com',
                    'http://[::1]:99', 'http://localhost']) AS url;
ALTER SYSTEM RESET pgsync_itsm.allowed_hosts;
ALTER SYSTEM RESET pgsync_itsm.allow_insecure_hosts;
SELECT pg_reload_conf(), pg_sleep(1) IS NOT NULL AS waited;
DROP TABLE urls;
DROP EXTENSION pgsync_itsm;
