# The library loads, and where it is not loaded, SQL says so.

use strict;
use warnings;
use PgsyncItsm;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster(databases => 'postgres');

ok(poll_query($node, 'postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm launcher'"),
	'one launcher');
is($node->safe_psql('postgres', "SHOW pgsync_itsm.databases"), 'postgres', 'setting is known');

my ($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION pgsync_itsm');
is($status, 0, 'CREATE EXTENSION') or diag($err);
ok(wait_for_worker($node, 'postgres'), 'CREATE EXTENSION starts the worker');
is($node->safe_psql('postgres', 'SELECT count(*) FROM integration_connections'), 0, 'tables are there');

($status, $out, $err) = $node->psql('postgres', 'DROP EXTENSION pgsync_itsm', timeout => 10);
is($status, 0, 'DROP EXTENSION with a worker at work') or diag($err);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgsync_itsm'"),
	0, 'nothing is left');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname ~ '^(integration|itsm)_'"),
	0, 'no relation is left');

($status, $out, $err) = $node->psql('postgres', 'CREATE SCHEMA itsm; CREATE EXTENSION pgsync_itsm SCHEMA itsm');
is($status, 0, 'CREATE EXTENSION in a schema of its own') or diag($err);
is($node->safe_psql('postgres', 'SELECT count(*) FROM itsm.integration_runs'), 0, 'its tables are in that schema');
($status, $out, $err) = $node->psql('postgres',
	'DROP EXTENSION pgsync_itsm; CREATE SCHEMA IF NOT EXISTS pgsync_itsm; CREATE EXTENSION pgsync_itsm SCHEMA pgsync_itsm');
isnt($status, 0, 'not in the schema of its internals');
like($err, qr/cannot be created in the schema pgsync_itsm/, 'and says why');
$node->safe_psql('postgres', 'DROP SCHEMA pgsync_itsm');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|terminated by signal/, 'nothing crashed');
$node->stop;

# Without the library in shared_preload_libraries.
my $bare = new_cluster(name => 'bare', preload => 0);
($status, $out, $err) = $bare->psql('postgres', 'CREATE EXTENSION pgsync_itsm');
is($status, 0, 'CREATE EXTENSION without the library preloaded') or diag($err);
like($err, qr/shared_preload_libraries/, 'says what is missing');
is($bare->safe_psql('postgres', 'SELECT count(*) FROM integration_connections'), 0, 'SQL works');
is($bare->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm%'"),
	0, 'no process');
$bare->safe_psql('postgres', 'DROP EXTENSION pgsync_itsm');
$bare->stop;

done_testing();
